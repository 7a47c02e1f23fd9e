"""Asking for one key at a time what is fetched for many: cache, shedding and breaker around the batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Hashable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Generic, Literal, TypeVar
from weakref import WeakKeyDictionary

from .. import names
from ..counters import Counters
from ..errors import ConfigError, refuse_numbers
from ..protocols import Clock, Observer
from ..types import FillOutcome, LookupFacts
from .batch import Batch, Batcher, Ended, Found, LookupFailed
from .breaker import Breaker
from .cache import Cache
from .lanes import Lanes


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupLimits:
    """Limits of the queries for claims and sessions; the two ``ttl`` are for claims only.

    Raises:
        ConfigError: A limit that nothing could keep.
    """

    timeout: timedelta = timedelta(milliseconds=250)
    """The longest a query may take; who waits for it is told then, whatever the query does."""
    ttl: timedelta = timedelta(seconds=60)
    """How long a row is served from the cache."""
    negative_ttl: timedelta = timedelta(seconds=5)
    """How long "there is no row" is."""
    max_waiting: int = 10_000
    """Requests that may wait at once; the next one is shed."""

    def __post_init__(self) -> None:
        refuse_numbers(timeout=self.timeout, ttl=self.ttl, negative_ttl=self.negative_ttl)
        if self.timeout <= timedelta(0):
            raise ConfigError("LookupLimits(timeout=…) must be positive")
        if self.ttl < timedelta(0) or self.negative_ttl < timedelta(0):
            raise ConfigError("LookupLimits: ttl and negative_ttl must not be negative; zero caches nothing")
        if self.max_waiting < 1:
            raise ConfigError("LookupLimits(max_waiting=…) must be at least 1")


K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Fetch = Callable[[Collection[K]], Coroutine[Any, Any, Mapping[K, V]]]
LINKED: Final = 32
"""Requests that a query is told about."""


class Lookup(Generic[K, V]):
    """Batches, shares, caches and limits one query.

    Args:
        fetch: Returns a row for each key that has one.
        name: In signals.
        resource: What the queries to one database share.
        cached: Keep answers, for the ``ttl`` of the limits.
    """

    def __init__(
        self,
        fetch: Fetch[K, V],
        *,
        name: Literal["claims", "sessions"],
        resource: object,
        limits: LookupLimits,
        lanes: Lanes,
        clock: Clock,
        counters: Counters,
        observer: Observer,
        cached: bool,
        cache_entries: int = 100_000,
    ) -> None:
        self._fetch: Final = fetch
        self._name: Final = name
        self._resource: Final = resource
        self._timeout: Final = limits.timeout.total_seconds()
        self._max_waiting: Final = limits.max_waiting
        self._lanes: Final = lanes
        self._monotonic: Final = clock.monotonic
        self._observer: Final = observer
        self._counts: Final = counters.counts
        self._ended_at: Final[dict[Ended, int]] = {
            ended: counters.counter(names.LOOKUPS, {names.LOOKUP: name, names.OUTCOME: ended})
            for ended in ("ok", "error", "timeout")
        }
        self._keys_at: Final = counters.counter(names.LOOKUP_KEYS, {names.LOOKUP: name})
        self.breaker: Final = Breaker()
        self.cache: Final[Cache[K, V]] = Cache(
            ttl=limits.ttl.total_seconds() if cached else 0.0,
            negative_ttl=limits.negative_ttl.total_seconds() if cached else 0.0,
            limit=cache_entries,
        )
        self._batchers: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Batcher[K, V]]] = WeakKeyDictionary()
        self.waiting = 0
        """Requests that wait now."""

    async def get(self, key: K, *, fresh: bool = False) -> Found[V]:
        """The answer for one key; suspends only where it is not cached.

        Args:
            key: What is asked for.
            fresh: Neither from the cache, nor from a query that left before now.

        Raises:
            LookupFailed: No answer.
        """
        now = self._monotonic()
        known = None if fresh else self.cache.get(key, now)
        if known is not None:
            return Found(value=known[0], origin="cache")
        if self.waiting >= self._max_waiting:
            raise LookupFailed(FillOutcome.SHED)
        if not self.breaker.admits(now):
            raise LookupFailed(FillOutcome.BREAKER_OPEN)
        future = self._batcher().join(key, self._observer.waiting(), fresh=fresh)
        self.waiting += 1
        try:
            return await future
        finally:
            self.waiting -= 1

    def _batcher(self) -> Batcher[K, V]:
        loop = asyncio.get_running_loop()
        batcher = self._batchers.get(loop)
        if batcher is None:
            batcher = self._batchers[loop] = Batcher(
                lane=self._lanes.of(self._resource),
                admit=self._admit,
                query=self._query,
                ended=self._ended,
                monotonic=self._monotonic,
                timeout=self._timeout,
            )
        return batcher

    def _admit(self, batch: Batch[K, V]) -> bool:
        batch.probe = self.breaker.is_open
        return self.breaker.allows(self._monotonic())

    async def _query(self, batch: Batch[K, V]) -> Mapping[K, V]:
        living = batch.living()
        batch.waited = len(living)
        self._counts[self._keys_at] += len(batch.keys)
        batch.handle = self._observer.looking_up(self._name, [waiter.handle for waiter in living[:LINKED]], len(living))
        return await self._fetch(batch.keys)

    def _ended(self, batch: Batch[K, V], ended: Ended, rows: Mapping[K, V]) -> None:
        now = self._monotonic()
        self._counts[self._ended_at[ended]] += 1
        if ended == "ok":
            self.breaker.succeeded()
            for key in batch.keys:
                self.cache.put(key, rows.get(key), now)
        else:
            self.breaker.failed(now, probe=batch.probe)
        self._observer.looked_up(
            batch.handle,
            LookupFacts(
                lookup=self._name,
                outcome=ended,
                keys=len(batch.keys),
                waiters=batch.waited,
                duration=now - batch.sent_at,
                error_type=batch.error_type,
            ),
        )
