"""The queries of one lookup: keys wait, are flushed into a batch, are in flight, and settle.

:class:`Batcher` owns these states, in one event loop, and makes every move between them. Each waiter has a future of
its own, so that cancelling one does not harm the others; every future resolves.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Collection, Coroutine, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Generic, Literal, TypeVar, cast

from .. import names
from ..counters import Runtime
from ..errors import ConfigError, class_of
from ..types import FillOutcome, LookupFacts, Value
from .breaker import Breaker
from .cache import Cache
from .lanes import WIDTH, Lane

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Slot = asyncio.Task[Any]
"""A slot of the lane: the task that requests it, sends one query and releases it."""
Ending = Literal["ok", "error", "timeout"]
MAX_KEYS: Final = 1_000
"""Keys of one query."""
MANY: Final = 100
"""Waiting keys that need a second slot."""
TURNS: Final = 3
"""Turns of the event loop from a first key to its query: others can join meanwhile."""
SLOW: Final = 0.025
"""Seconds after which a query is slow: what waits behind it may request the second slot."""
PATIENCE: Final = 2.0
"""Time-outs that keys wait for a slot: a query that was given up, but does not end, keeps its slot."""
MAX_LINKS: Final = 32
"""Waiting requests that a query is linked to, for observers."""


class Found(Value, Generic[V], frozen=True, kw_only=True, gc=False):
    """The result for one key."""

    value: V | None
    """None where there is no row."""
    origin: Literal["database", "cache", "coalesced"]
    handle: object = None
    """The observer's handle of the query."""
    sent_at: float = 0.0
    """The monotonic moment at which the query was sent: the value may be as old as that."""


class LookupFailed(Exception):
    """There is no result; ``outcome`` is ``shed``, ``breaker_open``, ``timeout`` or ``error``."""

    def __init__(self, outcome: FillOutcome, handle: object = None) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome
        self.handle = handle


@dataclass(slots=True)
class Waiter(Generic[V]):
    """A request that waits for one key."""

    future: asyncio.Future[Found[V]]
    handle: object
    """The observer's handle of the request."""
    origin: Literal["database", "coalesced"]

    def fail(self, error: Exception) -> None:
        self.future.set_exception(error)
        self.future.exception()  # else asyncio logs it, if the request is cancelled in the same turn of the loop


@dataclass(slots=True, eq=False)
class Batch(Generic[K, V]):
    """The keys of one query, and the waiters of each."""

    waiters: dict[K, list[Waiter[V]]]
    slot: Slot
    sent_at: float
    """The monotonic moment at which the query was sent."""
    requests: int = 0
    """Requests that waited for it at that moment."""
    handle: object = None
    """The observer's handle of the query."""
    is_probe: bool = False
    """An open breaker let the query through."""
    settled: bool = False
    timer: asyncio.TimerHandle = field(init=False)

    def resolve(self, rows: Mapping[K, V]) -> None:
        """Give each waiter the row of its key."""
        for key, waiters in self.waiters.items():
            row = rows.get(key)
            for waiter in living([waiters]):
                found = Found(value=row, origin=waiter.origin, handle=self.handle, sent_at=self.sent_at)
                waiter.future.set_result(found)

    def fail(self, outcome: FillOutcome, error: Exception | None = None) -> None:
        """Raise in each waiter: a mistake of configuration as such, so that it does not look like an outage."""
        for waiter in living(self.waiters.values()):
            mistake = error if isinstance(error, ConfigError) else None
            waiter.fail(mistake or LookupFailed(outcome, self.handle))


class Queries(Generic[K, V]):
    """What every query of one lookup uses, and reports to: counters, breaker, cache and observer.

    Args:
        fetch: Returns a row for each key that has one.
        name: The name in signals.
        timeout: The seconds that requests wait for a query.
        ttl, negative_ttl: The seconds that a row, and its absence, is cached; 0: never.
        cache_entries: The most results to cache.
    """

    def __init__(
        self,
        fetch: Callable[[Collection[K]], Coroutine[Any, Any, Mapping[K, V]]],
        *,
        name: Literal["claims", "sessions"],
        timeout: float,
        ttl: float,
        negative_ttl: float,
        cache_entries: int,
        runtime: Runtime,
    ) -> None:
        self._fetch: Final = fetch
        self._name: Final = name
        self.timeout: Final = timeout
        self._ttl: Final = ttl
        self._negative_ttl: Final = negative_ttl
        self.breaker: Final = Breaker()
        self.cache: Final[Cache[K, Found[V]]] = Cache(cache_entries)
        self.monotonic: Final = runtime.clock.monotonic
        self.observer: Final = runtime.observer
        self._counts: Final = runtime.counters.counts
        counter = runtime.counters.counter
        self._keys_at: Final = counter(names.LOOKUP_KEYS, {names.LOOKUP: name})
        self._endings_at: Final[dict[Ending, int]] = {
            ending: counter(names.LOOKUPS, {names.LOOKUP: name, names.OUTCOME: ending})
            for ending in ("ok", "error", "timeout")
        }

    async def run(self, batch: Batch[K, V]) -> Mapping[K, V]:
        """Fetch the rows of a batch. Raises whatever the source raises."""
        handles = [waiter.handle for waiter in living(batch.waiters.values())]
        batch.requests = len(handles)
        batch.handle = self.observer.looking_up(self._name, handles[:MAX_LINKS], len(handles))
        self._counts[self._keys_at] += len(batch.waiters)
        rows = await self._fetch(list(batch.waiters))
        return {key: rows[key] for key in batch.waiters if key in rows}  # nothing that was not requested

    def record(
        self, batch: Batch[K, V], ending: Ending, rows: Mapping[K, V] | None = None, error: Exception | None = None
    ) -> None:
        """Note how a query ended."""
        now = self.monotonic()
        self._counts[self._endings_at[ending]] += 1
        if rows is None:
            self.breaker.failed(now, probe=batch.is_probe)
        elif self.breaker.failures:  # nearly never
            self.breaker.succeeded()
        for key in () if rows is None else batch.waiters:
            row = None if rows is None else rows.get(key)
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
        self.observer.looked_up(batch.handle, facts)


class Batcher(Generic[K, V]):
    """The keys of one lookup in one event loop, and its slots::

        a key:    join ──▶ waiting ──flush──▶ in flight ──settle──▶ settled
                              └──── no slot within the patience ───────▲

        a slot:   request_slot ──▶ requested ──flush──▶ in use ──release_slot──▶ free

    A query that times out is settled at once; its slot stays in use until the query has really ended.

    Args:
        lane: The slots of the database in this loop, which other lookups share.
        queries: What its queries use.
    """

    def __init__(self, lane: Lane, queries: Queries[K, V]) -> None:
        self._lane: Final = lane
        self._queries: Final = queries
        self._patience: Final = PATIENCE * queries.timeout
        self._waiting: dict[K, list[Waiter[V]]] = {}
        self._patient_until = 0.0
        """Until this moment of the loop's clock, what waits now may wait for a slot."""
        self._patience_runs = False  # and not the timer: it holds the loop, which holds this object weakly
        self._in_flight: Final[dict[K, Batch[K, V]]] = {}
        self._slots: Final[set[Slot]] = set()
        self._slow: Final[set[Slot]] = set()
        """Slots that a slow query uses."""

    def join(self, key: K, handle: object, *, fresh: bool) -> asyncio.Future[Found[V]]:
        """Wait for a key: for the query in flight that has it, else for the next query; ``fresh``: for the next one."""
        future: asyncio.Future[Found[V]] = asyncio.get_running_loop().create_future()
        if not fresh and key in self._in_flight:
            self._in_flight[key].waiters[key].append(Waiter(future, handle, "coalesced"))
        elif key in self._waiting:
            self._waiting[key].append(Waiter(future, handle, "coalesced"))
        else:
            self._waiting[key] = [Waiter(future, handle, "database")]
            if len(self._waiting) == 1:
                self._restart_patience()
            if self._needs_slot():
                self._request_slot(turns=TURNS)
        return future

    def _needs_slot(self) -> bool:
        """Keys wait for a first slot, or for a second one because many wait or the first query is slow."""
        if not self._waiting or len(self._slots) == WIDTH:
            return False
        return not self._slots or bool(self._slow) or (len(self._waiting) >= MANY and bool(self._in_flight))

    def _request_slot(self, *, turns: int = 0) -> None:
        # in a context of its own: the query belongs to all requests that wait for it, and to no request's trace
        slot = asyncio.get_running_loop().create_task(self._use_slot(turns), context=contextvars.Context())
        self._slots.add(slot)
        slot.add_done_callback(self._release_slot)

    def _release_slot(self, slot: Slot) -> None:
        """The task has ended. Keys that joined meanwhile, and still have a waiter, need the slot again."""
        self._slots.discard(slot)
        self._slow.discard(slot)
        if any(living([waiters]) for waiters in self._waiting.values()):
            self._request_slot()

    async def _use_slot(self, turns: int) -> None:
        for _ in range(turns - 1):  # the start of the task takes a turn too
            await asyncio.sleep(0)
        await self._lane.request_slot()
        try:
            batch = self._flush(cast("Slot", asyncio.current_task()))
            if batch is not None:
                await self._send(batch)
        finally:
            self._lane.release_slot()

    def _flush(self, slot: Slot) -> Batch[K, V] | None:
        """Put the oldest keys in flight, without those whose waiters were all cancelled; None if no key is left."""
        now = self._queries.monotonic()
        oldest = {key: self._waiting.pop(key) for key in list(islice(self._waiting, MAX_KEYS))}
        batch = Batch({key: waiters for key, waiters in oldest.items() if living([waiters])}, slot, now)
        self._in_flight.update(dict.fromkeys(batch.waiters, batch))
        if self._waiting:
            self._restart_patience()
        return batch if batch.waiters else None

    async def _send(self, batch: Batch[K, V]) -> None:
        """Run the query of a batch and settle the batch."""
        breaker = self._queries.breaker
        batch.is_probe = breaker.is_open
        if batch.is_probe and not breaker.try_acquire(batch.sent_at):
            self._settle(batch)
            batch.fail(FillOutcome.BREAKER_OPEN)
            return
        loop = asyncio.get_running_loop()
        batch.timer = loop.call_later(min(SLOW, self._queries.timeout), self._pass_slow, batch)
        try:
            rows = await self._queries.run(batch)
        except asyncio.CancelledError:  # by the time-out, which has settled the batch, or from outside
            self._fail(batch, "error")
            raise
        except Exception as error:  # whatever the source raises, it could not answer; the text goes nowhere
            self._fail(batch, "error", error)
        else:
            if self._settle(batch):
                batch.resolve(rows)
                self._queries.record(batch, "ok", rows)
        finally:
            batch.timer.cancel()

    def _pass_slow(self, batch: Batch[K, V]) -> None:
        """The query is slow: keys that wait behind it may have the second slot."""
        # one timer after the other: most queries end before the first
        rest = max(self._queries.timeout - SLOW, 0.0)
        batch.timer = asyncio.get_running_loop().call_later(rest, self._time_out, batch)
        self._slow.add(batch.slot)
        if self._needs_slot():
            self._request_slot()

    def _time_out(self, batch: Batch[K, V]) -> None:
        self._fail(batch, "timeout")
        batch.slot.cancel()

    def _fail(self, batch: Batch[K, V], ending: Ending, error: Exception | None = None) -> None:
        if self._settle(batch):
            batch.fail(FillOutcome(ending), error)
            self._queries.record(batch, ending, error=error)

    def _settle(self, batch: Batch[K, V]) -> bool:
        """Take the keys out of flight, before their waiters get a result; False if the batch was settled before."""
        if batch.settled:
            return False
        batch.settled = True
        for key in batch.waiters:
            if self._in_flight.get(key) is batch:  # else a fresh query for the key is in flight
                del self._in_flight[key]
        return True

    def _restart_patience(self) -> None:
        """One timer restarts itself: to cancel one for each query costs more."""
        loop = asyncio.get_running_loop()
        self._patient_until = loop.time() + self._patience
        if not self._patience_runs:
            self._patience_runs = True
            loop.call_at(self._patient_until, self._lose_patience)

    def _lose_patience(self) -> None:
        loop = asyncio.get_running_loop()
        self._patience_runs = bool(self._waiting) and loop.time() < self._patient_until
        if self._patience_runs:
            loop.call_at(self._patient_until, self._lose_patience)
            return
        waiting, self._waiting = self._waiting, {}
        for waiter in living(waiting.values()):
            waiter.fail(LookupFailed(FillOutcome.TIMEOUT))


def living(waiters: Iterable[list[Waiter[V]]]) -> list[Waiter[V]]:
    """The waiters that were not cancelled."""
    return [waiter for some in waiters for waiter in some if not waiter.future.done()]
