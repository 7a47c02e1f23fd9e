"""A session in use slides its end, up to its greatest age; whoever may do what by now is fetched anew."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

import pytest

from jwt_middleware import Claim, ConfigError, LookupFacts, MemorySessionStore, SilentObserver, source
from jwt_middleware.testing import old_token
from jwt_middleware.tokens.jws import digest as digest_of
from tests.support.asgi import ask
from tests.support.deployment import DAY, WEEK, Deployment, cookie_of, digest
from tests.support.world import EPOCH, Session, authority_of

ADA = Session(user_id="1", email="ada@example.com")
Test = Callable[[], Awaitable[None]]


def run(test: Test) -> None:
    asyncio.run(test())  # type: ignore[arg-type]  # an async function's awaitable is a coroutine


def renewing(**settings: Any) -> Deployment:
    """Tokens live for a week and are renewed in their last two days; a session lives for 30 days."""
    return Deployment(**{"reissue": False, "renew_within": timedelta(days=2), **settings})


async def log_in(deployment: Deployment, session: Session = ADA) -> str:
    token: str = (await deployment.authority.issue(session)).token
    return token


def test_a_session_in_use_slides_its_end() -> None:
    async def test() -> None:
        deployment = renewing()
        first = await log_in(deployment)
        deployment.clock.advance(5.5 * DAY)
        new = cookie_of(response := await deployment.get(first))
        assert new is not None
        before, after = await deployment.claims(first), await deployment.claims(new)
        assert after == {**before, "iat": int(EPOCH + 5.5 * DAY), "exp": int(EPOCH + 5.5 * DAY) + WEEK}
        assert f"Max-Age={WEEK};" in response.headers["set-cookie"]
        assert response.headers["cache-control"] == "no-store"
        row = await deployment.row()
        assert (row.session_token, row.expires_at.timestamp()) == (digest(new), after["exp"])
        assert deployment.issued == {("2", "renew"): 1}
        assert cookie_of(await deployment.get(new)) is None
        deployment.clock.advance(6 * DAY)
        assert (await deployment.get(first)).status_code == 401
        assert (await deployment.get(new)).status_code == 200

    run(test)


def test_a_plain_hit_that_comes_of_age_is_no_plain_hit() -> None:
    async def test() -> None:
        deployment = renewing()
        first = await log_in(deployment)
        deployment.clock.advance(5 * DAY - 1)
        for _ in range(2):
            assert cookie_of(await deployment.get(first)) is None
        raw = deployment.authority.transport.read([(b"cookie", f"__Host-session={first}".encode())]).raw
        assert deployment.authority.parts.known.hit(digest_of(raw.value)) is not None
        deployment.clock.advance(1)
        assert deployment.authority.parts.known.hit(digest_of(raw.value)) is None
        assert cookie_of(await deployment.get(first)) is not None

    run(test)


def test_a_token_that_waits_for_its_renewal_is_verified_once() -> None:
    async def test() -> None:
        deployment = renewing(headers=[(b"cache-control", b"public")])
        first = await log_in(deployment)
        deployment.clock.advance(6 * DAY)
        for _ in range(5):
            assert (await deployment.get(first)).status_code == 200
        cells = deployment.authority.parts.counters.series()
        assert sum(count for metric, _, count in cells if metric.name.endswith("verifications")) == 1
        deployment.echo.headers.clear()
        assert cookie_of(await deployment.get(first)) is not None

    run(test)


def test_a_session_is_renewed_up_to_its_greatest_age_and_then_ends() -> None:
    async def test() -> None:
        deployment = renewing(max_session_age=timedelta(days=10))
        token = await log_in(deployment)
        renewed = 0
        while (response := await deployment.get(token)).status_code == 200:
            if (new := cookie_of(response)) is not None:
                token, renewed = new, renewed + 1
            deployment.clock.advance(3_600)
        assert renewed == 1
        claims_end = deployment.clock.now() - EPOCH
        assert 10 * DAY <= claims_end <= 10 * DAY + 2 * 3_600
        assert response.headers["www-authenticate"]

    run(test)


def test_a_renewed_token_says_what_the_database_says_now() -> None:
    async def test() -> None:
        deployment = renewing()
        old = await deployment.old()
        assert (await deployment.get(old)).status_code == 200
        assert deployment.echo.session.email == "ada@example.com"  # and in the cache for a minute
        token = await log_in(deployment)
        deployment.clock.wall += 6 * DAY  # while no monotonic time passes: the cache still holds
        deployment.users.rows["1"]["email"] = "lovelace@example.com"
        asked = deployment.users.asked
        new = cookie_of(await deployment.get(token))
        assert new is not None
        assert (await deployment.claims(new))["email"] == "lovelace@example.com"
        assert deployment.users.asked == asked + 1

    run(test)


def test_an_old_payload_is_renewed_in_todays_shape() -> None:
    async def test() -> None:
        deployment = renewing(reissue=True)
        old = await deployment.old(tenant="x", exp=int(EPOCH) + DAY)
        new = cookie_of(await deployment.get(old))
        assert new is not None
        claims = await deployment.claims(new)
        assert (claims["version"], claims["email"], claims["tenant"]) == (2, "ada@example.com", "x")
        assert claims["exp"] == EPOCH + WEEK
        assert deployment.issued == {("2", "renew"): 1}

    run(test)


def test_at_its_greatest_age_an_old_payload_is_still_reissued() -> None:
    async def test() -> None:
        deployment = renewing(reissue=True, max_session_age=timedelta(days=8))
        old = await deployment.old(auth_time=int(EPOCH) - 7 * DAY - 3_600, exp=int(EPOCH) + DAY, iat=int(EPOCH) - DAY)
        new = cookie_of(await deployment.get(old))
        assert new is not None
        assert (await deployment.claims(new))["exp"] == EPOCH + DAY
        assert deployment.issued == {("2", "reissue"): 1}

    run(test)


@pytest.mark.parametrize("rows", [{}, {"1": {"email": None}}, None])
def test_nothing_is_renewed_from_a_default(rows: dict[str, Any] | None) -> None:
    async def test() -> None:
        deployment = renewing()
        token = await log_in(deployment)
        deployment.clock.advance(6 * DAY)
        deployment.users.rows, deployment.users.down = rows or {}, rows is None
        response = await deployment.get(token)
        assert (response.status_code, cookie_of(response)) == (200, None)
        assert deployment.issued == {}
        assert (await deployment.row()).session_token == digest(token)

    run(test)


def test_every_source_is_asked_once_for_a_renewal() -> None:
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

    async def test() -> None:
        asked = Asked()
        deployment = renewing(observers=[asked], sources=[roles, permissions])
        token = await log_in(deployment, Session(user_id="1", company_id="acme"))
        deployment.clock.advance(6 * DAY)
        new = cookie_of(await deployment.get(token))
        assert new is not None
        claims = await deployment.claims(new)
        assert (claims["role"], claims["permissions"], asked.claims) == ("of acme", ["all"], 2)

    run(test)


@dataclass(slots=True, kw_only=True)
class Nullable:
    user_id: Annotated[str, Claim("userId")]
    email: Annotated[str | None, Claim(since=2)] = None


@pytest.mark.parametrize("known", [True, False])
def test_a_row_that_says_none_is_no_failure_and_no_row_is_one(known: bool) -> None:
    async def test() -> None:
        deployment = renewing(cls=Nullable)
        deployment.users.rows = {"1": {"email": None}} if known else {}
        token = (await deployment.authority.issue(Nullable(user_id="1", email="was@example.com"))).token
        deployment.clock.advance(6 * DAY)
        new = cookie_of(await deployment.get(token))
        assert (new is not None) is known
        assert new is None or (await deployment.claims(new))["email"] is None

    run(test)


def test_a_bearer_token_is_not_renewed() -> None:
    async def test() -> None:
        deployment = renewing()
        token = await log_in(deployment)
        deployment.clock.advance(6 * DAY)
        response = await ask(deployment.app, bearer=token)
        assert (response.status_code, cookie_of(response)) == (200, None)

    run(test)


def test_a_token_of_a_shape_that_this_process_does_not_mint_yet_waits_for_one_that_does() -> None:
    async def test() -> None:
        deployment = renewing(schema={"mints": 1})
        old = await deployment.old({"email": "a@example.com"}, version=2, exp=int(EPOCH) + DAY)
        assert cookie_of(await deployment.get(old)) is None
        older = await deployment.old({"email": "a@example.com"}, version=1, exp=int(EPOCH) + DAY)
        new = cookie_of(await deployment.get(older))
        assert new is not None
        claims = await deployment.claims(new)
        assert (claims["version"], claims["exp"]) == (1, EPOCH + WEEK)
        assert "email" not in claims

    run(test)


def test_a_renewed_iat_is_never_earlier_than_before() -> None:
    async def test() -> None:
        deployment = renewing(window=timedelta(seconds=60), renew_within=timedelta(seconds=59))
        token = old_token(deployment.authority, {"userId": "1", "version": 2}, iat=EPOCH + 20, auth_time=EPOCH + 40)
        outcome = await deployment.authority.authenticate([(b"cookie", f"__Host-session={token}".encode())])
        assert outcome.reason is not None  # it has no row
        issued = await deployment.authority.issue(ADA)
        token = old_token(
            deployment.authority,
            {"userId": "1", "email": "ada@example.com"},
            version=2,
            sid=issued.session_id,
            iat=EPOCH + 20,
            exp=EPOCH + 50,
            auth_time=EPOCH + 40,  # by the database's clock, which is ahead of this machine's
        )
        new = cookie_of(await deployment.get(token))
        assert new is not None
        claims = await deployment.claims(new)
        assert (claims["iat"], claims["exp"], claims["auth_time"]) == (EPOCH + 20, EPOCH + 60, EPOCH + 40)

    run(test)


def test_what_was_revoked_is_not_renewed() -> None:
    async def test() -> None:
        deployment = renewing()
        token = await log_in(deployment)
        deployment.clock.advance(6 * DAY)
        deployment.echo.headers.append((b"cache-control", b"public"))
        assert (await deployment.get(token)).status_code == 200
        deployment.echo.headers.clear()
        await deployment.store.revoke_all()
        response = await deployment.get(token)
        assert (response.status_code, cookie_of(response)) == (200, None)
        deployment.clock.advance(5)
        assert (await deployment.get(token)).status_code == 401

    run(test)


def test_the_series_is_zero_from_the_start_where_it_is_configured() -> None:
    counters = authority_of(renew_within=timedelta(days=1), store=MemorySessionStore()).parts.counters
    issued = [dict(at)["jwt_middleware.trigger"] for metric, at, _ in counters.series() if "issued" in metric.name]
    assert issued == ["start", "renew"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"renew_within": timedelta(days=1), "store": None}, "needs a store"),
        ({"renew_within": timedelta(0)}, "positive and shorter than window"),
        ({"renew_within": timedelta(days=-1)}, "positive and shorter than window"),
        ({"renew_within": timedelta(days=7)}, "positive and shorter than window"),
        ({"renew_within": timedelta(days=1), "max_session_age": timedelta(days=7)}, "longer than window"),
        ({"max_session_age": timedelta(0)}, "max_session_age must be positive"),
    ],
)
def test_settings_that_cannot_work_fail_at_construction(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        authority_of(**{"store": MemorySessionStore(), **settings})


def test_a_long_window_needs_no_greater_age_where_nothing_is_renewed() -> None:
    assert authority_of(window=timedelta(days=90)).window == timedelta(days=90)
