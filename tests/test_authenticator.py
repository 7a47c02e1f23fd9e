"""The path of one request without ASGI: what is remembered, what is walked again, what the Outcome says."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import pytest

from jwt_middleware import (
    Claim,
    Envelope,
    FillOutcome,
    Key,
    KeyRing,
    MemorySessionStore,
    Outcome,
    Reason,
    Refusal,
    Revocation,
    SessionCookie,
    source,
)
from jwt_middleware.testing import old_token
from jwt_middleware.tokens.rules import is_session
from tests.support.asgi import counts, foreign_token
from tests.support.world import EPOCH, SECRET, FakeClock, Recorder, Session, authority_of

ADA = Session(user_id="1")
Headers = list[tuple[bytes, bytes]]


def bearer(token: str) -> Headers:
    return [(b"authorization", f"Bearer {token}".encode())]


def decide(authority: Any, headers: Headers, **settings: Any) -> Outcome[Any]:
    outcome: Outcome[Any] = asyncio.run(authority.authenticate(headers, **settings))
    return outcome


def decide_all(authority: Any, headers: Headers, times: int) -> list[Outcome[Any]]:
    """In one event loop, as a server does it."""

    async def main() -> list[Outcome[Any]]:
        return [await authority.authenticate(headers) for _ in range(times)]

    return asyncio.run(main())


def minted(authority: Any, session: Any = ADA) -> Headers:
    return bearer(asyncio.run(authority.issue(session)).token)


class Emails:
    """A source that says how often it was asked."""

    def __init__(self, rows: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.rows = {"1": {"email": "ada@example.com"}} if rows is None else rows
        self.asked = 0

    @property
    def source(self) -> Any:
        @source("email")
        async def emails(keys: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
            self.asked += 1
            return {key: self.rows[key] for key in keys if key in self.rows}

        return emails


class TestOutcome:
    def test_an_old_token_leaves_an_outcome_with_everything_that_is_known(self) -> None:
        clock, seen = FakeClock(), Recorder()
        authority = authority_of(
            clock=clock,
            observers=[seen],
            sources=[Emails().source],
            effective_at={2: datetime.fromtimestamp(EPOCH, UTC)},
        )
        old = old_token(authority, {"userId": "1"}, age=timedelta(hours=1))
        outcome = decide(authority, bearer(old))
        assert len(seen.outcomes) == 1
        assert (outcome.result, outcome.reason, outcome.subject, outcome.carrier) == ("accepted", None, "1", "bearer")
        assert (outcome.key_id, outcome.payload_version, outcome.payload_expected) == ("key-1", "1", 2)
        assert (outcome.minted, outcome.token_age, outcome.auth_time) == ("before_change", 3_600.0, EPOCH - 3_600)
        assert outcome.fallback is not None
        assert outcome.fallback.outcome is FillOutcome.RESOLVED
        assert outcome.token is not None
        assert outcome.token.filled == outcome.fallback.claims
        assert outcome.session == Session(user_id="1", email="ada@example.com")

    def test_a_refused_token_says_as_much_as_was_verified(self) -> None:
        seen = Recorder()
        authority = authority_of(observers=[seen])
        decide(authority, [])
        decide(authority, bearer("a.b.c"))
        decide(authority, bearer(old_token(authority, {"userId": "1", "version": "two"}, sid=None)))
        decide(authority, bearer(old_token(authority, {"userId": "1"}, exp=1)))
        decide(authority, bearer(old_token(authority, {}, version=3)))
        decide(authority, [(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")])
        assert [(each.reason, each.key_id, each.payload_version) for each in seen.outcomes] == [
            (Reason.TOKEN_MISSING, None, None),
            (Reason.TOKEN_MALFORMED, None, None),
            (Reason.CLAIMS_INVALID, "key-1", "unknown"),
            (Reason.TOKEN_EXPIRED, "key-1", "1"),
            (Reason.CLAIMS_INVALID, "key-1", "newer"),
            (Reason.TOKEN_AMBIGUOUS, None, None),
        ]
        assert [each.carrier for each in seen.outcomes] == [None, *["bearer"] * 5]
        assert counts(authority, "requests")[("claims_invalid", "newer", "refused")] == 1

    def test_optional_makes_a_bad_cookie_anonymous_and_refuses_a_bad_bearer_token(self) -> None:
        authority = authority_of()
        cookie = [(b"cookie", b"__Host-session=junk")]
        assert decide(authority, cookie, optional=True).result == "anonymous"
        assert decide(authority, [], optional=True).result == "anonymous"
        assert decide(authority, bearer("a.b.c"), optional=True).result == "refused"
        five = [(b"cookie", b"__Host-session=%d" % number) for number in range(5)]
        assert decide(authority, five, optional=True).reason is Reason.TOKEN_AMBIGUOUS

    def test_every_cell_of_requests_is_zero_before_the_first_request(self) -> None:
        authority = authority_of()
        series = [
            attributes for metric, attributes, _ in authority.parts.counters.series() if "requests" in metric.name
        ]
        accepted = {
            tuple(value for _, value in each) for each in series if ("jwt_middleware.result", "accepted") in each
        }
        assert accepted == {("before_change", "1", "accepted"), ("after_change", "1", "accepted")} | {
            ("unknown", "1", "accepted"),
            ("2", "accepted"),
            ("newer", "accepted"),
        }
        decide(authority, bearer(old_token(authority, {"userId": "1"}, version=9)))
        after = [attributes for metric, attributes, _ in authority.parts.counters.series() if "requests" in metric.name]
        assert after == series


class TestTokenCache:
    def test_a_known_token_is_verified_once_and_the_outcome_of_a_hit_says_what_it_is(self) -> None:
        seen = Recorder()
        authority = authority_of(observers=[seen])
        first, second = decide_all(authority, minted(authority), 2)
        assert counts(authority, "verifications") == {("key-1",): 1}
        assert counts(authority, "requests") == {("2", "accepted"): 2}
        assert seen.outcomes == [first]
        assert second.session == first.session
        assert second.session is not first.session
        for each in ("result", "token", "subject", "carrier", "payload_version", "payload_expected"):
            assert getattr(second, each) == getattr(first, each)

    def test_an_old_token_is_verified_once_and_reported_each_time(self) -> None:
        seen, emails = Recorder(), Emails()
        authority = authority_of(observers=[seen], sources=[emails.source])
        decide_all(authority, bearer(old_token(authority, {"userId": "1"})), 3)
        assert counts(authority, "verifications") == {("key-1",): 1}
        assert emails.asked == 1
        assert [outcome.fallback is not None for outcome in seen.outcomes] == [True] * 3
        assert counts(authority, "fallbacks") == {("resolved", "1"): 3}

    def test_an_old_token_is_verified_again_once_a_minute_and_not_on_each_request_after_it(self) -> None:
        clock = FakeClock()
        authority = authority_of(clock=clock)
        headers = bearer(old_token(authority, {"userId": "1"}))
        decide_all(authority, headers, 2)
        clock.advance(61)
        decide_all(authority, headers, 3)
        assert counts(authority, "verifications") == {("key-1",): 2}

    def test_a_token_in_the_cookie_of_a_line_is_never_a_cache_hit(self) -> None:
        line = Envelope.before(datetime(2030, 1, 1, tzinfo=UTC), cookie=SessionCookie("token"))
        authority = authority_of(also_accept=[line])
        token = asyncio.run(authority.issue(ADA)).token
        decide_all(authority, [(b"cookie", f"token={token}".encode())], 3)
        assert counts(authority, "adoptions") == {(line.name, "cookie"): 3}
        decide_all(authority, [(b"cookie", f"__Host-session={token}".encode())], 2)
        decide_all(authority, [(b"cookie", f"token={token}".encode())], 1)
        assert counts(authority, "adoptions") == {(line.name, "cookie"): 4}

    def test_a_token_ends_at_its_exp_plus_leeway_however_well_it_is_known(self) -> None:
        clock = FakeClock()
        authority = authority_of(clock=clock)
        headers = minted(authority)
        clock.advance(7 * 86_400)
        assert decide(authority, headers).result == "accepted"
        clock.advance(29.9)
        assert decide(authority, headers).result == "accepted"
        clock.advance(0.1)
        assert decide(authority, headers).reason is Reason.TOKEN_EXPIRED

    def test_a_wall_clock_set_forward_is_noticed_within_a_minute(self) -> None:
        clock = FakeClock()
        authority = authority_of(clock=clock)
        headers = minted(authority)
        assert decide(authority, headers).result == "accepted"
        clock.wall += 30 * 86_400
        clock.ticks += 60
        assert decide(authority, headers).reason is Reason.TOKEN_EXPIRED

    def test_a_session_class_that_changes_its_mind_is_asked_again_on_the_path(self) -> None:
        allowed = {"1"}

        @dataclass(kw_only=True)
        class Picky:
            user_id: Annotated[str, Claim("userId")]

            def __post_init__(self) -> None:
                if self.user_id not in allowed:
                    raise ValueError

        authority = authority_of(Picky, schema={"version": 1})
        headers = minted(authority, Picky(user_id="1"))
        assert decide(authority, headers).result == "accepted"
        allowed.clear()
        assert decide(authority, headers).reason is Reason.PAYLOAD_INVALID

    def test_a_refused_payload_names_the_claim_that_does_not_fit_and_never_its_value(self) -> None:
        @dataclass(kw_only=True)
        class Strict:
            user_id: Annotated[str, Claim("userId")]
            level: Annotated[int, Claim("lvl")]

        authority = authority_of(Strict, schema={"version": 1}, clock=FakeClock())
        times = {"iat": EPOCH, "exp": EPOCH + 60, "sid": "s"}
        headers = bearer(foreign_token(SECRET.encode(), {"userId": "1", "lvl": "high", **times}, typ="session+jwt"))
        refused = decide(authority, headers)
        assert (refused.reason, refused.claim) == (Reason.PAYLOAD_INVALID, "lvl")


class TestRevocation:
    def test_a_revoked_session_is_seen_by_the_next_request(self) -> None:
        authority = authority_of(store=MemorySessionStore())
        issued = asyncio.run(authority.issue(ADA))
        headers = bearer(issued.token)
        assert [each.result for each in decide_all(authority, headers, 2)] == ["accepted"] * 2
        assert asyncio.run(authority.revoke(issued.session_id))
        assert decide(authority, headers).reason is Reason.SESSION_REVOKED

    def test_a_session_revoked_while_its_request_ran_is_not_remembered(self) -> None:
        asked: list[str] = []

        @source("email")
        async def revoking(keys: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
            asked.extend(keys)
            await authority.revoke_all()
            return {}

        authority = authority_of(store=MemorySessionStore(), sources=[revoking])
        record = asyncio.run(authority.issue(ADA))
        claims = {"userId": "1"}
        old = old_token(authority, claims, sid=record.session_id)
        assert decide(authority, bearer(old)).result == "accepted"
        assert len(authority.parts.token_cache) == 0
        assert decide(authority, bearer(old)).reason is Reason.SESSION_REVOKED

    def test_what_ended_is_remembered_in_bounds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("jwt_middleware.sessions.token_cache._MOST_ENDED", 2)
        authority = authority_of(store=MemorySessionStore())
        issued = [asyncio.run(authority.issue(ADA)) for _ in range(3)]
        for each in issued:
            decide(authority, bearer(each.token))
            asyncio.run(authority.revoke(each.session_id))
        assert {decide(authority, bearer(each.token)).reason for each in issued} == {Reason.SESSION_REVOKED}

    def test_a_token_is_as_fresh_as_the_last_answer_of_its_store(self) -> None:
        clock = FakeClock()
        store = MemorySessionStore(clock=clock)
        authority = authority_of(clock=clock, store=store, revocation=Revocation(max_staleness=timedelta(seconds=5)))
        issued = asyncio.run(authority.issue(ADA))
        headers = bearer(issued.token)
        assert decide(authority, headers).result == "accepted"
        asyncio.run(store.revoke(issued.session_id))  # by another process
        clock.advance(2.4)
        assert decide(authority, headers).result == "accepted"
        clock.advance(2.6)
        assert decide(authority, headers).reason is Reason.SESSION_REVOKED


class LateKeys:
    """Remote keys: the first look finds none, a refresh may bring them."""

    usable_until = math.inf
    typs, recognise = frozenset({"session+jwt"}), staticmethod(is_session)

    def __init__(self, *, comes: bool) -> None:
        self.ring = KeyRing([Key.hmac(SECRET)])
        self.comes, self.fetched = comes, 0
        self.signing = self.ring.signing
        self.keys = ()

    def attach(self, **parts: Any) -> None:
        """It needs none."""

    def find(self, kid: str | None, alg: str) -> Any:
        if not self.fetched or not self.comes:
            raise Refusal(Reason.KEY_UNKNOWN)
        return self.ring.find(kid, alg)

    async def refresh(self, kid: str | None) -> bool:
        self.fetched += 1
        return self.comes


class TestLateKeys:
    @pytest.mark.parametrize(("comes", "result"), [(True, "accepted"), (False, "refused")])
    def test_an_unknown_key_is_looked_for_once_more_after_a_refresh(self, comes: bool, result: str) -> None:
        keys = LateKeys(comes=comes)
        authority = authority_of(keys=keys, issuer="us", audience="app")
        outcome = decide(authority, minted(authority))
        assert (outcome.result, keys.fetched) == (result, 1)

    def test_a_refusal_for_another_reason_refreshes_nothing(self) -> None:
        keys = LateKeys(comes=True)
        authority = authority_of(keys=keys, issuer="us", audience="app")
        assert decide(authority, bearer("a.b.c")).reason is Reason.TOKEN_MALFORMED
        assert keys.fetched == 0


class TestCheck:
    def test_a_check_counts_no_request_and_says_how_long_it_holds(self) -> None:
        clock = FakeClock()
        store = MemorySessionStore(clock=clock)
        authority = authority_of(clock=clock, store=store)
        issued = asyncio.run(authority.issue(ADA))
        raw = authority.transport.read(bearer(issued.token)).raw
        assert asyncio.run(authority.parts.authenticator.check(raw)) == 5.0
        assert counts(authority, "requests") == {}
        clock.advance(7 * 86_400 + 29)
        assert asyncio.run(authority.parts.authenticator.check(raw)) == pytest.approx(1.0)
        asyncio.run(authority.revoke(issued.session_id))
        with pytest.raises(Refusal):
            asyncio.run(authority.parts.authenticator.check(raw))

    def test_without_a_store_a_check_holds_for_a_minute(self) -> None:
        authority = authority_of()
        raw = authority.transport.read(minted(authority)).raw
        assert asyncio.run(authority.parts.authenticator.check(raw)) == 60.0


def test_a_token_without_iat_has_no_age_and_nobody_can_say_when_it_was_minted() -> None:
    authority = authority_of(
        clock=FakeClock(),
        also_accept=[Envelope.foreign(iat=False)],
        effective_at={2: datetime.fromtimestamp(EPOCH, UTC)},
    )
    token = foreign_token(SECRET.encode(), {"userId": "1", "exp": EPOCH + 60})
    outcome = decide(authority, bearer(token))
    assert (outcome.result, outcome.token_age, outcome.minted) == ("accepted", None, "unknown")
    assert outcome.token is not None
    assert outcome.token.issued_at is None
    assert counts(authority, "adoptions") == {("foreign", "foreign"): 1, ("foreign", "iat"): 1}
