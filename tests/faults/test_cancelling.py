"""Requests that leave while they wait: no connection stays checked out, none stays at the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from jwt_middleware import LookupLimits, SQLAlchemyClaims, SQLAlchemySessionStore
from jwt_middleware.lookup.lanes import WIDTH
from jwt_middleware.testing import old_token
from tests.support.asgi import counts
from tests.support.proxy import Proxy, proxied
from tests.support.world import Session, authority_of

users = sa.Table("users", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("email", sa.Text))
USERS = 50
REQUESTS = 1_000


@dataclass
class Deployment:
    proxy: Proxy
    url: str
    engine: AsyncEngine
    authority: Any
    tokens: list[str]

    async def ask(self, token: str) -> str:
        outcome = await self.authority.authenticate([(b"authorization", b"Bearer " + token.encode())])
        return str(outcome.session.email) if outcome.session else str(outcome.reason.value)

    async def as_ever(self) -> bool:
        return await asyncio.gather(*map(self.ask, self.tokens)) == [f"{user}@x.y" for user in range(USERS)]

    @asynccontextmanager
    async def suffering(self, fault: str | None) -> AsyncIterator[None]:
        """Until at least one query was given up, where there is a fault."""
        if fault is None:
            yield
            return
        if fault != "locked":
            self.proxy.set("delay" if fault == "delay" else "half-open")
        locking = await asyncpg.connect(self.url.replace("+asyncpg", ""))
        await locking.execute("BEGIN; LOCK TABLE users, user_sessions IN ACCESS EXCLUSIVE MODE")
        if fault != "locked":
            await locking.execute("ROLLBACK")
        yield
        while not any("timeout" in labels for labels in counts(self.authority, "lookups")):
            await asyncio.sleep(0.02)
        await locking.close()
        self.proxy.mend()

    async def connections(self) -> int:
        """How many the server has."""
        watching = await asyncpg.connect(self.url.replace("+asyncpg", ""))
        count: int = await watching.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await watching.close()
        return count


@asynccontextmanager
async def deployment(url: str) -> AsyncIterator[Deployment]:
    async with proxied(url) as (proxy, through):
        engine = create_async_engine(through, pool_size=5, max_overflow=0)
        store = SQLAlchemySessionStore(engine)
        authority = authority_of(
            sources=[SQLAlchemyClaims(engine, users, key=users.c.id, columns={"email": users.c.email})],
            store=store,
            lookups=LookupLimits(timeout=timedelta(seconds=1)),
        )
        try:
            await store.create_all()
            async with engine.begin() as connection:
                await connection.run_sync(users.metadata.create_all)
                await connection.execute(sa.insert(users), [{"id": n, "email": f"{n}@x.y"} for n in range(USERS)])
            tokens = []
            for user in range(USERS):
                issued = await authority.issue(Session(user_id=str(user), email="x"))
                tokens.append(old_token(authority, {"userId": str(user)}, version=1, sid=issued.session_id))
            yield Deployment(proxy, url, engine, authority, tokens)
        finally:
            await engine.dispose()


@pytest.mark.parametrize("fault", [None, "delay", "half-open", "locked"])
def test_a_thousand_cancelled_requests_leave_nothing_behind(postgres_url: str, fault: str | None) -> None:
    async def main() -> None:
        async with deployment(postgres_url) as under_test:
            before = await under_test.connections()
            async with under_test.suffering(fault):
                tasks = [
                    asyncio.create_task(under_test.ask(under_test.tokens[number % USERS])) for number in range(REQUESTS)
                ]
                for number, task in enumerate(tasks):
                    if number % 50 == 0:
                        await asyncio.sleep(0.002)
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            while not await under_test.as_ever():
                await asyncio.sleep(0.05)
            await under_test.authority.aclose()
            while under_test.engine.pool.checkedout():  # type: ignore[attr-defined] # of pools that have connections
                await asyncio.sleep(0.02)
            while await under_test.connections() > max(before, WIDTH):  # the second place may have opened one
                await asyncio.sleep(0.02)
        while await under_test.connections():
            await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(main(), 60))
