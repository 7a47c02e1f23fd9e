"""The store in a database: plain SQL beside it, transactions that meet, what a stolen dump holds."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from jwt_middleware import ConfigError, SessionStatus, Unavailable
from jwt_middleware.sqlalchemy import SQLAlchemySessionStore, metadata, session_marks, user_sessions
from tests.support.stores import log_in, record, stands, status_of
from tests.support.world import Session, authority_of, bearer


class TestTables:
    @pytest.mark.parametrize(
        ("statement", "known"),
        [
            ("UPDATE user_sessions SET is_active = false WHERE user_id = '7'", True),
            ("DELETE FROM user_sessions WHERE user_id = '7'", False),
        ],
    )
    async def test_plain_sql_revokes(
        self, sql_store: SQLAlchemySessionStore, engine: AsyncEngine, statement: str, known: bool
    ) -> None:
        session, other = await log_in(sql_store, "7"), await log_in(sql_store, "8")
        async with engine.begin() as connection:
            await connection.execute(sa.text(statement))
        assert await status_of(sql_store, session[0]) == SessionStatus(known=known, active=False)
        assert await stands(sql_store, other, "8")

    async def test_creating_what_exists_changes_nothing(self, sql_store: SQLAlchemySessionStore) -> None:
        session = await log_in(sql_store)
        await sql_store.create_all()
        assert await stands(sql_store, session)

    def test_migrations_of_an_app_can_include_the_tables(self) -> None:
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


class TestTransactions:
    async def test_revoking_all_and_all_but_one_at_once_leaves_no_session(
        self, sql_store: SQLAlchemySessionStore
    ) -> None:
        """In either order: the session to keep began before the mark on all, or had ended when it was to be kept."""
        for _ in range(25):
            mine = await log_in(sql_store)
            await asyncio.gather(sql_store.revoke_user("7", keep=mine[0]), sql_store.revoke_user("7"))
            assert not await stands(sql_store, mine)

    async def test_of_two_sessions_that_each_keep_themselves_neither_stays(
        self, sql_store: SQLAlchemySessionStore
    ) -> None:
        for _ in range(25):
            pair = [await log_in(sql_store), await log_in(sql_store)]
            await asyncio.gather(*(sql_store.revoke_user("7", keep=session[0]) for session in pair))
            assert sorted([await stands(sql_store, session) for session in pair]) == [False, False]

    async def test_a_login_beside_marks_is_before_or_after_each_of_them(
        self, sql_store: SQLAlchemySessionStore
    ) -> None:
        for _ in range(10):
            await asyncio.gather(
                sql_store.revoke_user("7"), log_in(sql_store), sql_store.revoke_all(), log_in(sql_store)
            )
            assert await stands(sql_store, await log_in(sql_store))
        await sql_store.revoke_user("7")
        assert await sql_store.sessions_of("7") == []

    async def test_revoking_once_is_reported_to_one_of_many(self, sql_store: SQLAlchemySessionStore) -> None:
        session_id, _ = await log_in(sql_store)
        assert sorted(await asyncio.gather(*(sql_store.revoke(session_id) for _ in range(5)))) == [False] * 4 + [True]


class TestErrors:
    async def test_a_stolen_dump_holds_no_value_that_authenticates(
        self, sql_store: SQLAlchemySessionStore, engine: AsyncEngine
    ) -> None:
        authority = authority_of(store=sql_store)
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
        assert (await authority.authenticate(bearer(issued.token))).result == "accepted"
        for value in dump:
            assert issued.token not in value
            assert not any(part in value for part in issued.token.split("."))
            assert (await authority.authenticate(bearer(value))).result == "refused"
        await authority.aclose()

    async def test_errors_of_the_database_are_not_repeated(self, engine: AsyncEngine) -> None:
        store: Any = SQLAlchemySessionStore(engine)  # its tables do not exist
        for call in (
            lambda: store.stamp("secret-user"),
            lambda: store.add(record("secret-user")),
            lambda: store.sessions_of("secret-user"),
            lambda: store.revoke_user("secret-user"),
            lambda: store.touch({record().id: datetime.now(UTC)}),
            store.revoke_all,
            store.purge,
        ):
            with pytest.raises(Unavailable) as failed:
                await call()
            assert str(failed.value) == "the database could not answer: is it reachable, and do its tables exist?"
            assert failed.value.__cause__ is None
            assert failed.value.__suppress_context__

    async def test_a_row_is_added_once(self, sql_store: SQLAlchemySessionStore) -> None:
        row = record()
        await sql_store.add(row)
        with pytest.raises(Unavailable):
            await sql_store.add(row)

    def test_another_database_is_refused_at_construction(self) -> None:
        driver = SimpleNamespace(paramstyle="qmark", version="5.0", Cursor=object)  # is not installed here
        engine = create_async_engine("mssql+aioodbc://nowhere/nothing?driver=none", module=driver)
        with pytest.raises(ConfigError, match="must be of SQLite or PostgreSQL, got mssql"):
            SQLAlchemySessionStore(engine)
