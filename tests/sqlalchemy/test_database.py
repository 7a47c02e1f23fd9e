"""One engine in one event loop; a connection always returns to its pool; errors of the driver are not repeated."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from jwt_middleware import ConfigError, Unavailable
from jwt_middleware.sqlalchemy import SQLAlchemySessionStore
from jwt_middleware.sqlalchemy.database import Database
from tests.support.databases import checked_out, engine_on, until
from tests.support.world import Session, authority_of, bearer


async def fails(url: str, **settings: Any) -> None:
    """A query fails as ``Unavailable``, which quotes nothing."""
    async with engine_on(url, **settings) as engine:
        with pytest.raises(Unavailable) as failed:
            async with Database(engine).begin() as connection:
                await connection.execute(sa.text("SELECT secret FROM nowhere"))
    assert str(failed.value) == "the database could not answer: is it reachable, and do its tables exist?"
    assert failed.value.__cause__ is None
    assert failed.value.__suppress_context__


class TestLoops:
    def test_an_engine_that_is_not_asynchronous_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="must be an AsyncEngine, got Engine; use create_async_engine"):
            Database(sa.create_engine("sqlite://"))  # type: ignore[arg-type] # what a user may do

    def test_an_engine_in_a_second_loop_is_a_clear_error(self, database_url: str) -> None:
        engine = create_async_engine(database_url)
        database = Database(engine)

        async def use() -> None:
            async with database.begin() as connection:
                assert (await connection.execute(sa.text("SELECT 1"))).scalar_one() == 1

        async def twice() -> None:
            await use()
            await use()
            await engine.dispose()

        asyncio.run(twice())
        for _ in range(2):  # also when the first loop is gone
            with pytest.raises(ConfigError, match=r"one engine for each loop .after a fork"):
                asyncio.run(use())
            gc.collect()

    def test_a_request_in_a_second_loop_raises_the_mistake_and_is_no_outage(self, sqlite_url: str) -> None:
        engine = create_async_engine(sqlite_url)
        store = SQLAlchemySessionStore(engine)
        authority = authority_of(store=store)

        async def first() -> str:
            await store.create_all()
            token: str = (await authority.issue(Session(user_id="7"))).token
            await engine.dispose()
            return token

        token = asyncio.run(first())
        with pytest.raises(ConfigError, match="second event loop"):
            asyncio.run(authority.authenticate(bearer(token)))


class TestTransactions:
    async def test_a_cancelled_block_returns_its_connection(self, database_url: str) -> None:
        inside = asyncio.Event()

        async def hold(database: Database) -> None:
            async with database.begin() as connection:
                await connection.execute(sa.text("SELECT 1"))
                inside.set()
                await asyncio.sleep(3_600)

        async with engine_on(database_url, poolclass=sa.AsyncAdaptedQueuePool, pool_size=2, max_overflow=0) as engine:
            for _ in range(5):
                inside.clear()
                task = asyncio.create_task(hold(Database(engine)))
                await inside.wait()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                assert task.cancelled()
                assert checked_out(engine) == 0

    @pytest.mark.parametrize(
        ("url", "times", "expected"),
        [
            ("sqlite+aiosqlite://", 1, ["query completed", "caller ended"]),
            ("sqlite+aiosqlite://", 2, ["caller ended", "query completed"]),
            ("postgresql+asyncpg://nowhere/nothing", 1, ["query cancelled", "caller ended"]),
        ],
    )
    async def test_a_query_on_sqlite_completes_although_its_caller_is_cancelled(
        self, url: str, times: int, expected: list[str]
    ) -> None:
        """The driver hangs if a connection that is closing is cancelled again, as the end of an event loop does."""
        begun, go, events = asyncio.Event(), asyncio.Event(), list[str]()

        async def query() -> None:
            begun.set()
            try:
                await go.wait()
                events.append("query completed")
            except asyncio.CancelledError:
                events.append("query cancelled")
                raise

        task = asyncio.create_task(Database(create_async_engine(url)).run_to_completion(query()))
        task.add_done_callback(lambda _: events.append("caller ended"))
        await begun.wait()
        for _ in range(times):
            task.cancel()
            for _ in range(5):
                await asyncio.sleep(0)
        go.set()
        await until(lambda: len(events) == 2)
        assert task.cancelled()
        assert events == expected

    async def test_a_query_that_completes_returns_or_raises(self, sqlite_url: str) -> None:
        database = Database(create_async_engine(sqlite_url))

        async def divide(by: int) -> float:
            return 6 / by

        assert await database.run_to_completion(divide(2)) == 3
        with pytest.raises(ZeroDivisionError):
            await database.run_to_completion(divide(0))

    async def test_a_query_that_fails_is_unavailable(self, database_url: str) -> None:
        await fails(database_url)

    async def test_a_database_that_does_not_exist_is_unavailable(self, postgres_server: str) -> None:
        await fails(postgres_server.replace("postgresql://", "postgresql+asyncpg://").rpartition("/")[0] + "/not_there")
        await fails("postgresql+asyncpg://postgres@127.0.0.1:1/x")

    async def test_an_error_of_the_driver_while_connecting_is_unavailable(self) -> None:
        errors = [
            asyncpg.CannotConnectNowError("starting"),
            asyncpg.InterfaceError("closing"),
            OSError(),
            TimeoutError(),
        ]

        async def connect() -> Any:
            raise errors[-1]

        while errors:
            await fails("postgresql+asyncpg://nowhere/nothing", async_creator=connect)
            errors.pop()

    async def test_an_error_in_the_block_passes_unchanged(self) -> None:
        async with engine_on("sqlite+aiosqlite://") as engine:
            with pytest.raises(ZeroDivisionError):
                async with Database(engine).begin():
                    raise ZeroDivisionError
