"""A database that goes away: today's tokens pass, old ones take what is declared, nothing fails open; it comes back.

`OUTAGE_SECONDS=60` makes the outages of the system's clock as long as a real one.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from jwt_middleware import Claim, LookupFacts, LookupLimits, Revocation, SilentObserver, names
from jwt_middleware import SQLAlchemyClaims as Claims
from jwt_middleware import SQLAlchemySessionStore as Store
from jwt_middleware.errors import Unavailable
from jwt_middleware.testing import old_token
from tests.support.proxy import FAULTS, Fault, Proxy, proxied
from tests.support.world import FakeClock, Session, authority_of

OUTAGE = float(os.environ.get("OUTAGE_SECONDS", "3"))
BOUND = 1.0
"""Seconds of `max_staleness`, where there is no grace."""
POOL = 5
RECOVERY = 5.0
SLACK = 5.0
"""Seconds that a busy machine may add to what is promised."""

users = sa.Table("users", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("email", sa.Text))


@dataclass(slots=True, kw_only=True)
class Strict:
    """Without a default for what the database knows."""

    user_id: Annotated[str, Claim("userId")]
    email: Annotated[str, Claim(since=2)]


@dataclass
class Probes(SilentObserver):
    """Counts the queries that an open breaker lets through, and how many of them were in flight at once."""

    authority: Any = None
    begun: Counter[str] = field(default_factory=Counter)
    flying: defaultdict[str, set[object]] = field(default_factory=lambda: defaultdict(set))
    most: int = 0

    def looking_up(self, lookup: str, waiters: Sequence[object], total: int) -> object:
        handle = object()
        if self.is_open(lookup):
            self.begun[lookup] += 1
            self.flying[lookup].add(handle)
            self.most = max(self.most, len(self.flying[lookup]))
        return handle

    def looked_up(self, handle: object, facts: LookupFacts) -> None:
        self.flying[facts.lookup].discard(handle)

    def is_open(self, lookup: str) -> bool:
        gauges = self.authority.parts.counters.gauges()
        wanted = ((names.LOOKUP, lookup),)
        return any(read() for metric, at, read in gauges if metric is names.LOOKUP_BREAKER_OPEN and at == wanted)


@dataclass
class Deployment:
    """Two services on one database behind a proxy: one is lenient, one refuses what it cannot know."""

    proxy: Proxy
    engine: AsyncEngine
    store: Store
    lenient: Any
    strict: Any
    probes: dict[str, Probes]
    tokens: dict[str, tuple[Any, str]] = field(default_factory=dict)

    async def prepare(self) -> None:
        """Tokens by what they are, each seen once but for one; two whose sessions were revoked."""
        await self.store.create_all()
        async with self.engine.begin() as connection:
            await connection.run_sync(users.metadata.create_all)
            await connection.execute(users.insert().values(id=7, email="7@x.y"))
        for name, at in (("lenient", self.lenient), ("strict", self.strict)):
            for kind in ("today", "new", "ended", "ended by sql"):
                issued = await at.issue(at.schema.cls(user_id="7", email="today@x.y"))
                self.tokens[f"{name} {kind}"] = at, issued.token
                if kind == "today":
                    old = old_token(at, {"userId": "7"}, version=1, sid=issued.session_id)
                    self.tokens[f"{name} old"] = at, old
                elif kind == "ended":
                    await at.revoke(issued.session_id)
                elif kind == "ended by sql":
                    statement = sa.text("UPDATE user_sessions SET is_active = false WHERE id = :id")
                    async with self.engine.begin() as connection:
                        await connection.execute(statement, {"id": issued.session_id})

        async with AsyncExitStack() as all_of_them:  # as the pool of a busy app is
            for _ in range(POOL):
                await all_of_them.enter_async_context(self.engine.connect())

    async def ask(self, kind: str) -> str:
        at, token = self.tokens[kind]
        outcome = await at.authenticate([(b"authorization", b"Bearer " + token.encode())])
        return str(outcome.session.email) if outcome.session else str(outcome.reason.value)

    async def ask_all(self, *but: str) -> dict[str, set[str]]:
        """What ten requests of each kind, all at once, are told."""
        kinds = [kind for kind in self.tokens if not kind.endswith(but)] * 10
        said = defaultdict(set)
        for kind, answer in zip(kinds, await asyncio.gather(*map(self.ask, kinds)), strict=True):
            said[kind].add(answer)
        return dict(said)

    async def until_normal(self, *but: str, clock: FakeClock | None = None) -> float:
        """Seconds until everything is as ever."""
        began = time.monotonic()
        wanted = {kind: {answer} for kind, answer in NORMAL.items() if not kind.endswith(but)}
        while await self.ask_all(*but) != wanted:
            if clock is not None:
                clock.advance(0.5)  # until the breaker lets a probe through
            await asyncio.sleep(0.02)
        return time.monotonic() - began

    async def at_rest(self) -> None:
        while self.engine.pool.checkedout():  # type: ignore[attr-defined] # of every pool that has connections
            await asyncio.sleep(0.02)


NORMAL = {
    f"{name} {kind}": answer
    for name in ("lenient", "strict")
    for kind, answer in {
        "today": "today@x.y",
        "new": "today@x.y",
        "old": "7@x.y",
        "ended": "session_revoked",
        "ended by sql": "session_revoked",
    }.items()
}


@asynccontextmanager
async def deployment(url: str, *, grace: float, bound: float = BOUND, **settings: Any) -> AsyncIterator[Deployment]:
    """The lenient one has a grace, and a default for what is missing."""
    async with proxied(url) as (proxy, through):
        engine = create_async_engine(through, pool_size=POOL, max_overflow=0)
        store, probes = Store(engine), {"lenient": Probes(), "strict": Probes()}

        def service(cls: type[Any], name: str, grace: float) -> Any:
            authority = probes[name].authority = authority_of(
                cls,
                sources=[Claims(engine, users, key=users.c.id, columns={"email": users.c.email})],
                store=store,
                lookups=LookupLimits(ttl=timedelta(0), negative_ttl=timedelta(0)),
                revocation=Revocation(max_staleness=timedelta(seconds=bound), stale_if_error=timedelta(seconds=grace)),
                observers=[probes[name]],
                **settings,
            )
            return authority

        try:
            yield Deployment(
                proxy, engine, store, service(Session, "lenient", grace), service(Strict, "strict", 0.0), probes
            )
        finally:
            proxy.mend()
            await engine.dispose()


@pytest.mark.parametrize("fault", FAULTS)
def test_an_outage_is_survived_and_ends(postgres_url: str, fault: Fault) -> None:
    async def main() -> None:
        async with deployment(postgres_url, grace=OUTAGE + 600) as under_test:
            await under_test.prepare()
            await under_test.until_normal("new")
            under_test.proxy.set(fault)
            began = time.monotonic()
            said, late = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
            while (elapsed := time.monotonic() - began) < OUTAGE:
                for kind, answers in (await under_test.ask_all()).items():
                    (late if elapsed > BOUND else said)[kind] |= answers
                await asyncio.sleep(0.02)
            for kind, answers in said.items():
                assert answers <= WITHIN_THE_BOUND[kind], kind
            assert dict(late) == PAST_THE_BOUND
            under_test.proxy.mend()
            took = await under_test.until_normal()
            assert took < RECOVERY + SLACK
            for probes in under_test.probes.values():
                assert probes.most <= 1
                for count in probes.begun.values():
                    assert count <= 4 + (OUTAGE + RECOVERY + SLACK) / 4  # after 0.5, 1, 2, and each further 4 seconds
            if fault in ("cut", "reset"):  # where a failure takes no time a breaker opens at once
                assert sum(sum(probes.begun.values()) for probes in under_test.probes.values()) > 0
            await under_test.at_rest()
            await under_test.lenient.aclose()
            await under_test.strict.aclose()

    asyncio.run(asyncio.wait_for(main(), OUTAGE + 60))


PAST_THE_BOUND: dict[str, set[str]] = {
    "lenient today": {"today@x.y"},
    "lenient old": {"Unknown"},
    "lenient new": {"sessions_unavailable"},
    "lenient ended": {"session_revoked"},
    "lenient ended by sql": {"session_revoked"},
    "strict today": {"sessions_unavailable"},
    "strict old": {"sessions_unavailable"},
    "strict new": {"sessions_unavailable"},
    "strict ended": {"session_revoked"},
    "strict ended by sql": {"session_revoked"},
}
WITHIN_THE_BOUND: dict[str, set[str]] = {
    **PAST_THE_BOUND,
    "strict today": {"today@x.y", "sessions_unavailable"},  # a round may pass the bound while it waits
    "strict old": {"claims_unavailable", "sessions_unavailable"},
}


@pytest.mark.parametrize("fault", ["cut", "half-open"])
def test_what_passes_during_an_outage_is_a_matter_of_its_clock(postgres_url: str, fault: Fault) -> None:
    """A minute of outage on a clock that stands still: nothing is told by chance."""

    async def main() -> None:
        clock = FakeClock(wall=time.time())
        async with deployment(postgres_url, bound=5.0, grace=60.0, clock=clock) as under_test:
            await under_test.prepare()
            await under_test.until_normal("new", clock=clock)
            under_test.proxy.set(fault)
            clock.advance(2.0)
            assert await under_test.ask_all() == {
                **PAST_THE_BOUND,
                "strict today": {"today@x.y"},  # within the bound
                "strict old": {"claims_unavailable"},
            }
            clock.advance(10.0)
            assert await under_test.ask_all() == PAST_THE_BOUND
            if fault == "cut":
                with pytest.raises(Unavailable):
                    await under_test.lenient.issue(Session(user_id="7", email="x"))
            clock.advance(60.0)
            assert await under_test.ask_all() == {
                **PAST_THE_BOUND,
                "lenient today": {"sessions_unavailable"},
                "lenient old": {"sessions_unavailable"},
            }
            under_test.proxy.mend()
            await under_test.until_normal(clock=clock)
            await under_test.at_rest()
            await under_test.lenient.aclose()
            await under_test.strict.aclose()

    asyncio.run(asyncio.wait_for(main(), 90))
