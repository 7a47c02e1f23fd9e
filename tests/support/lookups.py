"""A source that records its queries and can be held, and a lookup over it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from jwt_middleware import SilentObserver
from jwt_middleware.counters import Counters, Runtime
from jwt_middleware.lookup.batch import LookupFailed
from jwt_middleware.lookup.lanes import Lanes
from jwt_middleware.lookup.lookup import Lookup, LookupLimits
from jwt_middleware.protocols import SystemClock


def opened() -> asyncio.Event:
    """A gate that holds no query."""
    gate = asyncio.Event()
    gate.set()
    return gate


@dataclass
class Database:
    """Has a row for each key but those in ``gone``; each query waits until its ``gate`` is set."""

    queries: list[list[Any]] = field(default_factory=list)
    gone: set[Any] = field(default_factory=set)
    gate: asyncio.Event = field(default_factory=opened)
    error: Exception | None = None
    stubborn: bool = False
    """Queries do not end when they are cancelled."""
    in_flight: int = 0
    most_in_flight: int = 0

    async def fetch(self, keys: Collection[Any]) -> Mapping[Any, Any]:
        self.queries.append(list(keys))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        gate = self.gate
        try:
            while not gate.is_set():
                try:
                    await gate.wait()
                except asyncio.CancelledError:
                    if not self.stubborn:
                        raise
            if self.error is not None:
                raise self.error
            return {key: f"row of {key}" for key in keys if key not in self.gone} | {"not requested": "x"}
        finally:
            self.in_flight -= 1

    @property
    def sizes(self) -> list[int]:
        """The keys of each query, counted."""
        return [len(keys) for keys in self.queries]


def runtime(**parts: Any) -> Runtime:
    """A runtime of real clocks and silent observers, but for the given parts."""
    return Runtime(**{"clock": SystemClock(), "counters": Counters(), "observer": SilentObserver(), **parts})


def lookup_over(database: Any, *, lanes: Lanes | None = None, parts: Any = None, **settings: Any) -> Lookup[Any, Any]:
    """A lookup over a :class:`Database`, or over any fetch; ``parts`` are those of :func:`runtime`."""
    limits = {name: settings.pop(name) for name in ("timeout", "max_waiting") if name in settings}
    defaults = {"name": "claims", "resource": "database", "cached": True, "cache_entries": 100}
    return Lookup(
        getattr(database, "fetch", database),
        limits=LookupLimits(**{"timeout": timedelta(seconds=30), **limits}),
        lanes=lanes or Lanes(),
        runtime=runtime(**(parts or {})),
        **{**defaults, **settings},
    )


async def outcome_of(lookup: Lookup[Any, Any], key: Any = "a", **how: Any) -> str:
    """The origin of a result, or the outcome of a failure."""
    try:
        return (await lookup.get(key, **how)).origin
    except LookupFailed as failed:
        return failed.outcome.value


async def turns(count: int = 20) -> None:
    """Let the loop turn: what needs nothing from outside goes on."""
    for _ in range(count):
        await asyncio.sleep(0)


async def started(*gets: Any, turn: int = 20) -> list[asyncio.Task[Any]]:
    """A task for each coroutine, and as many turns of the loop."""
    tasks = [asyncio.create_task(get) for get in gets]
    await turns(turn)
    return tasks
