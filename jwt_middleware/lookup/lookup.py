"""Looks up one key at a time and fetches many at once, with a cache, load shedding and a circuit breaker.

Self-clocked, in each event loop: the first key waits ``TURNS`` turns of the loop for others, then its query is sent.
Further keys wait until a query ends, and leave together. A second query is sent meanwhile only if many keys wait, or
the first query is slow. So batches grow with the load, and a lone key hardly waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Hashable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Generic, Literal, TypeVar
from weakref import WeakKeyDictionary

from ..counters import Runtime
from ..errors import ConfigError, refuse_numbers
from ..types import FillOutcome
from .batch import Batcher, Found, LookupFailed, Queries
from .lanes import Lanes

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


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
        self._resource: Final = resource
        self._lanes: Final = lanes
        self._max_waiting: Final = limits.max_waiting
        self._cached: Final = cached
        self._queries: Final[Queries[K, V]] = Queries(
            fetch,
            name=name,
            timeout=limits.timeout.total_seconds(),
            ttl=limits.ttl.total_seconds() if cached else 0.0,
            negative_ttl=limits.negative_ttl.total_seconds() if cached else 0.0,
            cache_entries=cache_entries,
            runtime=runtime,
        )
        self._monotonic: Final = runtime.clock.monotonic
        self._observer: Final = runtime.observer
        self.breaker: Final = self._queries.breaker
        self.cache: Final = self._queries.cache
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
        if self._cached and not fresh and (found := self.cache.get(key, now)) is not None:
            return found
        if self.waiting >= self._max_waiting:
            raise LookupFailed(FillOutcome.SHED)
        if self.breaker.is_open and not self.breaker.admits(now):
            raise LookupFailed(FillOutcome.BREAKER_OPEN)
        future = self._batcher().join(key, self._observer.waiting(), fresh=fresh)
        self.waiting += 1
        try:
            return await future
        finally:
            self.waiting -= 1

    def _batcher(self) -> Batcher[K, V]:
        """That of the running loop."""
        loop = asyncio.get_running_loop()
        batcher = self._batchers.get(loop)
        if batcher is None:
            batcher = self._batchers[loop] = Batcher(self._lanes.of(self._resource), self._queries)
        return batcher
