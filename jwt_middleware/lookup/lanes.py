"""At most two queries at once for one database, whatever lookups share it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Final
from weakref import WeakKeyDictionary

WIDTH: Final = 2
"""Queries in flight for one resource: the second only when many wait or the first is slow."""
DRAIN: Final = 6.0
"""Seconds: more than SQLite waits for a lock by default, and than a connection of PostgreSQL takes to close."""
Loop = asyncio.AbstractEventLoop


class Lane:
    """The places of one resource in one event loop, handed on in the order of asking."""

    def __init__(self) -> None:
        self.busy = 0
        self._queue: deque[Callable[[], None]] = deque()
        self._idle = asyncio.Event()
        self._idle.set()

    def ask(self, go: Callable[[], None]) -> None:
        """Call ``go`` as soon as a place is free; it must lead to one :meth:`leave`."""
        if self.busy < WIDTH and not self._queue:
            self._enter(go)
        else:
            self._queue.append(go)

    def leave(self) -> None:
        self.busy -= 1
        if self._queue and self.busy < WIDTH:
            self._enter(self._queue.popleft())
        elif not self.busy:
            self._idle.set()

    async def idle(self) -> None:
        """Wait until no place is taken."""
        await self._idle.wait()

    def _enter(self, go: Callable[[], None]) -> None:
        self.busy += 1
        self._idle.clear()
        go()


class Lanes:
    """The lanes of one authority, by resource and by event loop."""

    def __init__(self) -> None:
        self._by_loop: Final[WeakKeyDictionary[Loop, dict[int, tuple[object, Lane]]]] = WeakKeyDictionary()

    def of(self, resource: object) -> Lane:
        """The lane of a resource in the running loop."""
        lanes = self._by_loop.setdefault(asyncio.get_running_loop(), {})
        return lanes.setdefault(id(resource), (resource, Lane()))[1]

    async def drain(self) -> None:
        """Wait, for a while, until the running loop's queries have ended: also those that were given up."""
        lanes = self._by_loop.get(asyncio.get_running_loop(), {})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN):
                for _, lane in list(lanes.values()):
                    await lane.idle()
