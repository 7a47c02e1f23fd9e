"""A database of the tests' own, which counts and waits, and a lookup over it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from jwt_middleware import LookupFacts, SilentObserver, names
from jwt_middleware.counters import Counters
from jwt_middleware.lookup.lanes import Lanes
from jwt_middleware.lookup.lookup import Lookup, LookupLimits
from jwt_middleware.protocols import Clock, SystemClock


@dataclass
class Database:
    """Answers `row of <key>` for each key but those in `gone`; each query waits for `gate` where there is one."""

    queries: list[list[Any]] = field(default_factory=list)
    gone: set[Any] = field(default_factory=set)
    gate: asyncio.Event | None = None
    error: Exception | None = None
    flying: int = 0
    most_flying: int = 0

    async def fetch(self, keys: Collection[Any]) -> Mapping[Any, Any]:
        self.queries.append(list(keys))
        self.flying += 1
        self.most_flying = max(self.most_flying, self.flying)
        try:
            if self.gate is not None:
                await self.gate.wait()
            if self.error is not None:
                raise self.error
            return {key: f"row of {key}" for key in keys if key not in self.gone} | {"never asked": "x"}
        finally:
            self.flying -= 1


class Watching(SilentObserver):
    """Writes down what observers are told of queries."""

    def __init__(self) -> None:
        self.began: list[tuple[str, int, int]] = []
        self.ended: list[tuple[object, LookupFacts]] = []

    def waiting(self) -> object:
        return "request"

    def looking_up(self, lookup: str, waiters: Any, total: int) -> object:
        self.began.append((lookup, len(waiters), total))
        return f"query {len(self.began)}"

    def looked_up(self, handle: object, facts: LookupFacts) -> None:
        self.ended.append((handle, facts))


def lookup_over(
    fetch: Any,
    *,
    clock: Clock | None = None,
    lanes: Lanes | None = None,
    resource: object = "database",
    counters: Counters | None = None,
    observer: Any = None,
    cached: bool = True,
    cache_entries: int = 100,
    name: Literal["claims", "sessions"] = "claims",
    **limits: Any,
) -> Lookup[Any, Any]:
    return Lookup(
        fetch,
        name=name,
        resource=resource,
        limits=LookupLimits(**{"timeout": timedelta(seconds=30), **limits}),
        lanes=lanes or Lanes(),
        clock=clock or SystemClock(),
        counters=counters or Counters(),
        observer=observer or SilentObserver(),
        cached=cached,
        cache_entries=cache_entries,
    )


async def turns(count: int = 20) -> None:
    """Let the loop turn: everything that can go on without the outside world does."""
    for _ in range(count):
        await asyncio.sleep(0)


def count(counters: Counters, metric: names.Metric) -> dict[str, int]:
    """By outcome where there is one."""
    return {dict(at).get(names.OUTCOME, ""): value for each, at, value in counters.series() if each is metric}
