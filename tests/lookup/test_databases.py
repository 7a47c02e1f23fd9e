"""The whole path over real databases: few queries, no connection lost, no deadlock, and back after an outage."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from jwt_middleware import LookupLimits, Revocation, SQLAlchemySessionStore
from jwt_middleware.testing import old_token
from tests.support.databases import checked_out, database, emails, queries_of, users
from tests.support.world import PATIENT, Session, authority_of, bearer

USERS = 5_000


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """An event for each fallback is not what these tests are about."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@dataclass
class App:
    engine: AsyncEngine
    authority: Any
    queries: Counter[str]

    def without_row(self, user: int) -> str:
        """A token of an earlier release without a session."""
        return old_token(self.authority, {"userId": str(user)}, version=1)

    async def token(self, user: int) -> str:
        """A token of an earlier release: a session with a row, and no email."""
        issued = await self.authority.issue(Session(user_id=str(user), email="x"))
        return old_token(self.authority, {"userId": str(user)}, version=1, sid=issued.session_id)

    async def email(self, token: str) -> str:
        """The session's email, or the reason of the refusal."""
        outcome = await self.authority.authenticate(bearer(token))
        return str(outcome.session.email) if outcome.session else str(outcome.reason.value)

    async def emails(self, tokens: Sequence[str]) -> list[str]:
        return await asyncio.gather(*map(self.email, tokens))

    @asynccontextmanager
    async def locked(self, table: str) -> AsyncIterator[None]:
        """No query of the table is answered meanwhile."""
        locking = create_async_engine(self.engine.url)
        async with locking.begin() as connection:
            await connection.execute(sa.text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
            yield
        await locking.dispose()


@asynccontextmanager
async def app(url: str, *, store: bool = True, pool_size: int = 5, **settings: Any) -> AsyncIterator[App]:
    pool = {"poolclass": sa.AsyncAdaptedQueuePool, "pool_size": pool_size, "max_overflow": 0}
    async with database(url, {number: f"{number}@x.y" for number in range(USERS)}, **pool) as engine:
        sessions = SQLAlchemySessionStore(engine)
        await sessions.create_all()
        settings = {"lookups": PATIENT, "store": sessions if store else None, **settings}
        authority = authority_of(sources=[emails(engine)], **settings)
        yield App(engine, authority, queries_of(engine))
        await authority.aclose()


async def test_a_release_moment_costs_few_queries(database_url: str) -> None:
    """50,000 requests of 5,000 users, 256 clients at once, each with its next token: at most a hundred queries."""
    count = USERS if database_url.startswith("postgresql") else USERS // 10
    async with app(database_url, store=False) as under_test:
        waiting = iter([under_test.without_row(user) for user in range(count)] * 10)
        served: list[str] = []

        async def client() -> None:
            for token in waiting:
                served.append(await under_test.email(token))

        await asyncio.gather(*(client() for _ in range(256)))
        assert len(served) == 10 * count
        assert set(served) == {f"{user}@x.y" for user in range(count)}
        assert under_test.queries["users"] <= count // 50


async def test_a_thousand_cold_requests_for_one_user_are_one_query(database_url: str) -> None:
    async with app(database_url) as under_test:
        token = await under_test.token(7)
        under_test.queries.clear()
        assert set(await under_test.emails([token] * 1_000)) == {"7@x.y"}
        assert under_test.queries["users"] == 1
        assert under_test.queries["user_sessions"] == 1


async def test_a_pool_of_two_with_two_hundred_requests_does_not_deadlock(database_url: str) -> None:
    """The app's own handlers want connections of that pool too, while other requests wait for lookups."""
    async with app(database_url, pool_size=2) as under_test:
        tokens = [await under_test.token(user) for user in range(50)]

        async def request(number: int) -> str:
            email = await under_test.email(tokens[number % 50])
            async with under_test.engine.connect() as connection:
                await connection.execute(sa.select(users.c.email).where(users.c.id == number))
            return email

        served = await asyncio.wait_for(asyncio.gather(*(request(number) for number in range(200))), 60)
        assert served == [f"{number % 50}@x.y" for number in range(200)]


async def test_a_thousand_cancelled_requests_leave_no_connection_checked_out(database_url: str) -> None:
    async with app(database_url) as under_test:
        tokens = [await under_test.token(user) for user in range(100)]
        tasks = [asyncio.create_task(under_test.email(tokens[number % 100])) for number in range(1_000)]
        for number, task in enumerate(tasks):
            if number % 100 == 0:
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await under_test.emails(tokens) == [f"{user}@x.y" for user in range(100)]
        assert checked_out(under_test.engine) == 0


async def test_queries_that_hang_are_given_up_and_their_connections_come_back(postgres_url: str) -> None:
    """A lock stands for a database that does not answer; of a thousand requests that wait, half are cancelled."""
    async with app(postgres_url, store=False, lookups=LookupLimits(timeout=timedelta(seconds=1))) as under_test:
        tokens = [under_test.without_row(user) for user in range(1_000)]
        async with under_test.locked("users"):
            tasks = [asyncio.create_task(under_test.email(token)) for token in tokens]
            while not under_test.queries["users"]:
                await asyncio.sleep(0.01)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert [task.cancelled() for task in tasks] == [True, False] * 500
            assert {task.result() for task in tasks[1::2]} == {"Unknown"}  # the default
        while checked_out(under_test.engine):
            await asyncio.sleep(0.01)
        while await under_test.email(tokens[1]) == "Unknown":  # until the breaker lets a probe through
            await asyncio.sleep(0.05)
        assert await under_test.email(tokens[3]) == "3@x.y"


async def test_a_session_store_that_does_not_answer_refuses_and_recovers(postgres_url: str) -> None:
    limits = LookupLimits(timeout=timedelta(milliseconds=100))
    async with app(postgres_url, lookups=limits, revocation=Revocation(max_staleness=timedelta(0))) as under_test:
        token = await under_test.token(7)
        async with under_test.locked("user_sessions"):
            assert set(await under_test.emails([token] * 20)) == {"sessions_unavailable"}
        while (served := await under_test.email(token)) == "sessions_unavailable":
            await asyncio.sleep(0.05)
        assert served in ("7@x.y", "Unknown")  # a busy machine may be slower than the limit above


async def test_plain_sql_is_seen_within_the_bound(database_url: str) -> None:
    async with app(database_url, revocation=Revocation(max_staleness=timedelta(milliseconds=200))) as under_test:
        tokens = [await under_test.token(user) for user in (1, 2, 3)]
        assert await under_test.emails(tokens) == ["1@x.y", "2@x.y", "3@x.y"]
        async with under_test.engine.begin() as connection:
            await connection.execute(sa.text("UPDATE user_sessions SET is_active = false WHERE user_id = '1'"))
            await connection.execute(sa.text("DELETE FROM user_sessions WHERE user_id = '2'"))
        await asyncio.sleep(0.2)
        assert await under_test.emails(tokens) == ["session_revoked", "session_unknown", "3@x.y"]
