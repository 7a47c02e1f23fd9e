"""The rules of a token, each with its Reason; signing, and what is accepted from older tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from jwt_middleware import ConfigError, Envelope, Key, KeyRing, MintError, Reason, SessionCookie, names
from jwt_middleware.counters import Counters
from jwt_middleware.tokens.envelope import resolve
from jwt_middleware.tokens.jws import from_base64url
from jwt_middleware.tokens.jwt import Tokens, pack, unpack
from jwt_middleware.tokens.rules import Rules, audiences_of, is_session
from jwt_middleware.types import Carrier, RawToken, SignedClaims, VerifiedToken
from tests.support.target import HMAC, NOW, forged, reason_of
from tests.support.world import DAY, EPOCH, SECRET, FakeClock

CLAIMS: dict[str, Any] = {"iat": NOW, "exp": NOW + DAY, "sid": "s1", "auth_time": NOW + 0.25}
ABSENT = object()


RAW = RawToken(b"a.b.c", Carrier.BEARER)


def tokens_of(
    clock: FakeClock | None = None,
    *,
    lines: Sequence[Envelope] = (),
    typ: str = "session+jwt",
    has_store: bool = True,
    keys: KeyRing | None = None,
    counters: Counters | None = None,
    **settings: Any,
) -> Tokens:
    """The tokens of an authority with these lines; ``settings`` are today's ``issuer``, ``audience`` and so on."""
    keys = keys or KeyRing([HMAC])
    today = Rules(
        name="today",
        kind="today",
        typs=frozenset([typ.lower()]),
        issuer=settings.get("issuer"),
        audiences=audiences_of(settings.get("audience")),
        window=7.0 * DAY,
        leeway=30.0,
        longest=7.0 * DAY + 30.0,
        rows=has_store,
        cookie=SessionCookie(),
        version_claim="version",
    )
    rules = resolve(lines, today, remote=None, own_kids=None)
    return Tokens(
        keys,
        signing=keys.signing,
        rules=rules,
        typ=typ,
        clock=clock or FakeClock(),
        counters=counters or Counters(),
    )


def claims_of(**changed: Any) -> dict[str, Any]:
    return {name: value for name, value in {**CLAIMS, **changed}.items() if value is not ABSENT}


def verify(
    tokens: Tokens, claims: Mapping[str, Any], *, typ: str = "session+jwt", raw: RawToken = RAW, foreign: bool = False
) -> VerifiedToken:
    signed = SignedClaims(
        claims=claims, key_id="key-1", typ=typ, own=typ == "session+jwt" and not foreign, key_foreign=foreign
    )
    return tokens.check(signed, raw)


def opened(tokens: Tokens, header: str, payload: str = "{}", **signed: Any) -> SignedClaims:
    return tokens.open(forged(header.encode(), payload.encode(), **signed).encode())


class TestOpening:
    def test_what_was_signed_is_opened_and_holds(self) -> None:
        tokens = tokens_of()
        signed = tokens.open(tokens.sign({**CLAIMS, "userId": "7", "version": 2}).encode())
        assert signed.claims == {**CLAIMS, "userId": "7", "version": 2}
        token = tokens.check(signed, RAW)
        assert (token.session_id, token.issued_at, token.expires_at) == ("s1", NOW, NOW + DAY)
        assert (token.auth_time, token.valid_until, token.needed) == (NOW + 0.25, NOW + DAY + 30, ())
        assert (token.payload_version, token.key_id) == (2, "key-1")

    def test_a_verified_token_survives_the_cache(self) -> None:
        token = verify(tokens_of(), CLAIMS)
        assert unpack(pack(token)) == token

    def test_a_header_that_breaks_a_rule_is_malformed(self) -> None:
        for header in [
            "",
            "[]",
            '{"typ":"JWT"}',
            '{"alg":1}',
            '{"alg":null}',
            '{"alg":["HS256"]}',
            '{"alg":"HS256","typ":1}',
            '{"alg":"HS256","typ":null}',
            '{"alg":"HS256","kid":1}',
            '{"alg":"HS256","kid":null}',
            '{"alg":"HS256","kid":""}',
            '{"alg":"HS256","kid":"../../etc/passwd\\n"}',
            '{"alg":"HS256","crit":["exp"],"exp":1}',
            '{"alg":"HS256","crit":[]}',
            '{"alg":"HS256","b64":true}',
            '{"alg":"HS256","b64":false,"crit":["b64"]}',
            '{"alg":"HS256","alg":"HS256"}',
            '{"alg":"HS256","x":NaN}',
        ]:
            assert reason_of(opened, tokens_of(), header) is Reason.TOKEN_MALFORMED, header
            assert reason_of(opened, tokens_of(), header, key=None, signature=b"") is Reason.TOKEN_MALFORMED, header

    def test_a_header_is_read_in_any_layout_and_key_locations_are_ignored(self) -> None:
        for header in [
            '{"alg":"HS256","typ":"jwt"}',
            '{"typ" : "JWT", "alg" : "HS256"}',
            '{"alg":"HS256","jku":"http://127.0.0.1:1/","x5u":1,"jwk":{"kty":"oct","k":"AA"},"x5c":["AA"]}',
        ]:
            assert opened(tokens_of(), header).claims == {}, header

    @pytest.mark.parametrize("alg", ["none", "None", "hs256", "HS384", "RS256", "", "EdDSA"])
    def test_an_algorithm_that_no_key_has_is_a_mismatch(self, alg: str) -> None:
        assert reason_of(opened, tokens_of(), f'{{"alg":"{alg}"}}') is Reason.ALGORITHM_MISMATCH

    def test_a_kid_that_no_key_has_is_unknown(self) -> None:
        assert reason_of(opened, tokens_of(), '{"alg":"HS256","kid":"1"}') is Reason.KEY_UNKNOWN

    def test_another_signature_or_none_is_invalid(self) -> None:
        tokens = tokens_of()
        assert reason_of(opened, tokens, '{"alg":"HS256"}', key=None, signature=bytes(32)) is Reason.SIGNATURE_INVALID
        assert reason_of(opened, tokens, '{"alg":"HS256"}', key=None, signature=b"") is Reason.SIGNATURE_INVALID

    def test_a_payload_is_parsed_only_after_its_signature_is_verified(self) -> None:
        assert (
            reason_of(opened, tokens_of(), '{"alg":"HS256"}', "no json", key=None, signature=bytes(32))
            is Reason.SIGNATURE_INVALID
        )
        assert reason_of(opened, tokens_of(), '{"alg":"HS256"}', "no json") is Reason.CLAIMS_INVALID

    def test_a_long_header_is_parsed_strictly_after_the_signature(self) -> None:
        header = '{"alg":"HS256","a":1,"a":2,"long":"%s"}' % ("A" * 256)
        assert reason_of(opened, tokens_of(), header, key=None, signature=bytes(32)) is Reason.SIGNATURE_INVALID
        assert reason_of(opened, tokens_of(), header) is Reason.TOKEN_MALFORMED

    def test_own_tokens_say_so_and_a_foreign_key_signs_none(self) -> None:
        old = Key.hmac(SECRET, foreign=True)
        tokens = tokens_of(keys=KeyRing([Key.hmac(SECRET + "new"), old]), lines=[Envelope.foreign()])
        new = Key.hmac(SECRET + "new")
        for typ, own in (("session+jwt", True), ("application/Session+JWT", True), ("JWT", False), ("at+jwt", False)):
            header = f'{{"alg":"HS256","typ":"{typ}"}}'
            assert opened(tokens, header, key=new).own is own, typ
            assert not opened(tokens, header, key=old).own
        assert not opened(tokens, '{"alg":"HS256"}', key=new).own

    def test_a_key_that_has_ended_counts_as_unknown(self) -> None:
        clock = FakeClock()
        until = datetime.fromtimestamp(EPOCH + 60, UTC)
        keys = KeyRing([Key.hmac(SECRET + "new"), Key.hmac(SECRET, verify_only=True, until=until)])
        tokens = tokens_of(clock, keys=keys)
        signed = opened(tokens, '{"alg":"HS256"}')
        assert signed.key_until == EPOCH + 60
        until_then = SignedClaims(claims=CLAIMS, key_id="k", typ="session+jwt", own=True, key_until=EPOCH + 60)
        assert tokens.check(until_then, RAW).valid_until == EPOCH + 60
        clock.advance(59.9)
        assert opened(tokens, '{"alg":"HS256"}').key_id == "key-2"
        clock.advance(0.1)
        assert (
            reason_of(opened, tokens, '{"alg":"HS256"}') is Reason.SIGNATURE_INVALID
        )  # one other key of that kind is alive
        alone = tokens_of(clock, keys=KeyRing([Key.hmac(SECRET, verify_only=True, until=until)]))
        assert reason_of(opened, alone, '{"alg":"HS256"}') is Reason.KEY_UNKNOWN

    def test_verifications_are_counted_by_key(self) -> None:
        counters = Counters()
        tokens = tokens_of(counters=counters, keys=KeyRing([Key.hmac(SECRET, kid="a")]))
        opened(tokens, '{"alg":"HS256","kid":"a"}')
        assert counters.counts[counters.counter(names.VERIFICATIONS, {names.KEY_ID: "a"})] == 1

    def test_headers_of_forged_tokens_are_not_cached(self) -> None:
        tokens = tokens_of()
        reason_of(opened, tokens, '{"alg":"HS256"}', key=None, signature=bytes(32))
        assert tokens._headers == {}
        for place in range(300):
            opened(tokens, f'{{"alg":"HS256","x":{place}}}')
        assert len(tokens._headers) == 256


class TestClaims:
    @pytest.mark.parametrize("name", ["exp", "iat", "nbf", "auth_time"])
    @pytest.mark.parametrize("value", [True, False, None, str(NOW), [NOW], {}, float("inf"), float("nan")])
    def test_a_time_is_a_finite_number(self, name: str, value: object) -> None:
        assert reason_of(verify, tokens_of(), claims_of(**{name: value})) is Reason.CLAIMS_INVALID

    @pytest.mark.parametrize("name", ["exp", "iat", "auth_time"])
    def test_a_session_has_exp_iat_and_auth_time(self, name: str) -> None:
        assert reason_of(verify, tokens_of(), claims_of(**{name: ABSENT})) is Reason.CLAIMS_INVALID

    def test_without_a_store_iat_stands_in_for_auth_time(self) -> None:
        tokens = tokens_of(has_store=False)
        assert verify(tokens, claims_of(auth_time=ABSENT)).auth_time == NOW
        assert verify(tokens, claims_of(auth_time=ABSENT, sid=ABSENT)).envelope is None

    @pytest.mark.parametrize("name", ["sid", "sub"])
    @pytest.mark.parametrize("value", ["", "a" * 256, "a\n", "a\x7f", "\x85", 1, None, ["a"]])
    def test_a_subject_or_session_id_is_an_identifier(self, name: str, value: object) -> None:
        assert reason_of(verify, tokens_of(), claims_of(**{name: value})) is Reason.CLAIMS_INVALID
        assert verify(tokens_of(), claims_of(**{name: "a" * 255})).claims[name] == "a" * 255

    def test_registered_claims_have_their_types(self) -> None:
        cases: list[dict[str, Any]] = [
            {"iss": 1},
            {"iss": None},
            {"jti": 1},
            {"jti": ["a"]},
            {"aud": 1},
            {"aud": []},
            {"aud": ["a", 1]},
            {"aud": None},
        ]
        for changed in cases:
            assert reason_of(verify, tokens_of(), claims_of(**changed)) is Reason.CLAIMS_INVALID, changed
            assert (
                reason_of(verify, tokens_of(audience="a", issuer="i"), claims_of(**changed)) is Reason.CLAIMS_INVALID
            ), changed


class TestTimes:
    @pytest.mark.parametrize("name", ["iat", "nbf"])
    def test_leeway_accepts_a_clock_that_is_behind(self, name: str) -> None:
        tokens = tokens_of()
        assert verify(tokens, claims_of(**{name: NOW + 30})).claims[name] == NOW + 30
        assert reason_of(verify, tokens, claims_of(**{name: NOW + 30.001})) is Reason.TOKEN_NOT_YET_VALID

    def test_leeway_applies_to_exp_too(self) -> None:
        clock = FakeClock()
        tokens = tokens_of(clock)
        clock.advance(DAY + 29.999)
        assert verify(tokens, CLAIMS).valid_until == NOW + DAY + 30
        clock.advance(0.001)
        assert reason_of(verify, tokens, CLAIMS) is Reason.TOKEN_EXPIRED

    def test_auth_time_after_iat_is_refused(self) -> None:
        tokens = tokens_of()
        assert verify(tokens, claims_of(auth_time=NOW + 30)).auth_time == NOW + 30
        assert reason_of(verify, tokens, claims_of(auth_time=NOW + 31)) is Reason.CLAIMS_INVALID

    @pytest.mark.parametrize("exp", [NOW + 7 * DAY + 31, 1e308, 2**64 - 1])
    def test_no_token_lives_longer_than_the_window(self, exp: float) -> None:
        assert reason_of(verify, tokens_of(), claims_of(exp=exp)) is Reason.LIFETIME_EXCEEDED
        assert verify(tokens_of(), claims_of(exp=NOW + 7 * DAY + 30)).envelope is None

    @pytest.mark.parametrize("changed", [{"iat": -1e308, "exp": 1e308}, {"iat": -(2**63)}, {"iat": 0}])
    def test_a_token_minted_long_ago_has_outlived_the_window(self, changed: dict[str, Any]) -> None:
        assert (
            reason_of(verify, tokens_of(), claims_of(**changed, auth_time=changed["iat"])) is Reason.LIFETIME_EXCEEDED
        )

    @pytest.mark.parametrize("exp", [-1e308, -(2**63), 0, NOW - 31])
    def test_exp_in_the_past_is_expired_however_far(self, exp: float) -> None:
        assert reason_of(verify, tokens_of(), claims_of(exp=exp)) is Reason.TOKEN_EXPIRED


class TestParties:
    def test_the_issuer_is_the_configured_one(self) -> None:
        tokens = tokens_of(issuer="https://a.example")
        assert verify(tokens, claims_of(iss="https://a.example")).envelope is None
        assert reason_of(verify, tokens, claims_of(iss="https://a.example/")) is Reason.ISSUER_MISMATCH
        assert reason_of(verify, tokens, CLAIMS) is Reason.ISSUER_MISMATCH
        assert verify(tokens_of(), claims_of(iss="https://b.example")).envelope is None

    @pytest.mark.parametrize("audience", ["a", ["a", "b"]])
    def test_one_audience_in_common_is_enough(self, audience: str | list[str]) -> None:
        tokens = tokens_of(audience=audience)
        assert verify(tokens, claims_of(aud="a")).envelope is None
        assert verify(tokens, claims_of(aud=["x", "a"])).envelope is None
        assert reason_of(verify, tokens, claims_of(aud="x")) is Reason.AUDIENCE_MISMATCH
        assert reason_of(verify, tokens, claims_of(aud=["x", "A"])) is Reason.AUDIENCE_MISMATCH
        assert reason_of(verify, tokens, CLAIMS) is Reason.AUDIENCE_MISMATCH

    def test_an_audience_is_refused_if_none_is_configured(self) -> None:
        assert reason_of(verify, tokens_of(), claims_of(aud="a")) is Reason.AUDIENCE_MISMATCH


class TestRecognise:
    def test_other_tokens_of_the_same_secret_are_not_recognised(self) -> None:
        cases: list[tuple[dict[str, Any], bool]] = [
            ({}, True),
            ({"type": "access", "token_type": "session", "token_use": "access"}, True),
            ({"scope": "openid profile"}, True),
            ({"refresh": False}, True),
            ({"type": "refresh"}, False),
            ({"token_type": "reset"}, False),
            ({"token_use": "id"}, False),
            ({"use": "refresh"}, False),
            ({"kind": "magicLink"}, False),
            ({"typ": "Refresh"}, False),
            ({"typ": "ID"}, False),
            ({"typ": "Logout"}, False),
            ({"scope": "password_reset"}, False),
            ({"scope": ["read", "offline_access"]}, False),
            ({"type": "verify-email"}, False),
            ({"type": "invite"}, False),
            ({"type": None, "scope": None}, True),
            ({"type": "reFresh"}, False),
            ({"token_use": "idtoken"}, False),
            ({"type": "passwordreset"}, False),
            ({"scope": "openid"}, True),
            ({"type": 7}, False),
            ({"refresh": True}, False),
            *(
                ({name: "x"}, False)
                for name in ("purpose", "nonce", "at_hash", "c_hash", "action", "cnf", "act", "mfa")
            ),
            ({"events": {}}, False),
        ]
        for claims, session in cases:
            assert is_session(claims) is session, claims

    def test_an_exception_of_recognise_means_no(self) -> None:
        tokens = tokens_of(lines=[Envelope.foreign(recognise=lambda claims: bool(claims["kind"]))])
        assert reason_of(verify, tokens, CLAIMS, typ="jwt") is Reason.TOKEN_FOREIGN
        assert verify(tokens, claims_of(kind=1), typ="jwt").envelope == "foreign"


class TestSigning:
    def test_the_header_of_what_is_signed_names_the_kid(self) -> None:
        header = tokens_of(keys=KeyRing([Key.hmac(SECRET, kid="a")])).sign({}).split(".")[0].encode()
        assert from_base64url(header) == b'{"alg":"HS256","typ":"session+jwt","kid":"a"}'

    def test_signing_without_a_signing_key_is_a_config_error(self) -> None:
        keys = KeyRing([Key.hmac(SECRET, verify_only=True)])
        with pytest.raises(ConfigError, match="no key of the ring can sign"):
            tokens_of(keys=keys).sign({})

    @pytest.mark.parametrize("value", [float("nan"), "\0", "\ud800", 2**64, object()])
    def test_claims_that_would_be_refused_are_not_signed(self, value: object) -> None:
        with pytest.raises(MintError, match="not strict JSON"):
            tokens_of().sign({"a": value})

    def test_a_token_that_would_be_oversize_is_not_signed(self) -> None:
        with pytest.raises(MintError, match="the limit is 8192"):
            tokens_of().sign({"a": "x" * 7000})
