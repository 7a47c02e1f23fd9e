"""Renewal: a session in use slides its end, up to its greatest age, and its claims are fetched anew.

The races at the end revoke sessions while they are renewed or reissued: no revoked session returns.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from typing import Annotated, Any

import pytest
from structlog.testing import capture_logs

from jwt_middleware import Claim, LookupFacts, MemorySessionStore, SilentObserver, source
from jwt_middleware.testing import old_token
from jwt_middleware.types import SessionKey, SessionStatus
from tests.support.asgi import scope_of
from tests.support.lookups import turns
from tests.support.stores import opened
from tests.support.world import DAY, EPOCH, WEEK, FakeClock, World, cookie, cookie_of, digest


def renewing(**settings: Any) -> World:
    """Tokens live for a week and are renewed in their last two days; a session lives for 30 days."""
    return World(**{"renew_within": timedelta(days=2), **settings})


class TestRenewed:
    async def test_a_session_in_use_slides_its_end(self) -> None:
        world = renewing()
        first = await world.token()
        world.clock.advance(5.5 * DAY)
        new = cookie_of(response := await world.get(first))
        assert new is not None
        before, after = await world.claims(first), await world.claims(new)
        assert after == {**before, "iat": int(EPOCH + 5.5 * DAY), "exp": int(EPOCH + 5.5 * DAY) + WEEK}
        assert f"Max-Age={WEEK};" in response.headers["set-cookie"]
        assert response.headers["cache-control"] == "no-store"
        row = await world.row()
        assert (row.session_token, row.expires_at.timestamp()) == (digest(new), after["exp"])
        assert world.reissued == {("2", "renew"): 1}
        assert cookie_of(await world.get(new)) is None
        world.clock.advance(6 * DAY)
        assert (await world.get(first)).status_code == 401
        again = cookie_of(await world.get(new))
        assert again is not None
        assert (await world.claims(again))["exp"] == int(EPOCH + 11.5 * DAY) + WEEK

    async def test_a_cached_token_is_renewed_from_the_moment_that_its_renewal_is_due(self) -> None:
        world = renewing()
        first = await world.token()
        world.clock.advance(5 * DAY - 1)
        for _ in range(2):
            assert cookie_of(await world.get(first)) is None
        assert len(world.recorder.outcomes) == 1  # the second was a cache hit
        world.clock.advance(1)
        assert cookie_of(await world.get(first)) is not None

    async def test_a_token_that_waits_for_its_renewal_is_verified_once(self) -> None:
        world = renewing(headers=[(b"cache-control", b"public")])
        first = await world.token()
        world.clock.advance(6 * DAY)
        for _ in range(5):
            assert (await world.get(first)).status_code == 200
        assert list(world.counts("verifications").values()) == [1]
        world.echo.headers.clear()
        assert cookie_of(await world.get(first)) is not None

    async def test_a_session_is_renewed_up_to_its_greatest_age_and_then_ends(self) -> None:
        world = renewing(max_session_age=timedelta(days=10))
        token = await world.token()
        renewed = 0
        while (response := await world.get(token)).status_code == 200:
            if (new := cookie_of(response)) is not None:
                token, renewed = new, renewed + 1
            world.clock.advance(3_600)
        assert renewed == 1
        claims_end = world.clock.now() - EPOCH
        assert 10 * DAY <= claims_end <= 10 * DAY + 2 * 3_600
        assert response.headers["www-authenticate"]

    async def test_a_renewed_token_says_what_the_database_says_now(self) -> None:
        world = renewing()
        old = await world.old()
        assert (await world.get(old)).status_code == 200
        assert world.echo.session.email == "ada@example.com"  # and in the cache for a minute
        token = await world.token()
        world.clock.wall += 6 * DAY  # while no monotonic time passes: the cache still holds
        world.users.rows["1"]["email"] = "lovelace@example.com"
        asked = world.users.asked
        assert (await world.exchange(token))["email"] == "lovelace@example.com"
        assert world.users.asked == asked + 1

    async def test_an_old_payload_is_renewed_in_todays_shape(self) -> None:
        world = renewing(reissue=True)
        old = await world.old(tenant="x", exp=int(EPOCH) + DAY)
        claims = await world.exchange(old)
        assert (claims["version"], claims["email"], claims["tenant"]) == (2, "ada@example.com", "x")
        assert claims["exp"] == EPOCH + WEEK
        assert world.reissued == {("2", "renew"): 1}

    async def test_at_its_greatest_age_an_old_payload_is_still_reissued(self) -> None:
        world = renewing(reissue=True, max_session_age=timedelta(days=8))
        old = await world.old(auth_time=int(EPOCH) - 7 * DAY - 3_600, exp=int(EPOCH) + DAY, iat=int(EPOCH) - DAY)
        assert (await world.exchange(old))["exp"] == EPOCH + DAY
        assert world.reissued == {("2", "reissue"): 1}


class TestNotRenewed:
    @pytest.mark.parametrize("rows", [{}, {"1": {"email": None}}, None])
    async def test_nothing_is_renewed_from_a_default(self, rows: dict[str, Any] | None) -> None:
        world = renewing()
        token = await world.token()
        world.clock.advance(6 * DAY)
        world.users.rows, world.users.down = rows or {}, rows is None
        response = await world.get(token)
        assert (response.status_code, cookie_of(response)) == (200, None)
        assert world.reissued == {}
        assert (await world.row()).session_token == digest(token)

    async def test_a_bearer_token_is_not_renewed(self) -> None:
        world = renewing()
        token = await world.token()
        world.clock.advance(6 * DAY)
        response = await world.ask(bearer=token)
        assert (response.status_code, cookie_of(response)) == (200, None)

    async def test_a_version_that_this_process_does_not_mint_yet_is_not_renewed(self) -> None:
        world = renewing(schema={"mints": 1})
        old = await world.old({"email": "a@example.com"}, version=2, exp=int(EPOCH) + DAY)
        assert cookie_of(await world.get(old)) is None
        older = await world.old({"email": "a@example.com"}, version=1, exp=int(EPOCH) + DAY)
        claims = await world.exchange(older)
        assert (claims["version"], claims["exp"]) == (1, EPOCH + WEEK)
        assert "email" not in claims

    async def test_a_renewed_iat_is_never_earlier_than_before(self) -> None:
        world = renewing(window=timedelta(seconds=60), renew_within=timedelta(seconds=59))
        # auth_time is by the database's clock, which is ahead of this machine's.
        times: dict[str, Any] = {"iat": EPOCH + 20, "exp": EPOCH + 50, "auth_time": EPOCH + 40}
        without_row = old_token(world.authority, {"userId": "1"}, version=2, **times)
        assert await world.reason(without_row) == "session_unknown"
        token = await world.old({"email": "ada@example.com"}, version=2, **times)
        claims = await world.exchange(token)
        assert (claims["iat"], claims["exp"], claims["auth_time"]) == (EPOCH + 20, EPOCH + 60, EPOCH + 40)

    async def test_what_was_revoked_is_not_renewed(self) -> None:
        world = renewing()
        token = await world.token()
        world.clock.advance(6 * DAY)
        world.echo.headers.append((b"cache-control", b"public"))
        assert (await world.get(token)).status_code == 200
        world.echo.headers.clear()
        await world.store.revoke_all()
        response = await world.get(token)
        assert (response.status_code, cookie_of(response)) == (200, None)
        world.clock.advance(5)
        assert (await world.get(token)).status_code == 401


class TestSources:
    async def test_a_renewal_queries_every_source_once(self) -> None:
        class Asked(SilentObserver):
            def __init__(self) -> None:
                self.claims = 0

            def looked_up(self, handle: object, facts: LookupFacts) -> None:
                self.claims += facts.lookup == "claims"

        @source("role", by="companyId")
        async def roles(keys: Any) -> Any:
            return {key: {"role": f"of {key}"} for key in keys}

        @source("permissions")
        async def permissions(keys: Any) -> Any:
            return {key: {"permissions": ["all"]} for key in keys}

        asked = Asked()
        world = renewing(observers=[asked], sources=[roles, permissions])
        token = await world.token(company_id="acme")
        world.clock.advance(6 * DAY)
        claims = await world.exchange(token)
        assert (claims["role"], claims["permissions"], asked.claims) == ("of acme", ["all"], 2)

    @pytest.mark.parametrize("known", [True, False])
    async def test_a_row_that_says_none_is_no_failure_and_no_row_is_one(self, known: bool) -> None:
        @dataclass(slots=True, kw_only=True)
        class Nullable:
            user_id: Annotated[str, Claim("userId")]
            email: Annotated[str | None, Claim(since=2)] = None

        world = renewing(cls=Nullable)
        world.users.rows = {"1": {"email": None}} if known else {}
        token = await world.token(email="was@example.com")
        world.clock.advance(6 * DAY)
        new = cookie_of(await world.get(token))
        assert (new is not None) is known
        assert new is None or (await world.claims(new))["email"] is None


class TestRaces:
    async def test_races_of_revoking_and_reissuing_revive_no_session(self, url: str) -> None:
        chance, clock = random.Random(5), FakeClock(wall=time.time())  # PostgreSQL has its own clock

        class Unhurried(MemorySessionStore):
            """Every call takes some turns of the loop, before and after: other calls come between."""

            async def statuses(self, keys: Collection[SessionKey]) -> Mapping[SessionKey, SessionStatus]:
                await turns(chance.randrange(6))
                statuses = await super().statuses(keys)
                await turns(chance.randrange(6))
                return statuses

            async def replace_token(self, key: SessionKey, **values: Any) -> bool:
                await turns(chance.randrange(6))
                replaced = await super().replace_token(key, **values)
                await turns(chance.randrange(6))
                return replaced

        async def race(user: str) -> list[str]:
            """A cookie that is due for renewal or reissue is used while either process revokes its session."""
            token, session_id = await ours.log_in(user)
            claims = await ours.claims(token)
            envelope = {"sid": session_id, "auth_time": claims["auth_time"], "iat": claims["iat"]}
            if chance.random() < 0.5:
                envelope["exp"] = int(clock.now()) + DAY  # due for a renewal, else for a reissue
            old = old_token(ours.authority, {"userId": user}, **envelope)
            using = asyncio.create_task(ours.send(scope_of(headers=cookie(old))))
            await turns(chance.randrange(60))
            revoking = chance.choice([ours, theirs]).authority
            await (revoking.revoke(session_id) if chance.random() < 0.5 else revoking.revoke_user(user))
            headers = dict((await using)[0]["headers"])
            new = headers.get(b"set-cookie", b"").partition(b";")[0].partition(b"=")[2].decode()
            return [old, new] if new else [old]

        races, at_once = {"memory": (10_000, 200), "sqlite": (150, 5), "postgresql": (500, 5)}[url.partition("+")[0]]
        async with opened(url, clock) as database:
            store = Unhurried(clock=clock) if url == "memory" else database
            ours, theirs = renewing(store=store, clock=clock, reissue=True, sources=[]), World(store=store, clock=clock)
            tokens: list[list[str]] = []
            with capture_logs():  # or each of them prints an event
                for start in range(0, races, at_once):
                    users = [str(user) for user in range(start, start + at_once)]
                    tokens += await asyncio.gather(*(race(user) for user in users))
            reissued = sum(len(of_session) == 2 for of_session in tokens)
            assert races / 20 < reissued < races * 19 / 20
            clock.advance(5)  # max_staleness: by now each process has seen what the other one revoked
            for world in (ours, theirs):
                assert {await world.reason(token) for token in chain.from_iterable(tokens)} == {"session_revoked"}
                await world.authority.aclose()
