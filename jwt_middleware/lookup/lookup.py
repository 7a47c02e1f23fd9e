"""Looks up one key at a time and fetches many at once, with a cache, load shedding and a circuit breaker.

Self-clocked, in each event loop: the first key waits ``TURNS`` turns of the loop for others, then its query is sent.
Further keys wait until a query ends, and leave together. A second query is sent meanwhile only if many keys wait, or
the first query is slow. So batches grow with the load, and a lone key hardly waits.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Collection, Coroutine, Hashable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final, Generic, Literal, TypeVar, cast
from weakref import WeakKeyDictionary

from .. import names
from ..counters import Runtime
from ..errors import ConfigError, class_of, refuse_numbers
from ..types import FillOutcome, LookupFacts
from .batch import Batch, Batcher, Found, LookupFailed, Slot, living
from .breaker import Breaker
from .cache import Cache
from .lanes import Lanes

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Ending = Literal["ok", "error", "timeout"]
TURNS: Final = 3
"""Turns of the event loop from a first key to its query: others can join meanwhile."""
SLOW: Final = 0.025
"""Seconds after which a query is slow: what waits behind it may request the second slot."""
PATIENCE: Final = 2.0
"""Time-outs that keys wait for a slot: a query that was given up, but does not end, keeps its slot."""
MAX_LINKS: Final = 32
"""Waiting requests that a query is linked to, for observers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupLimits:
    """Limits of the queries for claims and sessions; the two ``ttl`` are for claims only.

    Raises:
        ConfigError: A limit that cannot be kept; the message explains how to fix it.
    """

    timeout: timedelta = timedelta(milliseconds=250)
    """The longest that requests wait for a query, whether it ends then or not."""
    ttl: timedelta = timedelta(seconds=60)
    """How long a row is served from the cache."""
    negative_ttl: timedelta = timedelta(seconds=5)
    """How long the absence of a row is served from the cache."""
    max_waiting: int = 10_000
    """Requests that may wait at once; further ones are shed."""

    def __post_init__(self) -> None:
        refuse_numbers(timeout=self.timeout, ttl=self.ttl, negative_ttl=self.negative_ttl)
        if self.timeout <= timedelta(0):
            raise ConfigError(f"LookupLimits: timeout must be positive, got {self.timeout}")
        for name, ttl in (("ttl", self.ttl), ("negative_ttl", self.negative_ttl)):
            if ttl < timedelta(0):
                raise ConfigError(f"LookupLimits: {name} must not be negative, got {ttl}; zero disables the cache")
        if self.max_waiting < 1:
            raise ConfigError(f"LookupLimits: max_waiting must be at least 1, got {self.max_waiting}")


class Lookup(Generic[K, V]):
    """Batches, shares, caches and limits the queries of one kind.

    Args:
        fetch: Returns a row for each key that has one.
        name: The name in signals.
        resource: What the queries to one database share.
        lanes: The lanes of all lookups of the authority.
        cached: Keep results for the ``ttl`` of the limits.
        cache_entries: Results to keep at most.
    """

    def __init__(
        self,
        fetch: Callable[[Collection[K]], Coroutine[Any, Any, Mapping[K, V]]],
        *,
        name: Literal["claims", "sessions"],
        resource: object,
        limits: LookupLimits,
        lanes: Lanes,
        runtime: Runtime,
        cached: bool,
        cache_entries: int = 100_000,
    ) -> None:
        self._fetch: Final = fetch
        self._name: Final = name
        self._resource: Final = resource
        self._lanes: Final = lanes
        self._timeout: Final = limits.timeout.total_seconds()
        self._max_waiting: Final = limits.max_waiting
        self._ttl: Final = limits.ttl.total_seconds() if cached else 0.0
        self._negative_ttl: Final = limits.negative_ttl.total_seconds() if cached else 0.0
        self._monotonic: Final = runtime.clock.monotonic
        self._observer: Final = runtime.observer
        self._counts: Final = runtime.counters.counts
        counter = runtime.counters.counter
        self._keys_at: Final = counter(names.LOOKUP_KEYS, {names.LOOKUP: name})
        self._endings_at: Final[dict[Ending, int]] = {
            ending: counter(names.LOOKUPS, {names.LOOKUP: name, names.OUTCOME: ending})
            for ending in ("ok", "error", "timeout")
        }
        self.breaker: Final = Breaker()
        self.cache: Final[Cache[K, Found[V]]] = Cache(cache_entries)
        self._batchers: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Batcher[K, V]]] = WeakKeyDictionary()
        self.waiting = 0
        """Requests that wait now."""

    async def get(self, key: K, *, fresh: bool = False) -> Found[V]:
        """Look one key up; suspends only if it is not cached.

        Args:
            key: What to fetch.
            fresh: Use neither the cache, nor a query that was sent before this call.

        Raises:
            LookupFailed: There is no result.
            ConfigError: The query found a mistake of configuration.
        """
        now = self._monotonic()
        cached = None if fresh else self.cache.get(key, now)
        if cached is not None:
            return cached
        if self.waiting >= self._max_waiting:
            raise LookupFailed(FillOutcome.SHED)
        if not self.breaker.admits(now):
            raise LookupFailed(FillOutcome.BREAKER_OPEN)
        batcher = self._batcher()
        future = batcher.join(key, self._observer.waiting(), fresh=fresh)
        if batcher.needs_slot:
            self._request_slot(batcher, turns=TURNS)
        self.waiting += 1
        try:
            return await future
        finally:
            self.waiting -= 1

    def _batcher(self) -> Batcher[K, V]:
        loop = asyncio.get_running_loop()
        batcher = self._batchers.get(loop)
        if batcher is None:
            batcher = self._batchers[loop] = Batcher(self._lanes.of(self._resource), PATIENCE * self._timeout)
        return batcher

    def _request_slot(self, batcher: Batcher[K, V], *, turns: int = 0) -> None:
        # in a context of its own: the query belongs to all requests that wait for it, and to no request's trace
        slot = asyncio.get_running_loop().create_task(self._use_slot(batcher, turns), context=contextvars.Context())
        batcher.request_slot(slot)
        slot.add_done_callback(partial(self._release_slot, batcher))

    def _release_slot(self, batcher: Batcher[K, V], slot: Slot) -> None:
        batcher.release_slot(slot)
        if batcher.has_waiters:
            self._request_slot(batcher)

    async def _use_slot(self, batcher: Batcher[K, V], turns: int) -> None:
        for _ in range(turns - 1):  # the start of the task takes a turn too
            await asyncio.sleep(0)
        await batcher.lane.request_slot()
        try:
            batch = batcher.flush(cast("Slot", asyncio.current_task()), self._monotonic())
            if batch is not None:
                await self._send(batcher, batch)
        finally:
            batcher.lane.release_slot()

    async def _send(self, batcher: Batcher[K, V], batch: Batch[K, V]) -> None:
        """Run the query of a batch and settle the batch."""
        batch.is_probe = self.breaker.is_open
        if not self.breaker.try_acquire(batch.sent_at):
            batcher.settle(batch)
            batch.fail(FillOutcome.BREAKER_OPEN)
            return
        loop = asyncio.get_running_loop()
        batch.timer = loop.call_later(min(SLOW, self._timeout), self._pass_slow, batcher, batch)
        try:
            rows = await self._query(batch)
        except asyncio.CancelledError:  # by the time-out, which has settled the batch, or from outside
            self._fail(batcher, batch, "error")
            raise
        except Exception as error:  # whatever the source raises, it could not answer; the text goes nowhere
            self._fail(batcher, batch, "error", error)
        else:
            if batcher.settle(batch):
                batch.resolve(rows)
                self._record(batch, "ok", rows)
        finally:
            batch.timer.cancel()

    async def _query(self, batch: Batch[K, V]) -> Mapping[K, V]:
        handles = [waiter.handle for waiter in living(batch.waiters.values())]
        batch.requests = len(handles)
        batch.handle = self._observer.looking_up(self._name, handles[:MAX_LINKS], len(handles))
        self._counts[self._keys_at] += len(batch.waiters)
        rows = await self._fetch(list(batch.waiters))
        return {key: rows[key] for key in batch.waiters if key in rows}  # nothing that was not requested

    def _pass_slow(self, batcher: Batcher[K, V], batch: Batch[K, V]) -> None:
        # one timer after the other: most queries end before the first
        rest = max(self._timeout - SLOW, 0.0)
        batch.timer = asyncio.get_running_loop().call_later(rest, self._time_out, batcher, batch)
        batcher.mark_slow(batch)
        if batcher.needs_slot:
            self._request_slot(batcher)

    def _time_out(self, batcher: Batcher[K, V], batch: Batch[K, V]) -> None:
        self._fail(batcher, batch, "timeout")
        batch.slot.cancel()

    def _fail(self, batcher: Batcher[K, V], batch: Batch[K, V], ending: Ending, error: Exception | None = None) -> None:
        if batcher.settle(batch):
            batch.fail(FillOutcome(ending), error)
            self._record(batch, ending, error=error)

    def _record(
        self, batch: Batch[K, V], ending: Ending, rows: Mapping[K, V] | None = None, error: Exception | None = None
    ) -> None:
        """Note how a query ended: counter, breaker, cache, observer."""
        now = self._monotonic()
        self._counts[self._endings_at[ending]] += 1
        if rows is None:
            self.breaker.failed(now, probe=batch.is_probe)
        else:
            self.breaker.succeeded()
            for key in batch.waiters:
                row = rows.get(key)
                if ttl := self._negative_ttl if row is None else self._ttl:
                    self.cache.put(key, Found(value=row, origin="cache"), until=now + ttl)
        facts = LookupFacts(
            lookup=self._name,
            outcome=ending,
            keys=len(batch.waiters),
            waiters=batch.requests,
            duration=now - batch.sent_at,
            error_type=None if error is None else class_of(error),
        )
        self._observer.looked_up(batch.handle, facts)
