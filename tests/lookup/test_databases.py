"""The whole path over real databases: few queries, no connection lost, no deadlock, and back after an outage.

After a release every token is of yesterday; of many requests that wait, some are cancelled.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any, Literal

import asyncpg
import pytest
import sqlalchemy as sa

from jwt_middleware import LookupLimits, Revocation
from jwt_middleware.lookup.lanes import WIDTH
from jwt_middleware.testing import old_token
from tests.support.databases import Deployed, checked_out, deployed, locked, queries_of, until, users
from tests.support.proxy import proxied

USERS = 5_000


def world_on(url: str, *, pool_size: int = 5, **settings: Any) -> AbstractAsyncContextManager[Deployed]:
    pool = {"poolclass": sa.AsyncAdaptedQueuePool, "pool_size": pool_size, "max_overflow": 0}
    return deployed(url, {number: f"{number}@x.y" for number in range(USERS)}, engine=pool, **settings)


async def old_tokens(world: Deployed, count: int) -> list[str]:
    return [await world.old({"userId": str(user)}) for user in range(count)]


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


class TestReleaseMoment:
    async def test_a_release_moment_costs_few_queries(self, database_url: str) -> None:
        """50,000 requests of 5,000 users, 256 clients at once, each with its next token: at most a hundred queries."""
        count = USERS if database_url.startswith("postgresql") else USERS // 10
        async with world_on(database_url, store=None) as world:
            waiting, queries = iter(await old_tokens(world, count) * 10), queries_of(world.engine)
            served: list[str] = []

            async def client() -> None:
                for token in waiting:
                    served.append(await world.email(token))

            await asyncio.gather(*(client() for _ in range(256)))
            assert len(served) == 10 * count
            assert set(served) == {f"{user}@x.y" for user in range(count)}
            assert queries["users"] <= count // 50

    @pytest.mark.parametrize(("subjects", "most"), [(5_000, 100), (50_000, 400)])
    async def test_fifty_thousand_old_tokens_cost_few_queries(
        self, postgres_url: str, subjects: int, most: int
    ) -> None:
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

    async def test_a_thousand_cold_requests_for_one_user_are_one_query(self, database_url: str) -> None:
        async with world_on(database_url) as world:
            token, queries = await world.old({"userId": "7"}), queries_of(world.engine)
            assert set(await asyncio.gather(*(world.email(token) for _ in range(1_000)))) == {"7@x.y"}
            assert (queries["users"], queries["user_sessions"]) == (1, 1)

    async def test_a_thousand_requests_for_one_user_are_one_query(self, postgres_url: str) -> None:
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

    async def test_a_pool_of_two_with_two_hundred_requests_does_not_deadlock(self, database_url: str) -> None:
        """The app's own handlers want connections of that pool too, while other requests wait for lookups."""
        async with world_on(database_url, pool_size=2) as world:
            tokens = await old_tokens(world, 50)

            async def request(number: int) -> str:
                email = await world.email(tokens[number % 50])
                async with world.engine.connect() as connection:
                    await connection.execute(sa.select(users.c.email).where(users.c.id == number))
                return email

            served = await asyncio.gather(*(request(number) for number in range(200)))
            assert served == [f"{number % 50}@x.y" for number in range(200)]


class TestCancelled:
    async def test_a_thousand_cancelled_requests_leave_no_connection_checked_out(self, database_url: str) -> None:
        async with world_on(database_url) as world:
            tokens = await old_tokens(world, 100)
            tasks = [asyncio.create_task(world.email(tokens[number % 100])) for number in range(1_000)]
            for number, task in enumerate(tasks):
                if number % 100 == 0:
                    await asyncio.sleep(0)
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert await asyncio.gather(*map(world.email, tokens)) == [f"{user}@x.y" for user in range(100)]
            assert checked_out(world.engine) == 0

    @pytest.mark.parametrize("fault", [None, "delay", "half-open", "locked"])
    async def test_cancelled_requests_leave_no_connection_open_at_the_server(
        self, postgres_url: str, fault: Literal["delay", "half-open", "locked"] | None
    ) -> None:
        database = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))

        async def connections() -> int:
            others = "datname = current_database() AND pid <> pg_backend_pid()"
            return int(await database.fetchval(f"SELECT count(*) FROM pg_stat_activity WHERE {others}"))

        emails = {user: f"{user}@x.y" for user in range(50)}
        limits = LookupLimits(timeout=timedelta(seconds=1))
        async with (
            proxied(postgres_url) as (proxy, through),
            deployed(through, emails, engine={"pool_size": 5, "max_overflow": 0}, lookups=limits) as world,
        ):
            tokens = await old_tokens(world, 50)
            before = await connections()
            if fault == "locked":
                await database.execute("BEGIN; LOCK TABLE users, user_sessions IN ACCESS EXCLUSIVE MODE")
            else:
                proxy.set(fault)
            tasks = [asyncio.create_task(world.email(tokens[number % 50])) for number in range(1_000)]
            for number, task in enumerate(tasks):
                if number % 50 == 0:
                    await asyncio.sleep(0.002)
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if fault is not None:
                await until(lambda: any("timeout" in labels for labels in world.counts("lookups")))
            if fault == "locked":
                await database.execute("ROLLBACK")
            proxy.repair()

            async def recovered() -> bool:
                return await asyncio.gather(*map(world.email, tokens)) == list(emails.values())

            async def few_connections() -> bool:
                return await connections() <= max(before, WIDTH)  # the second lane may have opened one

            await until(recovered)
            await world.authority.aclose()
            await until(lambda: checked_out(world.engine) == 0)
            await until(few_connections)

        async def closed() -> bool:
            return await connections() == 0

        await until(closed)
        await database.close()


class TestOutages:
    async def test_queries_that_hang_are_given_up_and_their_connections_come_back(self, postgres_url: str) -> None:
        """A lock stands for a database that does not answer; of a thousand requests that wait, half are cancelled."""
        async with world_on(postgres_url, store=None, lookups=LookupLimits(timeout=timedelta(seconds=1))) as world:
            tokens, queries = await old_tokens(world, 1_000), queries_of(world.engine)
            async with locked(postgres_url, "users"):
                tasks = [asyncio.create_task(world.email(token)) for token in tokens]
                await until(lambda: queries["users"])
                for task in tasks[::2]:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                assert [task.cancelled() for task in tasks] == [True, False] * 500
                assert {task.result() for task in tasks[1::2]} == {"Unknown"}  # the default
            await until(lambda: not checked_out(world.engine))
            while await world.email(tokens[1]) == "Unknown":  # until the breaker lets a probe through
                await asyncio.sleep(0.05)
            assert await world.email(tokens[3]) == "3@x.y"

    async def test_a_session_store_that_does_not_answer_refuses_and_recovers(self, postgres_url: str) -> None:
        limits = LookupLimits(timeout=timedelta(milliseconds=100))
        async with world_on(postgres_url, lookups=limits, revocation=Revocation(max_staleness=timedelta(0))) as world:
            token = await world.old({"userId": "7"})
            async with locked(postgres_url, "user_sessions"):
                refused = await asyncio.gather(*(world.email(token) for _ in range(20)))
                assert set(refused) == {"sessions_unavailable"}
            while (served := await world.email(token)) == "sessions_unavailable":
                await asyncio.sleep(0.05)
            assert served in ("7@x.y", "Unknown")  # a busy machine may be slower than the limit above

    async def test_plain_sql_is_seen_within_the_bound(self, database_url: str) -> None:
        async with world_on(database_url, revocation=Revocation(max_staleness=timedelta(milliseconds=200))) as world:
            tokens = await old_tokens(world, 3)
            assert await asyncio.gather(*map(world.email, tokens)) == ["0@x.y", "1@x.y", "2@x.y"]
            async with world.engine.begin() as connection:
                await connection.execute(sa.text("UPDATE user_sessions SET is_active = false WHERE user_id = '0'"))
                await connection.execute(sa.text("DELETE FROM user_sessions WHERE user_id = '1'"))
            await asyncio.sleep(0.2)
            assert [await world.email(token) for token in tokens] == ["session_revoked", "session_unknown", "2@x.y"]
