"""When a session was last used: noted beside the request, written many at once, at most once a minute a session.

A note is one entry of a dictionary. A timer of the event loop writes what has gathered a minute after the first note;
nothing runs while nothing is noted, and no timer keeps a loop or an authority alive. Plain hits need no note: a
session in use is asked for again, or its token read again, within a minute, and noted then.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import weakref
from collections.abc import Callable
from datetime import datetime
from typing import Final

from .. import names
from ..counters import Counters
from ..protocols import Clock, SessionStore
from ..types import moment

LONGEST: Final = 60.0
"""Seconds an entry holds at most: then the wall clock is read again, whatever happened to it meanwhile."""
EVERY: Final = LONGEST
MOST_ROWS: Final = 1_000
"""Sessions of one write."""
TIMEOUT: Final = 5.0
"""Seconds of one write; a shutdown waits no longer for it."""


class Activity:
    """What waits to be written, of every event loop; a forked child begins with nothing.

    Args:
        store: Told of at most 1,000 sessions at a time; one that fails is asked again with the next timer.
        limit: Sessions that wait at most; of more, the activity of this minute is lost, and counted.
        every: Seconds between two writes of one session.
    """

    def __init__(
        self, store: SessionStore, *, clock: Clock, counters: Counters, limit: int, every: float = EVERY
    ) -> None:
        self._store: Final = store
        self._clock: Final = clock
        self._limit: Final = limit
        self._every: Final = every
        self._counts: Final = counters.counts
        self._failed, self._shed = (
            counters.counter(names.TELEMETRY_DROPPED, {names.EVENT: "activity", names.DROP_REASON: reason})
            for reason in ("failed", "rate_limited")
        )
        self._pending: Final[dict[str, float]] = {}
        self._timers: Final[weakref.WeakSet[asyncio.AbstractEventLoop]] = weakref.WeakSet()
        self._due = clock.monotonic() + every
        """Where several loops have timers, they take turns."""
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._process = os.getpid()

    def __len__(self) -> int:
        return len(self._pending)

    def note(self, session_id: str) -> None:
        """The session is used now. Never waits and never fails."""
        self._begin_anew_after_a_fork()
        if session_id not in self._pending and len(self._pending) >= self._limit:
            self._counts[self._shed] += 1
            return
        self._pending[session_id] = self._clock.now()
        self._set_timer(self._every)

    async def aclose(self) -> None:
        """Write what waits; what cannot be written now is lost, and counted."""
        loop = asyncio.get_running_loop()
        writing = [task for task in self._tasks if task.get_loop() is loop]
        await asyncio.gather(*writing, return_exceptions=True)
        await self._write()
        self._counts[self._failed] += len(self._pending)
        self._pending.clear()

    def _begin_anew_after_a_fork(self) -> None:
        """What had gathered is the parent's to write."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self._pending.clear()
            self._timers.clear()

    def _set_timer(self, seconds: float) -> None:
        """One for each loop, in a context of its own: a write belongs to no request's trace."""
        loop = asyncio.get_running_loop()
        if loop not in self._timers:
            self._timers.add(loop)
            rung = weakref.WeakMethod(self._rung)
            loop.call_later(seconds, _call, rung, context=contextvars.Context())

    def _rung(self) -> None:
        loop = asyncio.get_running_loop()
        self._timers.discard(loop)
        wait = self._due - self._clock.monotonic()
        if not self._pending:
            return
        if wait > 0:
            self._set_timer(wait)
            return
        self._due = self._clock.monotonic() + self._every
        task = loop.create_task(self._write())
        self._tasks.add(task)
        task.add_done_callback(self._written)

    def _written(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._pending and not task.cancelled():
            self._set_timer(self._every)

    async def _write(self) -> None:
        """Batch by batch; a failure ends it, and what has not been tried waits for the next time."""
        self._begin_anew_after_a_fork()
        while batch := self._take():
            lost = len(batch)
            try:
                async with asyncio.timeout(TIMEOUT):
                    await self._store.touch(batch)
                lost = 0
            except Exception:  # whatever it is: no request waits for it, and the count says it
                return
            finally:
                self._counts[self._failed] += lost

    def _take(self) -> dict[str, datetime]:
        """Some of what waits; one step of the interpreter for each, so that other threads may go on noting."""
        batch: dict[str, datetime] = {}
        while self._pending and len(batch) < MOST_ROWS:
            session_id, at = self._pending.popitem()
            batch[session_id] = moment(at)
        return batch


def _call(weak: Callable[[], Callable[[], None] | None]) -> None:
    """What a timer does that keeps nobody alive."""
    if (method := weak()) is not None:
        method()
