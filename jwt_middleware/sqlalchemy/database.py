"""What the SQLAlchemy adapters share: one engine in one event loop, and vendor errors that stay behind.

A driver's connections belong to the loop they were opened in; used from a second one they hang or break much later,
so that is refused with a message that says what to do.
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
from .pool_probe import probe_of

T = TypeVar("T")


class Database:
    """An async engine, guarded.

    Raises:
        ConfigError: No async engine.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        if not isinstance(engine, AsyncEngine):
            raise ConfigError("an async engine is needed: create_async_engine('postgresql+asyncpg://…')")
        self.engine: Final = engine
        self.dialect: Final = engine.dialect.name
        self._failures: Final[tuple[type[Exception], ...]] = (
            SQLAlchemyError,
            OSError,
            TimeoutError,
            *_unwrapped(engine),
        )
        self._loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        self._weeder: Final = probe_of(engine)

    @asynccontextmanager
    async def begin(self, within: float | None = None) -> AsyncIterator[AsyncConnection]:
        """A connection in a transaction; back in the pool when the block ends, also when it is cancelled.

        Args:
            within: Seconds after which it is given up. Not on SQLite, whose driver cannot stop a query: what a block
                of it waits for is a lock, and that is limited by the driver.

        Raises:
            Unavailable: The database could not answer; without its text, which may quote what was asked.
        """
        self._stay_in_one_loop()
        limit = None if self.dialect == "sqlite" else within
        try:
            async with self._weeder.watching(), asyncio.timeout(limit), self.engine.begin() as connection:
                yield connection
        except self._failures:
            raise Unavailable("the database could not answer: is it reachable, and do its tables exist?") from None

    async def to_its_end(self, query: Coroutine[Any, Any, T]) -> T:
        """Await a query that may be given up. One of SQLite goes on nevertheless, and this ends when it has ended.

        Its driver cannot stop it; and cancelled, with its event loop ending before it does, it would hang for ever:
        the loop cancels the closing of its connection too, which aiosqlite 0.22 under SQLAlchemy 2.1 does not survive.
        """
        if self.dialect != "sqlite":
            return await query
        task = asyncio.get_running_loop().create_task(query)
        task.add_done_callback(lambda task: task.cancelled() or task.exception())  # may come when nobody asks any more
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            await asyncio.wait([task])
            raise
        return task.result()

    def _stay_in_one_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = weakref.ref(loop)
        elif self._loop() is not loop:
            raise ConfigError(
                "this engine is used from a second event loop, and its connections belong to the first: make one "
                "engine for each loop (after a fork, create it in the child)"
            )


def _unwrapped(engine: AsyncEngine) -> tuple[type[Exception], ...]:
    """What asyncpg raises while connecting ("starting up", "too many clients"); not every SQLAlchemy 2 wraps it."""
    driver = getattr(engine.dialect.dbapi, "asyncpg", None)
    return () if driver is None else (driver.PostgresError, driver.InterfaceError)
