"""When a session was last used: noted beside the request, written in batches, at most once a minute for each session.

A note is one entry of a dictionary. A timer of the event loop writes the notes a minute after the first of them;
nothing runs while there is none, and no timer keeps a loop or an authority alive. Cache hits need no note: within a
minute the status of a session in use is rechecked, or its token is read again, and that is noted.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from datetime import datetime
from typing import Final

from .. import names
from ..counters import Runtime
from ..protocols import SessionStore, call_weakly_later
from ..types import moment

LONGEST: Final = 60.0
"""The most seconds that a cached token is valid: then the wall clock is read again, since it may have been set."""
MAX_ROWS: Final = 1_000
"""Sessions of one write."""
TIMEOUT: Final = 5.0
"""Seconds of one write; a shutdown waits no longer for it."""


class Activity:
    """The notes of every event loop; a forked child starts with none.

    Args:
        store: Gets at most 1,000 sessions at a time. After a failure the rest waits for the next timer.
        limit: The most sessions that wait; the activity of others is lost for this minute, and counted.
        every: Seconds between two writes of one session.
    """

    def __init__(self, store: SessionStore, *, runtime: Runtime, limit: int, every: float = LONGEST) -> None:
        self._store: Final = store
        self._now: Final = runtime.clock.now
        self._monotonic: Final = runtime.clock.monotonic
        self._limit: Final = limit
        self._every: Final = every
        self._counts: Final = runtime.counters.counts
        self._failed, self._shed = (
            runtime.counters.counter(names.TELEMETRY_DROPPED, {names.EVENT: "activity", names.DROP_REASON: reason})
            for reason in ("failed", "rate_limited")
        )
        self._pending: Final[dict[str, float]] = {}
        self._timers: Final[weakref.WeakSet[asyncio.AbstractEventLoop]] = weakref.WeakSet()
        """The loops that have a timer."""
        self._write_at = self._monotonic() + every
        """Where several loops have timers, they take turns."""
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._process = os.getpid()

    def __len__(self) -> int:
        return len(self._pending)

    def note(self, session_id: str) -> None:
        """The session is used now. Never waits and never fails."""
        self._reset_after_fork()
        if session_id not in self._pending and len(self._pending) >= self._limit:
            self._counts[self._shed] += 1
            return
        self._pending[session_id] = self._now()
        self._set_timer(self._every)

    async def aclose(self) -> None:
        """Write the notes; what cannot be written now is lost, and counted."""
        loop = asyncio.get_running_loop()
        writing = [task for task in self._tasks if task.get_loop() is loop]
        await asyncio.gather(*writing, return_exceptions=True)
        await self._write()
        self._counts[self._failed] += len(self._pending)
        self._pending.clear()

    def _reset_after_fork(self) -> None:
        """The parent writes the notes from before the fork."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self._pending.clear()
            self._timers.clear()

    def _set_timer(self, seconds: float) -> None:
        """One timer for each loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._timers:
            self._timers.add(loop)
            call_weakly_later(seconds, self._on_timer)

    def _on_timer(self) -> None:
        loop = asyncio.get_running_loop()
        self._timers.discard(loop)
        wait = self._write_at - self._monotonic()
        if not self._pending:
            return
        if wait > 0:
            self._set_timer(wait)
            return
        self._write_at = self._monotonic() + self._every
        task = loop.create_task(self._write())
        self._tasks.add(task)
        task.add_done_callback(self._on_written)

    def _on_written(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._pending and not task.cancelled():
            self._set_timer(self._every)

    async def _write(self) -> None:
        """Write batch by batch. A failure ends it: the batch is lost, and the rest waits for the next timer."""
        self._reset_after_fork()
        while batch := self._take_batch():
            lost = len(batch)
            try:
                async with asyncio.timeout(TIMEOUT):
                    await self._store.touch(batch)
                lost = 0
            except Exception:  # no request waits for it, and the counter shows it
                return
            finally:
                self._counts[self._failed] += lost

    def _take_batch(self) -> dict[str, datetime]:
        """Remove notes one by one, each in one step of the interpreter, so that other threads may go on noting."""
        batch: dict[str, datetime] = {}
        while self._pending and len(batch) < MAX_ROWS:
            session_id, at = self._pending.popitem()
            batch[session_id] = moment(at)
        return batch
