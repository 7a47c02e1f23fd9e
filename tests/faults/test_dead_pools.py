"""A pool whose connections have all died: the probe closes them at once, instead of one query timing out on each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from jwt_middleware import LookupLimits, Revocation, SessionKey, Unavailable
from jwt_middleware.lookup.lanes import WIDTH
from jwt_middleware.sqlalchemy import SQLAlchemySessionStore, pool_probe, sessions
from tests.support.databases import LIMIT, Deployed, backends, checked_out, deployed, locked, until
from tests.support.proxy import Fault, Proxy, proxied
from tests.support.stores import record
from tests.support.world import Session

POOL = 20
OUTAGE = 3.0
"""Seconds."""
FEW = POOL // 2
"""Queries that may fail after an outage; without the probe one would on each connection."""


@dataclass
class App:
    """A deployment behind a proxy, whose every request queries the database: for claims, or for its session."""

    proxy: Proxy
    world: Deployed
    token: str

    async def works(self) -> bool:
        return await self.world.email(self.token) == "7@x.y"

    async def backends(self) -> set[int]:
        return await backends(self.world.engine, POOL)

    async def until_normal(self) -> None:
        """Until each connection of the pool has served some requests since the last failure."""
        in_a_row = 0
        while in_a_row < 3 * POOL:
            in_a_row = in_a_row + 1 if await self.works() else 0
            if not in_a_row:
                await asyncio.sleep(0.02)

    def failures(self) -> int:
        """The queries that failed."""
        return sum(count for labels, count in self.world.counts("lookups").items() if "ok" not in labels)


@asynccontextmanager
async def app(url: str, what: str, *, lookups: float = 0.25) -> AsyncIterator[App]:
    async with (
        proxied(url) as (proxy, through),
        deployed(
            through,
            {7: "7@x.y"},
            engine={"pool_size": POOL, "max_overflow": 0},
            lookups=LookupLimits(timeout=timedelta(seconds=lookups), ttl=timedelta(0), negative_ttl=timedelta(0)),
            revocation=Revocation(max_staleness=timedelta(0)),
            **({} if what == "sessions" else {"store": None}),
        ) as world,
    ):
        today = await world.authority.issue(Session(user_id="7", email="7@x.y"))
        yield App(proxy, world, today.token if what == "sessions" else await world.old({"userId": "7"}))
        proxy.repair()


def calls(store: SQLAlchemySessionStore) -> list[Callable[[], Coroutine[Any, Any, object]]]:
    """All calls of a log-in, a log-out or a page of sessions."""
    one = record()
    return [
        lambda: store.stamp("7"),
        lambda: store.add(one),
        lambda: store.statuses([SessionKey(session_id=one.id, user_id="7")]),
        lambda: store.revoke(one.id),
        lambda: store.replace_token(SessionKey(session_id=one.id, user_id="7"), user_id="7", session_token="0" * 64),
        lambda: store.revoke_token(one),
        lambda: store.revoke_user("7"),
        store.revoke_all,
        lambda: store.sessions_of("7"),
        lambda: store.active_users(limit=10),
    ]


class TestDeadPools:
    @pytest.mark.parametrize("fault", ["half-open", "half-open without traffic", "cut", "reset"])
    @pytest.mark.parametrize("what", ["claims", "sessions"])
    async def test_a_pool_that_died_costs_few_queries(self, postgres_url: str, what: str, fault: Any) -> None:
        async with app(postgres_url, what) as under_test:
            before = await under_test.backends()
            assert len(before) == POOL
            await until(under_test.works)
            fault, *without_traffic = fault.split(" ", 1)
            under_test.proxy.set(fault)
            ends = asyncio.get_running_loop().time() + OUTAGE
            while asyncio.get_running_loop().time() < ends:
                await asyncio.sleep(0.02)
                assert without_traffic or not await under_test.works()
            under_test.proxy.repair()
            failures = under_test.failures()
            await under_test.until_normal()
            assert under_test.failures() - failures <= FEW
            assert not before & await under_test.backends()

    @pytest.mark.parametrize(("lookups", "works"), [(float(LIMIT), True), (0.25, False)])
    @pytest.mark.parametrize("what", ["claims", "sessions"])
    async def test_a_slow_query_leaves_a_healthy_pool_unchanged(
        self, postgres_url: str, monkeypatch: pytest.MonkeyPatch, what: str, lookups: float, works: bool
    ) -> None:
        """A lock makes it slow. Only the connection of a query that times out is closed."""
        monkeypatch.setattr(pool_probe, "REPLY_TIMEOUT", float(LIMIT))
        async with app(postgres_url, what, lookups=lookups) as under_test:
            before = await under_test.backends()
            taken = list[object]()
            sa.event.listen(under_test.world.engine.sync_engine, "checkout", lambda *_: taken.append(1))
            async with locked(postgres_url, "users" if what == "claims" else "user_sessions"):
                request = asyncio.create_task(under_test.works())
                await until(lambda: len(taken) >= POOL if works else request.done())
            assert await request is works
            await under_test.world.authority.aclose()
            assert len(before & await under_test.backends()) >= POOL - (0 if works else WIDTH)

    async def test_closing_an_authority_waits_for_the_probe(self, postgres_url: str) -> None:
        async with app(postgres_url, "claims") as under_test:
            await under_test.backends()
            under_test.proxy.set("half-open")
            assert not await under_test.works()
            await until(lambda: checked_out(under_test.world.engine) == POOL)  # the probe has the idle ones
            await under_test.world.authority.aclose()
            assert checked_out(under_test.world.engine) == 0
            assert not [task for task in asyncio.all_tasks() if "PoolProbe" in repr(task)]

    @pytest.mark.parametrize("fault", ["half-open", "delay"])
    async def test_each_call_of_the_store_ends_without_a_reply_too(
        self, postgres_url: str, monkeypatch: pytest.MonkeyPatch, fault: Fault
    ) -> None:
        monkeypatch.setattr(sessions, "TIMEOUT", 0.3)
        async with app(postgres_url, "sessions") as under_test:
            await under_test.backends()
            under_test.proxy.set(fault)
            called = calls(under_test.world.store)
            results = await asyncio.gather(*(call() for call in called), return_exceptions=True)
            assert [type(result) for result in results] == [Unavailable] * len(called)
            under_test.proxy.repair()
            monkeypatch.setattr(sessions, "TIMEOUT", float(LIMIT))
            for call in calls(under_test.world.store):
                await call()

    async def test_a_log_in_on_a_dead_connection_fails_and_the_next_one_works(self, postgres_url: str) -> None:
        """With the default limits: five seconds, and two for asyncpg's graceful close."""
        async with app(postgres_url, "sessions") as under_test:
            await under_test.backends()
            under_test.proxy.set("half-open")
            under_test.proxy.repair()
            with pytest.raises(Unavailable):
                await under_test.world.log_in("7")
            _, session_id = await under_test.world.log_in("7")
            assert await under_test.world.authority.revoke(session_id, user_id="7")

    async def test_on_sqlite_a_transaction_completes_and_only_a_lock_times_out(
        self, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sessions, "TIMEOUT", 0.0)
        async with deployed(sqlite_url, engine={"connect_args": {"timeout": 0.2}}) as world:
            for call in calls(world.store):
                await call()
            async with locked(sqlite_url):
                with pytest.raises(Unavailable):
                    await world.store.revoke_all()
            await world.store.revoke_all()
