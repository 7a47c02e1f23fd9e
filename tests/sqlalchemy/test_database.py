"""One engine, one event loop; a connection that always comes back; vendors' words that stay behind."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from jwt_middleware import SQLAlchemySessionStore
from jwt_middleware.errors import ConfigError, Unavailable
from jwt_middleware.sqlalchemy.database import Database
from tests.support.databases import checked_out
from tests.support.world import Session, authority_of


def pool(engine: AsyncEngine) -> Any:
    return engine.pool


def test_an_engine_that_is_not_asynchronous_is_refused() -> None:
    with pytest.raises(ConfigError, match="create_async_engine"):
        Database(sa.create_engine("sqlite://"))  # type: ignore[arg-type] # what a user may do


def test_an_engine_of_a_second_loop_is_a_clear_error(database_url: str) -> None:
    engine = create_async_engine(database_url)
    database = Database(engine)

    async def use(*, dispose: bool = False) -> None:
        try:
            async with database.begin() as connection:
                assert (await connection.execute(sa.text("SELECT 1"))).scalar_one() == 1
        finally:
            if dispose:
                await engine.dispose()

    async def twice() -> None:
        await use()
        await use(dispose=True)

    asyncio.run(twice())
    for _ in range(2):  # also when the first loop is gone
        with pytest.raises(ConfigError, match="one engine for each loop") as mistake:
            asyncio.run(use())
        assert "fork" in str(mistake.value)
        gc.collect()


def test_a_request_in_a_second_loop_is_told_the_mistake_and_not_that_the_database_is_down(sqlite_url: str) -> None:
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
        asyncio.run(authority.authenticate([(b"authorization", b"Bearer " + token.encode())]))


async def test_a_connection_comes_back_when_its_user_is_cancelled(database_url: str) -> None:
    engine = create_async_engine(database_url, poolclass=sa.AsyncAdaptedQueuePool, pool_size=2, max_overflow=0)
    database = Database(engine)
    try:
        inside = asyncio.Event()

        async def hold() -> None:
            async with database.begin() as connection:
                await connection.execute(sa.text("SELECT 1"))
                inside.set()
                await asyncio.sleep(3_600)

        for _ in range(5):
            inside.clear()
            task = asyncio.create_task(hold())
            await inside.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()
            assert checked_out(engine) == 0
    finally:
        await engine.dispose()


async def given_up(database: Database, *, again: bool) -> tuple[bool, str]:
    """Whether it ended before its query, which was cancelled; and how the query ended."""
    begun, go, ended = asyncio.Event(), asyncio.Event(), list[str]()

    async def query() -> None:
        begun.set()
        try:
            await go.wait()
            ended.append("to its end")
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    task = asyncio.create_task(database.to_its_end(query()))
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    if again:
        task.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    early = task.done() and not ended
    go.set()
    await asyncio.gather(task, return_exceptions=True)
    while not ended:
        await asyncio.sleep(0)
    assert task.cancelled()
    return early, ended[0]


async def test_a_query_of_sqlite_that_is_given_up_goes_on_to_its_end(sqlite_url: str) -> None:
    """Its driver hangs where a connection that is being closed is cancelled once more, as at the end of a loop."""

    database = Database(create_async_engine(sqlite_url))
    assert await given_up(database, again=False) == (False, "to its end")
    assert await given_up(database, again=True) == (True, "to its end")


async def test_a_query_of_postgresql_that_is_given_up_is_cancelled() -> None:
    database = Database(create_async_engine("postgresql+asyncpg://nowhere/nothing"))
    assert await given_up(database, again=False) == (False, "cancelled")


async def test_a_query_that_is_not_given_up_says_what_it_found(sqlite_url: str) -> None:
    database = Database(create_async_engine(sqlite_url))

    async def divide(by: int) -> float:
        return 6 / by

    assert await database.to_its_end(divide(2)) == 3
    with pytest.raises(ZeroDivisionError):
        await database.to_its_end(divide(0))


async def fails(engine: AsyncEngine) -> Unavailable:
    try:
        with pytest.raises(Unavailable) as failed:
            async with Database(engine).begin() as connection:
                await connection.execute(sa.text("SELECT secret FROM nowhere"))
        assert failed.value.__cause__ is None
        assert failed.value.__suppress_context__
        return failed.value
    finally:
        await engine.dispose()


def test_whatever_fails_is_unavailable(database_url: str) -> None:
    told = str(asyncio.run(fails(create_async_engine(database_url))))
    assert told == "the database could not answer: is it reachable, and do its tables exist?"


def test_a_database_that_is_not_there_is_unavailable(postgres_server: str) -> None:
    gone = postgres_server.replace("postgresql://", "postgresql+asyncpg://").rpartition("/")[0] + "/not_there"
    asyncio.run(fails(create_async_engine(gone)))
    asyncio.run(fails(create_async_engine("postgresql+asyncpg://postgres@127.0.0.1:1/x")))


@pytest.mark.parametrize(
    "error",
    [asyncpg.CannotConnectNowError("starting up"), asyncpg.InterfaceError("closing"), OSError(), TimeoutError()],
)
def test_what_the_driver_raises_while_connecting_is_unavailable(error: Exception) -> None:
    async def raising() -> Any:
        raise error

    asyncio.run(fails(create_async_engine("postgresql+asyncpg://nobody@nowhere/x", async_creator=raising)))


async def test_a_mistake_in_the_block_is_its_own() -> None:
    engine = create_async_engine("sqlite+aiosqlite://")
    with pytest.raises(ZeroDivisionError):
        async with Database(engine).begin():
            raise ZeroDivisionError
    await engine.dispose()
