"""Pages of sessions and of users, on every store; and what PostgreSQL does for them among 200,000 sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from jwt_middleware import SessionStore
from jwt_middleware.sqlalchemy.queries import page_of_sessions, page_of_users
from jwt_middleware.sqlalchemy.sessions import SQLAlchemySessionStore
from jwt_middleware.types import EVERYBODY, Mark, SessionCursor, SessionRecord, UserSessions, moment
from tests.support.stores import log_in, opened, stands
from tests.support.world import FakeClock

Test = Callable[[SessionStore], Awaitable[None]]


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    fixtures = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}
    found: str = request.getfixturevalue(fixtures[request.param]) if request.param in fixtures else "memory"
    return found


def run(url: str, test: Test) -> None:
    async def main() -> None:
        async with opened(url) as store:
            await test(store)

    asyncio.run(main())


async def all_pages(store: SessionStore, user_id: str, limit: int) -> list[SessionRecord]:
    """Page by page, as an administrator goes through them."""
    found: list[SessionRecord] = []
    after = None
    while page := await store.sessions_of(user_id, limit=limit, after=after):
        assert len(page) <= limit
        found += page
        after = SessionCursor(last_activity_at=page[-1].last_activity_at, id=page[-1].id)
    return found


async def all_users(store: SessionStore, limit: int) -> list[UserSessions]:
    found: list[UserSessions] = []
    while page := await store.active_users(limit=limit, after=found[-1].user_id if found else None):
        assert len(page) <= limit
        found += page
    return found


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_hold_every_session_once_in_order(url: str, limit: int) -> None:
    async def test(store: SessionStore) -> None:
        same = moment(await store.stamp("7"))
        times = [same, same, same, same - timedelta(minutes=1), same + timedelta(microseconds=1)]
        ids = {(await log_in(store, last_activity_at=at))[0] for at in times}
        await log_in(store, "8")
        everything = await store.sessions_of("7")
        assert {row.id for row in everything} == ids
        keys = [(row.last_activity_at, row.id) for row in everything]
        assert keys == sorted(keys, reverse=True)
        assert await all_pages(store, "7", limit) == everything

    run(url, test)


def test_pages_leave_out_what_is_over(url: str) -> None:
    async def test(store: SessionStore) -> None:
        now = moment(await store.stamp("7"))
        await log_in(store, expires_at=now - timedelta(seconds=1))
        await log_in(store)
        kept = await log_in(store)
        await store.revoke_user("7", keep=kept[0])
        revoked, later = await log_in(store), await log_in(store)
        await store.revoke(revoked[0])
        assert [row.id for row in await all_pages(store, "7", 1)] == [later[0], kept[0]]

    run(url, test)


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_users_come_with_their_count_and_latest_activity(url: str, limit: int) -> None:
    async def test(store: SessionStore) -> None:
        now = moment(await store.stamp("7"))
        await log_in(store, "7", last_activity_at=now)
        await log_in(store, "7", last_activity_at=now + timedelta(seconds=3, microseconds=7))
        await log_in(store, "8", last_activity_at=now - timedelta(hours=1))
        await log_in(store, "9", last_activity_at=now)
        assert await all_users(store, limit) == [
            UserSessions(user_id="7", sessions=2, last_activity_at=now + timedelta(seconds=3, microseconds=7)),
            UserSessions(user_id="8", sessions=1, last_activity_at=now - timedelta(hours=1)),
            UserSessions(user_id="9", sessions=1, last_activity_at=now),
        ]

    run(url, test)


def test_users_are_counted_without_what_is_over(url: str) -> None:
    async def test(store: SessionStore) -> None:
        now = moment(await store.stamp("1"))
        await log_in(store, "1", expires_at=now - timedelta(seconds=1))
        revoked = await log_in(store, "2")
        await store.revoke(revoked[0])
        await log_in(store, "3")
        await store.revoke_user("3")
        kept, _ = await log_in(store, "4"), await log_in(store, "4")
        await store.revoke_user("4", keep=kept[0])
        await log_in(store, "5")
        await store.revoke_user("5")
        again = [await log_in(store, "5"), await log_in(store, "5")]
        assert [(user.user_id, user.sessions) for user in await all_users(store, 10)] == [("4", 1), ("5", 2)]
        assert all([await stands(store, session, "5") for session in again])
        await store.revoke_all()
        assert await all_users(store, 10) == []
        await log_in(store, "6")
        assert [user.user_id for user in await all_users(store, 10)] == ["6"]

    run(url, test)


@pytest.mark.parametrize("where", ["memory", "sqlite"])
async def test_a_mark_counts_to_the_microsecond(where: str, request: pytest.FixtureRequest) -> None:
    clock = FakeClock(wall=1_795_600_000.000001)

    async with opened("memory" if where == "memory" else request.getfixturevalue("sqlite_url"), clock) as store:
        for microseconds in range(5):  # the clock stands still: marks and logins are a microsecond apart
            before = await log_in(store, "7")
            await store.revoke_user("7")
            after = await log_in(store, "7")
            assert not await stands(store, before)
            assert await stands(store, after)
            assert [(user.user_id, user.sessions) for user in await store.active_users(limit=9)] == [("7", 1)]
            assert [row.id for row in await store.sessions_of("7", limit=9)] == [after[0]]
            clock.wall += 0.9 + microseconds / 1e6


def test_a_session_is_revoked_by_its_user_and_by_no_other(url: str) -> None:
    async def test(store: SessionStore) -> None:
        session = await log_in(store, "7")
        assert not await store.revoke(session[0], user_id="8")
        assert await stands(store, session)
        assert await store.revoke(session[0], user_id="7")
        assert not await stands(store, session)
        assert not await store.revoke(session[0], user_id="7")

    run(url, test)


FILL = """
INSERT INTO user_sessions (id, user_id, session_token, expires_at, last_activity_at, is_active, created_at)
SELECT gen_random_uuid(), CASE WHEN n % 4 = 0 THEN 'zealous' ELSE 'user-' || n % 50000 END, repeat('0', 64),
       now() + interval '7 days', now() - n * interval '1 second', n % 10 <> 0, now() - n * interval '1 second'
FROM generate_series(1, 200000) AS n
"""
"""200,000 sessions: 50,000 of one user, about four of each other; one in ten is revoked."""
MARKS = "INSERT INTO session_marks (user_id, not_before) SELECT 'user-' || n, n FROM generate_series(1, 20000) AS n"


class Explained:
    """A plan as PostgreSQL ran it."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.nodes = [root]
        for node in self.nodes:
            self.nodes += node.get("Plans", [])
        self.indexes = {node["Index Name"] for node in self.nodes if "Index Name" in node}
        self.sequential = [node["Relation Name"] for node in self.nodes if node["Node Type"] == "Seq Scan"]
        scans = [node for node in self.nodes if node.get("Relation Name") == "user_sessions"]
        self.read = sum(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in scans)
        """Rows of `user_sessions` that were looked at."""


async def explain(connection: AsyncConnection, query: sa.Select[Any]) -> Explained:
    statement = query.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True})  # type: ignore[no-untyped-call] # SQLAlchemy's own
    plan = (await connection.execute(sa.text(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"))).scalar_one()
    return Explained(plan[0]["Plan"])


def test_pages_of_200_000_sessions_are_read_by_index_and_no_further_than_the_page(postgres_url: str) -> None:
    marks = {EVERYBODY: Mark(5)}

    async def main() -> list[Explained]:
        engine = create_async_engine(postgres_url, isolation_level="AUTOCOMMIT")
        try:
            await SQLAlchemySessionStore(engine).create_all()
            async with engine.connect() as connection:
                for statement in (FILL, MARKS, "VACUUM ANALYZE user_sessions", "ANALYZE session_marks"):
                    await connection.execute(sa.text(statement))
                now = (await connection.execute(sa.text("SELECT now()"))).scalar_one()
                late = SessionCursor(last_activity_at=now - timedelta(seconds=150_000), id=str(UUID(int=5)))
                return [
                    await explain(connection, query)
                    for query in (
                        page_of_sessions("zealous", marks, now=now, limit=51, after=None),
                        page_of_sessions("zealous", marks, now=now, limit=51, after=late),
                        page_of_sessions("user-777", marks, now=now, limit=51, after=None),
                        page_of_users("postgresql", marks, now=now, limit=51, after=None),
                        page_of_users("postgresql", marks, now=now, limit=51, after="user-30000"),
                    )
                ]
        finally:
            await engine.dispose()

    for plan in asyncio.run(main()):
        assert "ix_user_sessions_user_id_last_activity_at" in plan.indexes
        assert plan.sequential == []
        assert plan.read < 500  # a page has 51 rows, of sessions or of users with about four sessions each
