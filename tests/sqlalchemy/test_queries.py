"""The larger queries: pages among 200,000 sessions, activity beside revocations, chunks that meet other writers."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from jwt_middleware import Retention
from jwt_middleware.sqlalchemy import SQLAlchemySessionStore, metadata, session_marks, user_sessions
from jwt_middleware.sqlalchemy.queries import page_of_sessions, page_of_users
from jwt_middleware.sqlalchemy.tables import columns_of
from jwt_middleware.types import EVERYBODY, FOREVER, Mark, SessionCursor, SessionRecord, moment
from tests.support.databases import engine_on, statements_of, until
from tests.support.stores import expired, known, log_in, record, stands, status_of

DAY = timedelta(days=1)
LATER = timedelta(minutes=3)
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


async def explain(connection: AsyncConnection, query: sa.Select[Any]) -> list[dict[str, Any]]:
    """The nodes of the plan as PostgreSQL ran it."""
    statement = query.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True})  # type: ignore[no-untyped-call] # SQLAlchemy's own
    plan = (await connection.execute(sa.text(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"))).scalar_one()
    nodes = [plan[0]["Plan"]]
    for node in nodes:
        nodes += node.get("Plans", [])
    return nodes


async def a_statement_waits(engine: AsyncEngine) -> None:
    """Wait until a statement in this database waits for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"

    async def count() -> int:
        async with engine.connect() as connection:
            return int((await connection.execute(sa.text(waiting))).scalar_one())

    await until(count)


class TestPages:
    async def test_pages_of_200_000_sessions_are_read_by_index(self, postgres_url: str) -> None:
        """50,000 sessions of one user, about four of each other; one in ten is revoked."""
        sessions = """
            INSERT INTO user_sessions (id, user_id, session_token, expires_at, last_activity_at, is_active, created_at)
            SELECT gen_random_uuid(), CASE WHEN n % 4 = 0 THEN 'zealous' ELSE 'user-' || n % 50000 END,
                   repeat('0', 64), now() + interval '7 days', now() - n * interval '1 second', n % 10 <> 0,
                   now() - n * interval '1 second'
            FROM generate_series(1, 200000) AS n
        """
        moved = (
            "INSERT INTO session_marks (user_id, not_before) SELECT 'user-' || n, n FROM generate_series(1, 20000) n"
        )
        marks = {EVERYBODY: Mark(5)}
        async with engine_on(postgres_url, isolation_level="AUTOCOMMIT") as engine, engine.connect() as connection:
            await connection.run_sync(metadata.create_all)
            for statement in (sessions, moved, "VACUUM ANALYZE user_sessions", "ANALYZE session_marks"):
                await connection.execute(sa.text(statement))
            now = (await connection.execute(sa.text("SELECT now()"))).scalar_one()
            late = SessionCursor(last_activity_at=now - timedelta(seconds=150_000), id=str(UUID(int=5)))
            for query in (
                page_of_sessions("zealous", marks, now=now, limit=51, after=None),
                page_of_sessions("zealous", marks, now=now, limit=51, after=late),
                page_of_sessions("user-777", marks, now=now, limit=51, after=None),
                page_of_users("postgresql", marks, now=now, limit=51, after=None),
                page_of_users("postgresql", marks, now=now, limit=51, after="user-30000"),
            ):
                nodes = await explain(connection, query)
                assert "ix_user_sessions_user_id_last_activity_at" in {node.get("Index Name") for node in nodes}
                assert "Seq Scan" not in {node["Node Type"] for node in nodes}
                scans = [node for node in nodes if node.get("Relation Name") == "user_sessions"]
                read = sum(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in scans)
                assert read < 500  # a page has 51 rows, of sessions or of users with about four sessions each


class TestActivity:
    async def test_activity_neither_revives_nor_changes_a_revoked_row(
        self, sql_store: SQLAlchemySessionStore, engine: AsyncEngine
    ) -> None:
        session = await log_in(sql_store)
        await sql_store.revoke(session[0])
        await sql_store.touch({session[0]: moment(session[1]) + LATER})
        assert not await stands(sql_store, session)
        async with engine.connect() as connection:
            (row,) = await connection.execute(sa.select(user_sessions.c.last_activity_at))
        assert row[0].replace(tzinfo=UTC) == moment(session[1])

    @on_postgresql
    async def test_a_thousand_touches_are_one_statement(
        self, sql_store: SQLAlchemySessionStore, engine: AsyncEngine
    ) -> None:
        sent = statements_of(engine, "UPDATE")
        await sql_store.touch({str(uuid4()): datetime.now(UTC) for _ in range(1_000)})
        assert len(sent) == 1

    @on_postgresql
    async def test_activity_skips_a_row_that_is_locked(
        self, sql_store: SQLAlchemySessionStore, engine: AsyncEngine
    ) -> None:
        """Otherwise revoking many rows and writing activity could deadlock, and PostgreSQL end the revocation."""
        locked, free = await log_in(sql_store), await log_in(sql_store)
        async with engine.begin() as connection:
            ids = user_sessions.c.id
            await connection.execute(sa.update(user_sessions).where(ids == UUID(locked[0])).values(label="x"))
            await sql_store.touch({id_: moment(began) + LATER for id_, began in (locked, free)})
        used = {row.id: row.last_activity_at for row in await sql_store.sessions_of("7")}
        assert used == {locked[0]: moment(locked[1]), free[0]: moment(free[1]) + LATER}

    async def test_activity_beside_revocations_revives_no_session(
        self, sql_store: SQLAlchemySessionStore, engine: AsyncEngine
    ) -> None:
        """Each of 10,000 sessions is revoked while it is touched, by the app's call or by plain SQL, in any order."""
        rows = [record(str(number % 10)) for number in range(10_000)]
        async with engine.begin() as connection:
            await connection.execute(sa.insert(user_sessions), [columns_of(row) for row in rows])
        turns = asyncio.Semaphore(8 if engine.dialect.name == "postgresql" else 2)  # SQLite has one writer at a time

        async def touch(part: list[SessionRecord], minutes: int) -> None:
            async with turns:
                await sql_store.touch({row.id: row.last_activity_at + timedelta(minutes=minutes) for row in part})

        async def revoke(part: list[SessionRecord]) -> None:
            ending = sa.update(user_sessions).where(user_sessions.c.id.in_([UUID(row.id) for row in part]))
            async with turns:
                await sql_store.revoke(part[0].id)
                async with engine.begin() as connection:
                    await connection.execute(ending.values(is_active=False))

        work = []
        for start in range(0, len(rows), 50):
            part = rows[start : start + 50]
            work += [touch(part, 1), revoke(part), touch(part, 2)]
        random.Random(5).shuffle(work)
        await asyncio.gather(*work)
        async with engine.connect() as connection:
            active = sa.select(sa.func.count()).select_from(user_sessions).where(user_sessions.c.is_active)
            assert (await connection.execute(active)).scalar_one() == 0


class TestPurging:
    async def test_each_chunk_is_one_delete_and_no_row_is_read_twice(
        self, sql_store: SQLAlchemySessionStore, engine: AsyncEngine
    ) -> None:
        for number in range(40):
            await expired(sql_store, (50 - number) * DAY, is_active=number % 2 == 0)
        sent = statements_of(engine, "DELETE")
        assert await sql_store.purge(Retention(longest_token=FOREVER, chunk=5)) == (20, 0)
        assert len(sent) == 4
        assert await sql_store.purge(Retention(longest_token=FOREVER, chunk=5)) == (0, 0)
        assert len(sent) == 4

    async def test_two_purges_at_once_delete_each_row_once(self, sql_store: SQLAlchemySessionStore) -> None:
        for _ in range(50):
            await expired(sql_store, 2 * DAY)
        both = await asyncio.gather(*(sql_store.purge(Retention(chunk=10)) for _ in range(2)))
        assert sum(purged.sessions for purged in both) == 50

    @on_postgresql
    async def test_a_session_that_is_renewed_while_it_is_purged_stays(
        self, sql_store: SQLAlchemySessionStore, engine: AsyncEngine
    ) -> None:
        session_id = await expired(sql_store, 2 * DAY)
        async with engine.begin() as connection:
            await connection.execute(sa.update(user_sessions).values(expires_at=datetime.now(UTC) + DAY))
            purge = asyncio.create_task(sql_store.purge())
            await a_statement_waits(engine)
        assert await purge == (0, 0)
        assert await known(sql_store, session_id) == [True]

    @on_postgresql
    async def test_a_mark_that_is_moved_while_it_is_purged_stays(
        self, sql_store: SQLAlchemySessionStore, engine: AsyncEngine
    ) -> None:
        await sql_store.revoke_user("7")
        async with engine.begin() as connection:
            await connection.execute(sa.update(session_marks).values(not_before=session_marks.c.not_before + 10**12))
            purge = asyncio.create_task(sql_store.purge(Retention(longest_token=timedelta(0))))
            await a_statement_waits(engine)
        assert await purge == (0, 0)
        assert (await status_of(sql_store, None)).not_before is not None
