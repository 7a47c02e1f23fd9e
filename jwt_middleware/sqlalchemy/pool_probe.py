"""Idle connections that died without a word are found by asking them, all at once, and closed.

One that was reset says so, and SQLAlchemy then replaces those of its whole pool. One whose packets are lost (half-open)
says nothing: of twenty, each would cost some lookup its time-out, and two seconds of polite closing on top.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
from collections.abc import AsyncIterator
from typing import Any, Final
from weakref import WeakValueDictionary

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

SUSPICIOUS: Final = 0.5
"""Seconds of a query, its giving up included: given up after less, it has ended by then where its connection lives."""
PATIENCE: Final = 1.0
"""Seconds that an idle connection may take to answer."""
EVERY: Final = 5.0
"""Seconds from one weeding to the next at the earliest."""
_weeding: Final = contextvars.ContextVar("jwt_middleware_weeding", default=False)


class PoolProbe:
    """Weeds the pool of one engine; of asyncpg only, whose connections can be ended without waiting for anybody.

    No connection is opened for it, but where the engine has an ``async_creator``: SQLAlchemy asks nobody before that.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine: Final = engine
        self._weeds: Final = hasattr(engine.dialect.dbapi, "asyncpg")
        self._not_before = -math.inf
        self._task: asyncio.Task[None] | None = None
        if self._weeds:
            sa.event.listen(engine.sync_engine, "do_connect", _open_nothing)

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """While a query runs: weed if it takes long. What it began has ended when it ends, and so nothing is left."""
        begun: list[asyncio.Task[None]] = []
        timer = asyncio.get_running_loop().call_later(SUSPICIOUS, lambda: begun.extend(self._begin()))
        try:
            yield
        finally:
            timer.cancel()
            if begun:
                await asyncio.wait(begun)

    def _begin(self) -> list[asyncio.Task[None]]:
        """One at a time, not too often, and only where there is something to ask."""
        loop, idle = asyncio.get_running_loop(), self._idle()
        if not idle or loop.time() < self._not_before or (self._task is not None and not self._task.done()):
            return []
        self._not_before = loop.time() + EVERY
        context = contextvars.Context()  # of its own: it belongs to no one's trace
        context.run(_weeding.set, True)
        self._task = loop.create_task(self._weed(idle), context=context)
        return [self._task]

    def _idle(self) -> int:
        pool = self._engine.pool
        return pool.checkedin() if self._weeds and isinstance(pool, sa.QueuePool) else 0

    async def _weed(self, idle: int) -> None:
        async with asyncio.TaskGroup() as asking:
            for _ in range(idle):
                asking.create_task(self._ask())

    async def _ask(self) -> None:
        """The next idle connection answers and goes back, or is closed."""
        if not self._idle():
            return  # somebody has taken it
        with contextlib.suppress(Exception):
            async with asyncio.timeout(PATIENCE), self._engine.connect() as connection:
                driver: Any = (await connection.get_raw_connection()).driver_connection
                try:
                    await driver.execute("SELECT 1")
                except BaseException:
                    driver.terminate()  # before it is closed politely, which takes two seconds
                    await connection.invalidate()
                    raise


_weeders: Final[WeakValueDictionary[AsyncEngine, PoolProbe]] = WeakValueDictionary()


def probe_of(engine: AsyncEngine) -> PoolProbe:
    """One for each engine, whatever sources and stores share it."""
    return _weeders.get(engine) or _weeders.setdefault(engine, PoolProbe(engine))


class _NotIdle(Exception):
    """A place of the pool that has no connection: it was closed before, and opens when somebody needs it."""


def _open_nothing(*_: object) -> None:
    if _weeding.get():
        raise _NotIdle
