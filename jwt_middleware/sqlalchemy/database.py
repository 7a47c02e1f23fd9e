"""An async engine in one event loop; errors of SQLAlchemy and of the driver become ``Unavailable``.

A driver's connections belong to the event loop that opened them. Used from a second loop they hang or break much
later, so :class:`Database` refuses that with a message that says what to do.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ..errors import ConfigError, Unavailable
from .pool_probe import PoolProbe

T = TypeVar("T")


class Database:
    """An async engine, used from one event loop.

    Raises:
        ConfigError: The engine is not an async engine.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        if not isinstance(engine, AsyncEngine):
            raise ConfigError(
                f"engine must be an AsyncEngine, got {type(engine).__name__}; "
                "use create_async_engine('postgresql+asyncpg://…')"
            )
        self.engine: Final = engine
        self.dialect: Final = engine.dialect.name
        driver_errors = _driver_errors(engine)
        self._failures: Final[tuple[type[Exception], ...]] = (SQLAlchemyError, OSError, TimeoutError, *driver_errors)
        self._loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        self._probe: Final = PoolProbe.of(engine)

    @asynccontextmanager
    async def begin(self, within: float | None = None) -> AsyncIterator[AsyncConnection]:
        """A connection in a transaction; it returns to the pool when the block ends, also when it is cancelled.

        Args:
            within: Seconds after which the block is cancelled. Not on SQLite, whose driver cannot stop a query: there
                a block waits only for a lock, and the driver limits that.

        Raises:
            Unavailable: The database failed. The driver's text is dropped, because it may quote values.
        """
        self._require_one_loop()
        limit = None if self.dialect == "sqlite" else within
        try:
            async with self._probe.watch(), asyncio.timeout(limit), self.engine.begin() as connection:
                yield connection
        except self._failures:
            raise Unavailable("the database could not answer: is it reachable, and do its tables exist?") from None

    async def run_to_completion(self, query: Coroutine[Any, Any, T]) -> T:
        """Await a query whose caller may be cancelled. On SQLite the query goes on, and this ends after it.

        SQLite's driver cannot stop a query. If the event loop ends before a cancelled one, the process hangs: the loop
        also cancels the closing of its connection, which aiosqlite 0.22 under SQLAlchemy 2.1 does not survive.
        """
        if self.dialect != "sqlite":
            return await query
        task = asyncio.get_running_loop().create_task(query)
        # reads the exception, or asyncio would log it as never retrieved if the caller is cancelled a second time
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            await asyncio.wait([task])
            raise
        return task.result()

    def _require_one_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = weakref.ref(loop)
        elif self._loop() is not loop:
            raise ConfigError(
                "engine is used from a second event loop, but its connections belong to the first; create one engine "
                "for each loop (after a fork, create it in the child)"
            )


def _driver_errors(engine: AsyncEngine) -> tuple[type[Exception], ...]:
    """What asyncpg raises while connecting ("starting up", "too many clients"); not every SQLAlchemy 2 wraps it."""
    driver = getattr(engine.dialect.dbapi, "asyncpg", None)
    return () if driver is None else (driver.PostgresError, driver.InterfaceError)
