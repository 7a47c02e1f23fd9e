"""Limits the queries in flight for one database, however many lookups share it.

A query that was given up keeps its slot until it has really ended: until then it may hold a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Final
from weakref import WeakKeyDictionary

WIDTH: Final = 2
"""Slots of one resource."""
DRAIN: Final = 6.0
"""Seconds: more than SQLite waits for a lock by default, and than a connection of PostgreSQL takes to close."""
Loop = asyncio.AbstractEventLoop


class Lane:
    """The slots of one resource in one event loop, granted in the order of the requests."""

    def __init__(self) -> None:
        self.busy = 0
        """Slots in use."""
        self._requests: Final[deque[asyncio.Future[None]]] = deque()
        self.idle: Final = asyncio.Event()
        """Set while no slot is in use."""
        self.idle.set()

    async def request_slot(self) -> None:
        """Wait for a slot. Each slot that is granted needs one :meth:`release_slot`."""
        if self.busy < WIDTH:  # then no request waits: a slot that is released goes to the next one directly
            self.busy += 1
            self.idle.clear()
            return
        request = asyncio.get_running_loop().create_future()
        self._requests.append(request)
        try:
            await request
        except asyncio.CancelledError:
            if not request.cancelled():  # granted and cancelled in the same turn of the loop
                self.release_slot()
            raise

    def release_slot(self) -> None:
        """Pass the slot to the oldest request that was not cancelled, or free it."""
        while self._requests:
            request = self._requests.popleft()
            if not request.done():
                request.set_result(None)
                return
        self.busy -= 1
        if not self.busy:
            self.idle.set()


class Lanes:
    """The lanes of one authority, by event loop and by resource."""

    def __init__(self) -> None:
        self._by_loop: Final[WeakKeyDictionary[Loop, dict[int, tuple[object, Lane]]]] = WeakKeyDictionary()

    def of(self, resource: object) -> Lane:
        """The lane of a resource in the running loop."""
        lanes = self._by_loop.setdefault(asyncio.get_running_loop(), {})
        # the resource is kept beside its lane: else another object could get the same id
        return lanes.setdefault(id(resource), (resource, Lane()))[1]

    async def drain(self) -> None:
        """Wait up to ``DRAIN`` seconds until all queries of the running loop have ended, given up or not."""
        lanes = self._by_loop.get(asyncio.get_running_loop(), {})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN):
                for _, lane in list(lanes.values()):
                    await lane.idle.wait()
