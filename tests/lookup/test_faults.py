"""A database that goes away: today's tokens pass, old ones take what is declared, nothing fails open; it comes back."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Literal

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from jwt_middleware import LookupLimits, Revocation, SQLAlchemyClaims, SQLAlchemySessionStore
from jwt_middleware.errors import Unavailable
from jwt_middleware.testing import old_token
from tests.lookup.proxy import proxied
from tests.lookup.test_databases import App, users
from tests.support import FakeClock, Session, authority_of


@pytest.mark.parametrize("fault", ["cut", "hanging"])
def test_an_outage_is_survived_and_ends(postgres_url: str, fault: Literal["cut", "hanging"]) -> None:
    async def main() -> None:
        async with proxied(postgres_url) as (proxy, url):
            engine = create_async_engine(url, pool_size=5, max_overflow=0, pool_pre_ping=False)
            clock, store = FakeClock(), SQLAlchemySessionStore(engine)
            authority = authority_of(
                sources=[SQLAlchemyClaims(engine, users, key=users.c.id, columns={"email": users.c.email})],
                store=store,
                lookups=LookupLimits(timeout=timedelta(seconds=1), ttl=timedelta(0), negative_ttl=timedelta(0)),
                revocation=Revocation(max_staleness=timedelta(seconds=5), stale_if_error=timedelta(seconds=60)),
                clock=clock,
            )
            under_test = App(engine, authority, [])
            try:
                await store.create_all()
                async with engine.begin() as connection:
                    await connection.run_sync(users.metadata.create_all)
                    await connection.execute(users.insert().values(id=7, email="7@x.y"))
                clock.wall = await store.stamp("7")
                issued = await authority.issue(Session(user_id="7", email="today@x.y"))
                ended = await authority.issue(Session(user_id="7", email="ended@x.y"))
                old = old_token(authority, {"userId": "7"}, version=1, sid=issued.session_id)
                never_seen = (await authority.issue(Session(user_id="7", email="new@x.y"))).token
                assert await under_test.ask(issued.token) == "today@x.y"
                assert await under_test.ask(old) == "7@x.y"
                await authority.revoke(ended.session_id)
                assert await under_test.ask(ended.token) == "session_revoked"

                proxy.set(fault)
                assert await under_test.ask(issued.token) == "today@x.y"  # within the bound
                clock.advance(10.0)
                answers = await asyncio.gather(*(under_test.ask(issued.token) for _ in range(50)))
                assert set(answers) == {"today@x.y"}  # and within the grace
                answers = await asyncio.gather(*(under_test.ask(old) for _ in range(50)))
                assert set(answers) == {"Unknown"}  # the default is the failure policy
                assert await under_test.ask(never_seen) == "sessions_unavailable"
                assert await under_test.ask(ended.token) == "session_revoked"
                if fault == "cut":
                    with pytest.raises(Unavailable):
                        await authority.issue(Session(user_id="7", email="x"))
                clock.advance(60.0)
                assert await under_test.ask(issued.token) == "sessions_unavailable"
                assert await under_test.ask(ended.token) == "session_revoked"

                proxy.set("open")
                for token, answer in ((issued.token, "today@x.y"), (old, "7@x.y"), (never_seen, "new@x.y")):
                    while await under_test.ask(token) != answer:
                        clock.advance(0.5)  # until the breaker lets a probe through
                        await asyncio.sleep(0.02)
                assert await under_test.ask(ended.token) == "session_revoked"
                while under_test.checked_out:
                    await asyncio.sleep(0.02)
                await authority.aclose()
            finally:
                await engine.dispose()

    asyncio.run(asyncio.wait_for(main(), 60))
