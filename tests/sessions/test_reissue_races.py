"""Revoking against reissuing and renewing, many times: whoever comes first, nobody comes back."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from jwt_middleware import MemorySessionStore, Reason, SessionStore
from jwt_middleware.testing import old_token
from jwt_middleware.types import SessionKey, SessionStatus
from tests.support.deployment import DAY, PATIENT
from tests.support.stores import opened
from tests.support.world import Session, authority_of


class Ahead:
    """The machine's clocks, which a test may put forward."""

    def __init__(self) -> None:
        self.by = 0.0

    def now(self) -> float:
        return time.time() + self.by

    def monotonic(self) -> float:
        return time.monotonic() + self.by


class Unhurried(MemorySessionStore):
    """Every call takes some turns of the loop, before and after: others come between."""

    def __init__(self, chance: random.Random, clock: Ahead) -> None:
        super().__init__(clock=clock)
        self._chance = chance

    async def _turns(self) -> None:
        for _ in range(self._chance.randrange(6)):
            await asyncio.sleep(0)

    async def statuses(self, keys: Collection[SessionKey]) -> Mapping[SessionKey, SessionStatus]:
        await self._turns()
        found = await super().statuses(keys)
        await self._turns()
        return found

    async def replace_token(self, session_id: str, **values: Any) -> bool:
        await self._turns()
        done = await super().replace_token(session_id, **values)
        await self._turns()
        return done


class Races:
    """One store, a process that reissues, and another one; either may revoke."""

    def __init__(self, store: SessionStore, chance: random.Random, clock: Ahead) -> None:
        self.chance = chance
        self.clock = clock
        settings: dict[str, Any] = {"lookups": PATIENT, "store": store, "clock": clock}
        self.ours = authority_of(**settings, reissue=True, renew_within=timedelta(days=2))
        self.theirs = authority_of(**settings)
        self.results: Counter[str] = Counter()
        self.tokens: list[str] = []

    async def race(self, user: str) -> None:
        """A cookie that is due is used while its session is revoked."""
        issued = await self.ours.issue(Session(user_id=user))
        verified = await self.ours.verify(issued.token)
        envelope = {"sid": issued.session_id, "auth_time": verified.auth_time, "iat": verified.issued_at}
        if self.chance.random() < 0.5:
            envelope["exp"] = int(self.clock.now()) + DAY  # due for a renewal, else for a reissue
        token = old_token(self.ours, {"userId": user}, **envelope)
        using = asyncio.ensure_future(self._use(token))
        for _ in range(self.chance.randrange(40)):
            await asyncio.sleep(0)
        revoking = self.chance.choice([self.ours, self.theirs])
        if self.chance.random() < 0.5:
            await revoking.revoke(issued.session_id)
        else:
            await revoking.revoke_user(user)
        new = await using
        self.results["kept back" if new is None else "reissued"] += 1
        self.tokens += [token] if new is None else [token, new]

    async def _use(self, token: str) -> str | None:
        outcome = await self.ours.authenticate([(b"cookie", f"__Host-session={token}".encode())])
        set_cookie: str | None = outcome.due and await self.ours.parts.reissuer.set_cookie(outcome.due)
        return set_cookie and set_cookie.partition(";")[0].partition("=")[2]

    async def revived(self) -> int:
        """How many of the tokens, the old and the new, open anything in either process."""
        alive = 0
        for authority in (self.ours, self.theirs):
            for token in self.tokens:
                outcome = await authority.authenticate([(b"cookie", f"__Host-session={token}".encode())])
                assert outcome.reason in (None, Reason.SESSION_REVOKED)
                alive += outcome.reason is None
        return alive

    async def run(self, races: int, *, at_once: int) -> None:
        for start in range(0, races, at_once):
            await asyncio.gather(*(self.race(str(user)) for user in range(start, start + at_once)))
        self.clock.by += 5.0  # max_staleness: what the other process revoked is seen by now
        assert self.results.total() == races
        assert self.results["reissued"] > races / 20
        assert self.results["kept back"] > races / 20
        assert await self.revived() == 0
        for authority in (self.ours, self.theirs):
            await authority.aclose()


def test_ten_thousand_races_of_revoking_and_reissuing_revive_nobody() -> None:
    chance, clock = random.Random(5), Ahead()
    asyncio.run(Races(Unhurried(chance, clock), chance, clock).run(10_000, at_once=200))


async def test_races_in_a_database_revive_nobody(database_url: str) -> None:
    chance, clock = random.Random(7), Ahead()
    races = 150 if database_url.startswith("sqlite") else 500  # its file has one writer at a time
    async with opened(database_url, clock) as store:
        await Races(store, chance, clock).run(races, at_once=5)
