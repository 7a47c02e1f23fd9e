"""The moment after a release, on a million users: every token is of yesterday, and the database hardly notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from jwt_middleware import JWTSessionMiddleware, LookupLimits, Revocation, SQLAlchemyClaims, SQLAlchemySessionStore
from jwt_middleware.testing import old_token
from tests.support.asgi import Echo, Sent, nothing, scope_of
from tests.support.world import authority_of

MILLION = 1_000_000
REQUESTS = 50_000
AT_ONCE = 256

users = sa.Table("users", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("email", sa.Text))


@dataclass
class Deployment:
    engine: AsyncEngine
    authority: Any
    inner: Echo
    app: Any
    queries: dict[str, int] = field(default_factory=lambda: {"users": 0, "user_sessions": 0})

    def note(self, *args: Any) -> None:
        for table in self.queries:
            self.queries[table] += f"FROM {table} " in args[2].replace("\n", " ")

    def tokens(self, users: Iterable[int]) -> list[bytes]:
        return [
            old_token(self.authority, {"userId": str(user)}, version=1, sid=session_of(user)).encode() for user in users
        ]

    async def ask(self, token: bytes) -> int:
        sent = Sent()
        await self.app(scope_of(headers=[(b"authorization", b"Bearer " + token)]), nothing, sent)
        return int(sent.messages[0]["status"])

    async def by_many(self, tokens: Iterable[bytes]) -> dict[int, int]:
        """256 clients at once, each with its next token; how often each status was answered."""
        waiting, answers = iter(tokens), dict[int, int]()

        async def client() -> None:
            for token in waiting:
                status = await self.ask(token)
                answers[status] = answers.get(status, 0) + 1
                self.inner.scopes.clear()

        await asyncio.gather(*(client() for _ in range(AT_ONCE)))
        return answers


def session_of(user: int) -> str:
    return f"00000000-0000-4000-8000-{user:012d}"


@asynccontextmanager
async def deployment(url: str, sessions: int, *, total: int = MILLION) -> AsyncIterator[Deployment]:
    """Users, the first of whom have a session; the store and the claims in one database."""
    engine = create_async_engine(url, pool_size=5, max_overflow=0)
    store = SQLAlchemySessionStore(engine)
    try:
        await store.create_all()
        async with engine.begin() as connection:
            for statement in (
                "CREATE UNLOGGED TABLE users AS SELECT id, id || '@x.y' AS email "
                f"FROM generate_series(0, {total - 1}) AS id",
                "ALTER TABLE users ADD PRIMARY KEY (id)",
                "INSERT INTO user_sessions SELECT ('00000000-0000-4000-8000-' || lpad(id::text, 12, '0'))::uuid, id, "
                "md5(id::text), now() + interval '7 days', now(), true, now() "
                f"FROM generate_series(0, {sessions - 1}) AS id",
                "ANALYZE",
            ):
                await connection.execute(sa.text(statement))
        authority = authority_of(
            sources=[SQLAlchemyClaims(engine, users, key=users.c.id, columns={"email": users.c.email})],
            store=store,
            lookups=LookupLimits(timeout=timedelta(seconds=30)),  # counted, not timed: a busy machine is not an outage
            revocation=Revocation(max_staleness=timedelta(minutes=5)),
        )
        inner = Echo()
        deployed = Deployment(engine, authority, inner, JWTSessionMiddleware(inner, authority=authority))
        sa.event.listen(engine.sync_engine, "before_cursor_execute", deployed.note)
        yield deployed
        await authority.aclose()
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined] # of every pool that has connections
    finally:
        await engine.dispose()


@pytest.mark.parametrize(("subjects", "most"), [(5_000, 100), (50_000, 400)])
async def test_fifty_thousand_old_tokens_cost_few_queries(postgres_url: str, subjects: int, most: int) -> None:
    async with deployment(postgres_url, subjects) as under_test:
        tokens = under_test.tokens(range(subjects))
        answers = await under_test.by_many(tokens * (REQUESTS // subjects))
        assert answers == {200: REQUESTS}
        assert under_test.queries["users"] <= most
        assert under_test.queries["user_sessions"] <= most
        sent = dict(under_test.queries)
        assert await under_test.ask(tokens[7]) == 200
        assert under_test.inner.session.email == "7@x.y"
        assert under_test.queries == sent


async def test_a_thousand_cold_requests_for_one_user_are_one_query_and_the_first_may_leave(postgres_url: str) -> None:
    async with deployment(postgres_url, 1, total=1_000) as under_test:
        (token,) = under_test.tokens([0])
        tasks = [asyncio.create_task(under_test.ask(token)) for _ in range(1_000)]
        async with asyncio.timeout(60):
            while not under_test.queries["users"]:
                await asyncio.sleep(0)
        tasks[0].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(answers[0], asyncio.CancelledError)
        assert answers[1:] == [200] * 999
        assert under_test.queries == {"users": 1, "user_sessions": 1}
