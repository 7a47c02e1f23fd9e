"""A pool whose connections have all died without a word: found by asking, not by one time-out after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from jwt_middleware import LookupLimits, Revocation, SQLAlchemyClaims, SQLAlchemySessionStore
from jwt_middleware.errors import Unavailable
from jwt_middleware.lookup.lanes import WIDTH
from jwt_middleware.sqlalchemy import sessions as stores
from jwt_middleware.sqlalchemy.pool_probe import SUSPICIOUS
from jwt_middleware.testing import old_token
from jwt_middleware.types import SessionKey
from tests.support.databases import checked_out
from tests.support.proxy import Fault, Proxy, proxied
from tests.support.stores import record
from tests.support.world import Session, authority_of

POOL = 20
OUTAGE = 3.0
RECOVERY = 5.0
"""Seconds that are promised."""

users = sa.Table("users", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("email", sa.Text))


@dataclass
class App:
    proxy: Proxy
    engine: AsyncEngine
    store: SQLAlchemySessionStore
    authority: Any
    token: str

    async def works(self) -> bool:
        outcome = await self.authority.authenticate([(b"authorization", b"Bearer " + self.token.encode())])
        return outcome.session is not None and outcome.session.email == "7@x.y"

    async def backends(self) -> set[int]:
        """The server's processes behind every connection of the pool, which are all opened by that."""
        async with AsyncExitStack() as all_of_them:
            connections = [await all_of_them.enter_async_context(self.engine.connect()) for _ in range(POOL)]
            return {(await each.execute(sa.text("SELECT pg_backend_pid()"))).scalar_one() for each in connections}

    async def until_normal(self) -> float:
        """Seconds until the last failure, after which every connection of the pool would have had its turn."""
        began = failed = time.monotonic()
        in_a_row = 0
        while in_a_row < 3 * POOL:
            if await self.works():
                in_a_row += 1
            else:
                in_a_row, failed = 0, time.monotonic()
                await asyncio.sleep(0.02)
        return failed - began


@asynccontextmanager
async def app(url: str, what: str, *, lookups: float = 0.25, **pool: Any) -> AsyncIterator[App]:
    """One whose every request asks the database, for claims or for its session."""
    async with proxied(url) as (proxy, through):
        engine = create_async_engine(through, **{"pool_size": POOL, "max_overflow": 0, **pool})
        store = SQLAlchemySessionStore(engine)
        await store.create_all()
        async with engine.begin() as connection:
            await connection.run_sync(users.metadata.create_all)
            await connection.execute(users.insert().values(id=7, email="7@x.y"))
        authority = authority_of(
            sources=[SQLAlchemyClaims(engine, users, key=users.c.id, columns={"email": users.c.email})],
            store=store if what == "sessions" else None,
            lookups=LookupLimits(timeout=timedelta(seconds=lookups), ttl=timedelta(0), negative_ttl=timedelta(0)),
            revocation=Revocation(max_staleness=timedelta(0)),
        )
        token = (await authority.issue(Session(user_id="7", email="7@x.y"))).token
        if what == "claims":
            token = old_token(authority, {"userId": "7"}, version=1)
        try:
            yield App(proxy, engine, store, authority, token)
            await authority.aclose()
            assert checked_out(engine) == 0
        finally:
            proxy.mend()
            await engine.dispose()


@pytest.mark.parametrize(
    ("fault", "traffic"), [("half-open", True), ("half-open", False), ("cut", True), ("reset", True)]
)
@pytest.mark.parametrize("what", ["claims", "sessions"])
def test_three_seconds_that_kill_a_whole_pool_are_over_five_seconds_later(
    postgres_url: str, what: str, fault: Fault, traffic: bool
) -> None:
    async def main() -> None:
        async with app(postgres_url, what) as under_test:
            before = await under_test.backends()
            assert len(before) == POOL
            assert await under_test.works()
            under_test.proxy.set(fault)
            ends = time.monotonic() + OUTAGE
            while time.monotonic() < ends:
                await asyncio.sleep(0.02)
                assert not traffic or not await under_test.works()
            under_test.proxy.mend()
            assert await under_test.until_normal() < RECOVERY
            assert not before & await under_test.backends()

    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize(("lookups", "works"), [(30.0, True), (0.25, False)])
@pytest.mark.parametrize("what", ["claims", "sessions"])
def test_a_slow_query_in_health_leaves_the_pool_what_it_was(
    postgres_url: str, what: str, lookups: float, works: bool
) -> None:
    """A lock is what makes it slow. Whoever is given up has its connection closed, and no other has."""

    async def main() -> None:
        async with app(postgres_url, what, lookups=lookups) as under_test:
            before = await under_test.backends()
            locking = create_async_engine(postgres_url)
            async with locking.begin() as connection:
                table = "users" if what == "claims" else "user_sessions"
                await connection.execute(sa.text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
                request = asyncio.create_task(under_test.works())
                await asyncio.sleep(2 * SUSPICIOUS)
            await locking.dispose()
            assert await request is works
            await under_test.authority.aclose()
            assert len(before & await under_test.backends()) >= POOL - (0 if works else WIDTH)

    asyncio.run(asyncio.wait_for(main(), 60))


def test_closing_waits_for_what_is_at_work(postgres_url: str) -> None:
    async def main() -> None:
        async with app(postgres_url, "claims") as under_test:
            await under_test.backends()
            under_test.proxy.set("half-open")
            assert not await under_test.works()
            while checked_out(under_test.engine) < POOL:  # the idle are being asked
                await asyncio.sleep(0.01)
            await under_test.authority.aclose()
            assert checked_out(under_test.engine) == 0
            assert not [task for task in asyncio.all_tasks() if "PoolProbe" in repr(task)]

    asyncio.run(asyncio.wait_for(main(), 60))


def calls(store: SQLAlchemySessionStore) -> list[Callable[[], Coroutine[Any, Any, object]]]:
    """All that a log-in, a log-out or a page of sessions asks of it."""
    one = record()
    return [
        lambda: store.stamp("7"),
        lambda: store.add(one),
        lambda: store.statuses([SessionKey(session_id=one.id, user_id="7")]),
        lambda: store.revoke(one.id),
        lambda: store.replace_token(one.id, user_id="7", session_token="0" * 64),
        lambda: store.revoke_token(one),
        lambda: store.revoke_user("7"),
        store.revoke_all,
        lambda: store.sessions_of("7"),
        lambda: store.active_users(limit=10),
    ]


@pytest.mark.parametrize("fault", ["half-open", "delay"])
def test_whatever_is_asked_of_the_store_ends_without_an_answer_too(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setattr(stores, "LONGEST", 0.3)

    async def main() -> None:
        async with app(postgres_url, "sessions") as under_test:
            await under_test.backends()
            under_test.proxy.set(fault)
            asked = calls(under_test.store)
            answers = await asyncio.gather(*(call() for call in asked), return_exceptions=True)
            assert [type(answer) for answer in answers] == [Unavailable] * len(asked)
            under_test.proxy.mend()
            monkeypatch.undo()
            for call in calls(under_test.store):
                await call()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_log_in_on_a_dead_connection_is_told_so_and_the_next_one_works(postgres_url: str) -> None:
    """With the limits that are shipped: five seconds, and two of asyncpg's for closing."""

    async def main() -> None:
        async with app(postgres_url, "sessions") as under_test:
            await under_test.backends()
            under_test.proxy.set("half-open")
            under_test.proxy.mend()
            began = time.monotonic()
            with pytest.raises(Unavailable):
                await under_test.authority.issue(Session(user_id="7", email="7@x.y"))
            assert time.monotonic() - began < 10
            issued = await under_test.authority.issue(Session(user_id="7", email="7@x.y"))
            assert await under_test.authority.revoke(issued.session_id, user_id="7")

    asyncio.run(asyncio.wait_for(main(), 60))


def test_on_sqlite_a_transaction_goes_on_to_its_end_and_only_a_lock_is_given_up(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "LONGEST", 0.0)

    async def main() -> None:
        engine = create_async_engine(sqlite_url, connect_args={"timeout": 0.2})
        store = SQLAlchemySessionStore(engine)
        await store.create_all()
        for call in calls(store):
            await call()
        async with engine.connect() as connection:
            await connection.execute(sa.text("BEGIN EXCLUSIVE"))
            with pytest.raises(Unavailable):
                await store.revoke_all()
        await store.revoke_all()
        await engine.dispose()

    asyncio.run(asyncio.wait_for(main(), 60))
