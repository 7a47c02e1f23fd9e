"""The store in a database: plain SQL beside it, transactions that meet, what a stolen dump holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from jwt_middleware.errors import ConfigError, Unavailable
from jwt_middleware.sqlalchemy.sessions import SQLAlchemySessionStore
from jwt_middleware.sqlalchemy.tables import metadata, session_marks, user_sessions
from jwt_middleware.types import SessionStatus
from tests.support.stores import log_in, record, stands, status_of
from tests.support.world import Session, authority_of


@asynccontextmanager
async def created(url: str) -> AsyncIterator[tuple[SQLAlchemySessionStore, AsyncEngine]]:
    engine = create_async_engine(url)
    store = SQLAlchemySessionStore(engine)
    try:
        await store.create_all()
        yield store, engine
    finally:
        await engine.dispose()


@pytest.mark.parametrize(
    ("statement", "known"),
    [
        ("UPDATE user_sessions SET is_active = false WHERE user_id = '7'", True),
        ("DELETE FROM user_sessions WHERE user_id = '7'", False),
    ],
)
async def test_plain_sql_revokes(database_url: str, statement: str, known: bool) -> None:
    async with created(database_url) as (store, engine):
        session, other = await log_in(store, "7"), await log_in(store, "8")
        async with engine.begin() as connection:
            await connection.execute(sa.text(statement))
        assert await status_of(store, session[0]) == SessionStatus(known=known, active=False)
        assert await stands(store, other, "8")


async def test_creating_what_exists_changes_nothing(database_url: str) -> None:
    async with created(database_url) as (store, _):
        session = await log_in(store)
        await store.create_all()
        assert await stands(store, session)


def test_the_tables_are_there_for_alembic() -> None:
    theirs = sa.MetaData()
    user_sessions.to_metadata(theirs)
    session_marks.to_metadata(theirs)
    assert set(theirs.tables) == set(metadata.tables) == {"user_sessions", "session_marks"}
    assert [column.name for column in user_sessions.c][:6] == [
        "id",
        "user_id",
        "session_token",
        "expires_at",
        "last_activity_at",
        "is_active",
    ]


async def test_everywhere_and_all_but_this_one_at_the_same_time_leave_nothing(database_url: str) -> None:
    """In either order: the one that was to be kept began before "everywhere", or was over when it was to be kept."""

    async with created(database_url) as (store, _):
        for _ in range(25):
            mine = await log_in(store)
            await asyncio.gather(store.revoke_user("7", keep=mine[0]), store.revoke_user("7"))
            assert not await stands(store, mine)


async def test_of_two_that_keep_each_themselves_the_second_is_over_already(database_url: str) -> None:
    async with created(database_url) as (store, _):
        for _ in range(25):
            pair = [await log_in(store), await log_in(store)]
            await asyncio.gather(*(store.revoke_user("7", keep=session[0]) for session in pair))
            assert sorted([await stands(store, session) for session in pair]) == [False, False]


async def test_a_login_beside_marks_is_before_or_after_each_of_them(database_url: str) -> None:
    async with created(database_url) as (store, _):
        for _ in range(10):
            await asyncio.gather(store.revoke_user("7"), log_in(store), store.revoke_all(), log_in(store))
            assert await stands(store, await log_in(store))
        await store.revoke_user("7")
        assert await store.sessions_of("7") == []


async def test_revoking_once_is_reported_to_one_of_many(database_url: str) -> None:
    async with created(database_url) as (store, _):
        session_id, _ = await log_in(store)
        assert sorted(await asyncio.gather(*(store.revoke(session_id) for _ in range(5)))) == [False] * 4 + [True]


async def test_a_stolen_dump_holds_no_value_that_authenticates(database_url: str) -> None:
    async with created(database_url) as (store, engine):
        authority = authority_of(store=store)
        issued = await authority.issue(Session(user_id="7"), label="phone")
        await authority.revoke_user("7", keep=issued.session_id)
        async with engine.connect() as connection:
            dump = [
                str(value)
                for table in metadata.sorted_tables
                for row in await connection.execute(sa.select(table))
                for value in row
            ]
        assert len(dump) > 9
        headers = [(b"authorization", b"Bearer " + issued.token.encode())]
        assert (await authority.authenticate(headers)).result == "accepted"
        for value in dump:
            assert issued.token not in value
            assert not any(part in value for part in issued.token.split("."))
            stolen = [(b"authorization", b"Bearer " + value.encode())]
            assert (await authority.authenticate(stolen)).result == "refused"
        await authority.aclose()


async def test_what_the_database_says_goes_nowhere(database_url: str) -> None:
    engine = create_async_engine(database_url)
    store: Any = SQLAlchemySessionStore(engine)  # its tables do not exist
    try:
        for call in (
            lambda: store.stamp("secret-user"),
            lambda: store.add(record("secret-user")),
            lambda: store.sessions_of("secret-user"),
            lambda: store.revoke_user("secret-user"),
            store.revoke_all,
        ):
            with pytest.raises(Unavailable) as failed:
                await call()
            assert str(failed.value) == "the database could not answer: is it reachable, and do its tables exist?"
            assert failed.value.__cause__ is None
            assert failed.value.__suppress_context__
    finally:
        await engine.dispose()


async def test_a_row_is_added_once(database_url: str) -> None:
    async with created(database_url) as (store, _):
        row = record()
        await store.add(row)
        with pytest.raises(Unavailable):
            await store.add(row)


def test_another_database_is_refused_at_construction() -> None:
    class Other:
        name = "mysql"
        dbapi = None

    engine = create_async_engine("sqlite+aiosqlite://")
    engine.sync_engine.dialect = Other()  # type: ignore[assignment] # a dialect that is not installed here
    with pytest.raises(ConfigError, match="knows SQLite and PostgreSQL, not mysql"):
        SQLAlchemySessionStore(engine)
