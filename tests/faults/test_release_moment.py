"""The moment after a release, on a million users: every token is of yesterday, and the database gets few queries."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import sqlalchemy as sa

from jwt_middleware import Revocation
from jwt_middleware.testing import old_token
from tests.support.databases import Deployed, deployed, queries_of


@asynccontextmanager
async def released(url: str, sessions: int, *, total: int = 1_000_000) -> AsyncIterator[tuple[Deployed, Counter[str]]]:
    """Users, the first of whom have a session; and the count of queries."""
    pool = {"pool_size": 5, "max_overflow": 0}
    async with deployed(url, engine=pool, revocation=Revocation(max_staleness=timedelta(minutes=5))) as world:
        async with world.engine.begin() as connection:
            for statement in (
                f"INSERT INTO users SELECT id, id || '@x.y' FROM generate_series(0, {total - 1}) AS id",
                "INSERT INTO user_sessions SELECT ('00000000-0000-4000-8000-' || lpad(id::text, 12, '0'))::uuid, id, "
                "md5(id::text), now() + interval '7 days', now(), true, now() "
                f"FROM generate_series(0, {sessions - 1}) AS id",
                "ANALYZE",
            ):
                await connection.execute(sa.text(statement))
        yield world, queries_of(world.engine)


def tokens_of(world: Deployed, users: Iterable[int]) -> list[bytes]:
    sids = {str(user): f"00000000-0000-4000-8000-{user:012d}" for user in users}
    return [old_token(world.authority, {"userId": user}, version=1, sid=sid).encode() for user, sid in sids.items()]


@pytest.mark.parametrize(("subjects", "most"), [(5_000, 100), (50_000, 400)])
async def test_fifty_thousand_old_tokens_cost_few_queries(postgres_url: str, subjects: int, most: int) -> None:
    """256 clients at once, each with its next token."""
    async with released(postgres_url, subjects) as (world, queries):
        tokens = tokens_of(world, range(subjects))
        waiting, statuses = iter(tokens * (50_000 // subjects)), Counter[int]()

        async def client() -> None:
            for token in waiting:
                statuses[await world.status(token)] += 1
                world.echo.scopes.clear()
                world.recorder.outcomes.clear()

        await asyncio.gather(*(client() for _ in range(256)))
        assert statuses == {200: 50_000}
        assert 0 < queries["users"] <= most
        assert 0 < queries["user_sessions"] <= most
        sent = dict(queries)
        assert await world.status(tokens[7]) == 200
        assert world.echo.session.email == "7@x.y"
        assert queries == sent


async def test_a_thousand_requests_for_one_user_are_one_query(postgres_url: str) -> None:
    """The first request may be cancelled."""
    async with released(postgres_url, 1, total=1_000) as (world, queries):
        (token,) = tokens_of(world, [0])
        tasks = [asyncio.create_task(world.status(token)) for _ in range(1_000)]
        while not queries["users"]:  # not a moment longer: the query must still run
            await asyncio.sleep(0)
        tasks[0].cancel()
        statuses = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(statuses[0], asyncio.CancelledError)
        assert statuses[1:] == [200] * 999
        assert (queries["users"], queries["user_sessions"]) == (1, 1)
