"""A database that fails: today's tokens pass, old ones get defaults, no session is accepted unchecked; it recovers.

`OUTAGE_SECONDS=60` makes the outages on the machine's clock as long as a real one.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from jwt_middleware import Claim, LookupFacts, LookupLimits, Revocation, SilentObserver, Unavailable, names
from jwt_middleware.sqlalchemy import SQLAlchemySessionStore, user_sessions
from tests.support.databases import LIMIT, Deployed, backends, checked_out, database, until
from tests.support.proxy import FAULTS, Fault, Proxy, proxied
from tests.support.world import FakeClock, Session

OUTAGE = float(os.environ.get("OUTAGE_SECONDS", "3"))
BOUND = 1.0
"""Seconds of `max_staleness`, without a grace."""
POOL = 5
PROBES = 3
"""Queries that an open breaker lets through after an outage, at most: the first may meet a dead connection."""


@dataclass(slots=True, kw_only=True)
class Strict:
    """Without a default for what the database holds."""

    user_id: Annotated[str, Claim("userId")]
    email: Annotated[str, Claim(since=2)]


@dataclass
class Probes(SilentObserver):
    """Counts the queries that an open breaker lets through, by lookup, and how many of them ran at once."""

    world: Any = None
    begun: Counter[str] = field(default_factory=Counter)
    running: Counter[str] = field(default_factory=Counter)
    most: int = 0

    def looking_up(self, lookup: str, waiters: Sequence[object], total: int) -> bool:
        if probing := self.is_open(lookup):
            self.begun[lookup] += 1
            self.running[lookup] += 1
            self.most = max(self.most, self.running[lookup])
        return probing

    def looked_up(self, probing: object, facts: LookupFacts) -> None:
        self.running[facts.lookup] -= bool(probing)

    def is_open(self, lookup: str) -> bool:
        gauges = self.world.authority.parts.counters.gauges()
        breaker = names.LOOKUP_BREAKER_OPEN, ((names.LOOKUP, lookup),)
        return any(read() for metric, attributes, read in gauges if (metric, attributes) == breaker)


@dataclass
class Services:
    """Two services on one database behind a proxy: only the lenient one has a grace, and a default for the claim."""

    proxy: Proxy
    worlds: dict[str, Deployed]
    probes: dict[str, Probes]
    tokens: dict[str, tuple[Deployed, str]] = field(default_factory=dict)

    async def log_in(self) -> None:
        """For each service a token of each kind."""
        for name, world in self.worlds.items():
            tokens = {
                kind: await world.log_in("7", email="today@x.y") for kind in ("today", "new", "ended", "ended by sql")
            }
            self.tokens |= {f"{name} {kind}": (world, token) for kind, (token, _) in tokens.items()}
            self.tokens[f"{name} old"] = world, await world.old({"userId": "7"}, sid=tokens["today"][1])
            await world.authority.revoke(tokens["ended"][1])
            ending = sa.update(user_sessions).where(user_sessions.c.id == UUID(tokens["ended by sql"][1]))
            async with world.engine.begin() as connection:
                await connection.execute(ending.values(is_active=False))

    async def ask_all(self, *but: str) -> dict[str, set[str]]:
        """The results of ten requests with a token of each kind, all at once."""
        kinds = [kind for kind in self.tokens if not kind.endswith(but)]
        requests = [world.email(token) for world, token in (self.tokens[kind] for kind in kinds) for _ in range(10)]
        results = await asyncio.gather(*requests)
        return {kind: set(results[10 * place : 10 * place + 10]) for place, kind in enumerate(kinds)}

    async def until_normal(self, *but: str, clock: FakeClock | None = None) -> None:
        wanted = {kind: {normal} for kind, (normal, _) in RESULTS.items() if not kind.endswith(but)}

        async def normal() -> bool:
            if clock is not None:
                clock.advance(0.5)  # until the breaker lets a probe through
            return await self.ask_all(*but) == wanted

        await until(normal)


RESULTS = {
    "lenient today": ("today@x.y", "today@x.y"),
    "lenient old": ("7@x.y", "Unknown"),
    "lenient new": ("today@x.y", "sessions_unavailable"),
    "lenient ended": ("session_revoked", "session_revoked"),
    "lenient ended by sql": ("session_revoked", "session_revoked"),
    "strict today": ("today@x.y", "sessions_unavailable"),
    "strict old": ("7@x.y", "sessions_unavailable"),
    "strict new": ("today@x.y", "sessions_unavailable"),
    "strict ended": ("session_revoked", "session_revoked"),
    "strict ended by sql": ("session_revoked", "session_revoked"),
}
"""Of each kind of token: what a request with it gets normally, and during an outage past the bound."""
PAST_THE_BOUND = {kind: {late} for kind, (_, late) in RESULTS.items()}


@asynccontextmanager
async def services(url: str, *, grace: float, bound: float = BOUND, **settings: Any) -> AsyncIterator[Services]:
    async with (
        asyncio.timeout(OUTAGE + LIMIT),
        proxied(url) as (proxy, through),
        database(through, {7: "7@x.y"}, pool_size=POOL, max_overflow=0) as engine,
    ):
        await SQLAlchemySessionStore(engine).create_all()
        probes = {"lenient": Probes(), "strict": Probes()}
        settings["lookups"] = LookupLimits(ttl=timedelta(0), negative_ttl=timedelta(0))
        worlds = {}
        for name, cls, lenience in (("lenient", Session, grace), ("strict", Strict, 0.0)):
            settings["revocation"] = Revocation(
                max_staleness=timedelta(seconds=bound), stale_if_error=timedelta(seconds=lenience)
            )
            worlds[name] = probes[name].world = Deployed(engine, cls, observers=[probes[name]], **settings)
        under_test = Services(proxy, worlds, probes)
        await under_test.log_in()
        await backends(engine, POOL)  # the pool of a busy app is full
        yield under_test
        await until(lambda: checked_out(engine) == 0)
        for world in worlds.values():
            await world.authority.aclose()


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_outage_is_survived_and_ends(postgres_url: str, fault: Fault) -> None:
    async with services(postgres_url, grace=OUTAGE + 600) as under_test:
        await under_test.until_normal("new")
        under_test.proxy.set(fault)
        began = time.monotonic()
        early, late = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
        while (elapsed := time.monotonic() - began) < OUTAGE or not late:
            for kind, results in (await under_test.ask_all()).items():
                (late if elapsed > BOUND else early)[kind] |= results
            await asyncio.sleep(0.02)
        for kind, results in early.items():
            accepted = {"strict today": {"today@x.y"}, "strict old": {"claims_unavailable"}}.get(kind, set())
            assert results <= PAST_THE_BOUND[kind] | accepted, kind  # a round may pass the bound while it waits
        assert dict(late) == PAST_THE_BOUND
        under_test.proxy.repair()
        during = {name: Counter(probes.begun) for name, probes in under_test.probes.items()}
        elapsed = time.monotonic() - began
        await under_test.until_normal()
        for name, probes in under_test.probes.items():
            assert probes.most <= 1
            for lookup, count in probes.begun.items():
                assert during[name][lookup] <= 4 + elapsed / 4  # after 0.5, 1, 2, and each further 4 seconds
                assert count - during[name][lookup] <= PROBES
        if fault in ("cut", "reset"):  # a failure takes no time, so a breaker opens at once
            assert sum(sum(count.values()) for count in during.values()) > 0


@pytest.mark.parametrize("fault", ["cut", "half-open"])
async def test_the_clock_decides_what_passes_during_an_outage(postgres_url: str, fault: Fault) -> None:
    """A minute of outage on a clock that stands still."""
    clock = FakeClock(wall=time.time())
    async with services(postgres_url, bound=5.0, grace=60.0, clock=clock) as under_test:
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
                await under_test.worlds["lenient"].log_in("7", email="x")
        clock.advance(60.0)
        assert await under_test.ask_all() == {
            **PAST_THE_BOUND,
            "lenient today": {"sessions_unavailable"},
            "lenient old": {"sessions_unavailable"},
        }
        under_test.proxy.repair()
        await under_test.until_normal(clock=clock)
