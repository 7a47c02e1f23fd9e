"""Probe idle connections in parallel and close the dead ones; graceful close takes two seconds.

A connection that was reset fails at once, and SQLAlchemy then replaces the whole pool. A half-open connection, whose
packets are lost, gives no sign. Without the probe each of twenty would cost one lookup its timeout and the two seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
from collections.abc import AsyncIterator
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

SLOW: Final = 0.5
"""Seconds after which a query starts the probe: one that was cancelled earlier has ended if its connection lives."""
REPLY_TIMEOUT: Final = 1.0
"""Seconds in which an idle connection must reply."""
INTERVAL: Final = 5.0
"""Seconds from the start of one probe to the next, at least."""
_OPTION: Final = "jwt_middleware_pool_probe"
_probing: Final = contextvars.ContextVar("jwt_middleware_probing", default=False)


class PoolProbe:
    """Probes the pool of one engine; only asyncpg's, whose connections can be closed without waiting for the server.

    The probe opens no connection, unless the engine has an ``async_creator``: SQLAlchemy sends no event before that.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine: Final = engine
        self._supported: Final = hasattr(engine.dialect.dbapi, "asyncpg")
        self._not_before = -math.inf
        self._task: asyncio.Task[None] | None = None
        if self._supported:
            sa.event.listen(engine.sync_engine, "do_connect", _refuse_to_open)

    @classmethod
    def of(cls, engine: AsyncEngine) -> PoolProbe:
        """The one probe of an engine, which all its sources and stores share.

        It is kept in the engine's execution options, where SQLAlchemy lets other packages keep values of their own.
        """
        probe: PoolProbe | None = engine.get_execution_options().get(_OPTION)
        if probe is None:
            probe = cls(engine)
            engine.update_execution_options(**{_OPTION: probe})
        return probe

    @contextlib.asynccontextmanager
    async def watch(self) -> AsyncIterator[None]:
        """Probe while the block runs a slow query. A probe that the block starts ends before the block does."""
        started: list[asyncio.Task[None]] = []
        timer = asyncio.get_running_loop().call_later(SLOW, lambda: started.extend(self._start()))
        try:
            yield
        finally:
            timer.cancel()
            if started:
                await asyncio.wait(started)

    def _start(self) -> list[asyncio.Task[None]]:
        """Start a probe, unless one runs, the last one was too recent, or no connection is idle."""
        loop, idle = asyncio.get_running_loop(), self._idle()
        if not idle or loop.time() < self._not_before or (self._task is not None and not self._task.done()):
            return []
        self._not_before = loop.time() + INTERVAL
        context = contextvars.Context()  # an empty one: the probe belongs to no request's trace
        context.run(_probing.set, True)
        self._task = loop.create_task(self._probe_all(idle), context=context)
        return [self._task]

    def _idle(self) -> int:
        pool = self._engine.pool
        return pool.checkedin() if self._supported and isinstance(pool, sa.QueuePool) else 0

    async def _probe_all(self, idle: int) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(idle):
                tasks.create_task(self._probe_next())

    async def _probe_next(self) -> None:
        """Query the next idle connection; return it to the pool if it replies, else close it."""
        if not self._idle():
            return  # a request has taken it
        with contextlib.suppress(Exception):
            async with asyncio.timeout(REPLY_TIMEOUT), self._engine.connect() as connection:
                driver: Any = (await connection.get_raw_connection()).driver_connection
                try:
                    await driver.execute("SELECT 1")
                except BaseException:
                    driver.terminate()  # first: invalidate() alone closes gracefully, which takes two seconds
                    await connection.invalidate()
                    raise


class _NotIdle(Exception):
    """The pool has no connection in this place: it was closed earlier, and a request will open it when it needs it."""


def _refuse_to_open(*_: object) -> None:
    if _probing.get():
        raise _NotIdle
