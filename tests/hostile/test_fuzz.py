"""Generated attacks: each is a Reason or a session, never a crash, and PyJWT accepts whatever is accepted."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import event, find, given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import create_async_engine

from jwt_middleware import Envelope, Key, Reason, Refusal, source
from jwt_middleware.sqlalchemy import SQLAlchemySessionStore
from jwt_middleware.tokens.jws import parse_object
from jwt_middleware.tokens.transport import MAX_VALUES, Received, Transport
from jwt_middleware.types import Carrier, RawToken
from tests.support import strategies
from tests.support.strategies import own
from tests.support.target import CLAIMS, NOW, Target, forged, private_pem
from tests.support.world import ROWLESS, SECRET, bearer, cookie

VALID = own()
EC = ec.generate_private_key(ec.SECP256R1())
ES256 = Key.pem(private_pem(EC))
hmac_target, ec_target = Target(), Target([ES256])
foreign_target = Target(also_accept=[Envelope.foreign(iat=False)])
BODY_401 = hmac_target.answer([]).body
NO_TIMES: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False}
"""PyJWT reads no clock but the machine's."""


def foreign(payload: object) -> str:
    """A token of the app's former code."""
    return forged(payload=payload)


def verified(target: Target, token: str) -> Mapping[str, Any] | None:
    """The claims, or None for a Refusal; anything else raised fails the test."""
    try:
        claims: Mapping[str, Any] = asyncio.run(target.authority.verify(token)).claims
    except Refusal as refusal:
        text, reason = str(refusal), refusal.reason
    else:
        return claims
    assert text == reason.value
    event(text)
    return None


def same(left: object, right: object) -> bool:
    """Equal, and of the same types all the way down."""
    return left == right and repr(left) == repr(right)


def unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len({name for name, _ in members}) == len(members)
    return dict(members)


def browser_headers() -> st.SearchStrategy[list[tuple[bytes, bytes]]]:
    values = {
        b"origin": st.sampled_from([b"https://evil.example", b"null", b"https://testserver"]),
        b"sec-fetch-site": st.sampled_from([b"cross-site", b"none", b"x"]),
        b"sec-fetch-mode": st.sampled_from([b"navigate", b"cors"]),
        **dict.fromkeys((b"x-forwarded-host", b"accept", b"x-a"), st.binary(max_size=8)),
    }
    return st.lists(st.one_of([st.tuples(st.just(name), value) for name, value in values.items()]), max_size=3)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def stored(runner: asyncio.Runner) -> Iterator[Target]:
    """A target with a table of sessions; all of its requests run in one event loop."""
    engine = create_async_engine("sqlite+aiosqlite://")
    store = SQLAlchemySessionStore(engine)
    runner.run(store.create_all())
    target = Target(store=store, also_accept=[ROWLESS, Envelope.foreign(iat=False)])
    yield target
    runner.run(target.authority.aclose())
    runner.run(engine.dispose())


ROW = st.fixed_dictionaries({}, optional={"email": strategies.values | st.binary(max_size=4) | st.just(object())})


class TestRequests:
    @given(st.data())
    def test_no_token_cookie_or_header_makes_a_500(self, data: st.DataObject) -> None:
        target = data.draw(st.sampled_from([hmac_target, foreign_target]))
        typ = "session+jwt" if target is hmac_target else data.draw(st.sampled_from(["JWT", "session+jwt"]))
        token = data.draw(st.just(VALID) | strategies.tokens(typ=typ))
        token = token.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
        carried = st.one_of(
            st.tuples(st.just(b"cookie"), strategies.cookies(token)),
            st.sampled_from(cookie(token)),
            st.tuples(st.just(b"authorization"), strategies.authorizations(token)),
        )
        sent = data.draw(st.lists(carried, max_size=2)) + data.draw(browser_headers())
        method = data.draw(st.sampled_from(["GET", "HEAD", "POST", "DELETE"]))
        answer = target.answer(sent, method=method)
        event(f"{answer.status} {answer.reason}")
        assert answer.status in {200, 401, 403, 405}
        if answer.status == 401:
            assert answer.body == (b"" if method == "HEAD" else BODY_401)

    @given(strategies.payloads, st.sampled_from(["", "version"]), st.sampled_from([own, foreign]))
    def test_no_signed_claim_makes_a_500(
        self, payload: dict[str, Any], left_out: str, made: Callable[[object], str]
    ) -> None:
        payload.pop(left_out, None)
        token = made(json.dumps(payload).encode())
        for answer in (hmac_target.by_cookie(token), hmac_target.by_bearer(token), foreign_target.by_bearer(token)):
            event(f"{answer.status} {answer.reason}")
            assert answer.status in {200, 401}
            assert answer.status == 200 or answer.body == BODY_401

    @given(
        payload=strategies.payloads,
        sid=st.none() | strategies.text | st.uuids().map(str),
        made=st.sampled_from([own, foreign]),
    )
    def test_no_signed_claim_makes_a_500_with_a_session_table(
        self, runner: asyncio.Runner, stored: Target, payload: dict[str, Any], sid: str | None, made: Any
    ) -> None:
        named = {**payload, "sid": sid} if sid is not None else {n: v for n, v in payload.items() if n != "sid"}
        answer = runner.run(stored.request(bearer(made(json.dumps(named).encode()))))
        event(f"{answer.status} {answer.reason}")
        assert answer.status in {200, 401}
        assert answer.status == 200 or answer.body == BODY_401

    @given(ROW | strategies.values, st.sampled_from(["email", "permissions", "role"]), strategies.values)
    def test_no_row_makes_a_500(self, row: object, claim: str, value: object) -> None:
        """A claim that is missing is filled from a row that holds anything at all."""

        @source("email")
        async def rows(keys: Collection[str]) -> Mapping[str, Any]:
            return dict.fromkeys(keys, row)

        target = Target(sources=[rows])
        old = {name: held for name, held in CLAIMS.items() if name not in ("email", "version")}
        answer = target.by_bearer(own(json.dumps({**old, claim: value} if claim != "email" else old).encode()))
        event(f"{answer.status} {answer.reason}")
        assert answer.status in {200, 401, 503}


ANY_NAME = Transport(["__Host-session", "token"], {})


def read(*headers: tuple[bytes, bytes]) -> Received | Reason:
    try:
        return ANY_NAME.read(list(headers))
    except Refusal as refusal:
        return refusal.reason


class TestCarriers:
    @given(st.lists(strategies.cookies("abc"), min_size=1, max_size=2))
    def test_cookies_are_read_as_the_reference_reads_them(self, headers: list[bytes]) -> None:
        names = [b"__Host-session", b"token"]
        received = read(*((b"cookie", header) for header in headers))
        expected = strategies.reference_cookie(b";".join(headers), names)
        event(f"{len(expected)} values")
        if len(expected) > MAX_VALUES:
            assert received is Reason.TOKEN_AMBIGUOUS
        else:
            assert isinstance(received, Received)
            found = [] if received.raw is None else [received.raw, *received.others]
            assert [raw.value for raw in found] == expected

    @given(strategies.authorizations("abc.def"))
    def test_bearer_is_read_as_rfc_6750_says(self, value: bytes) -> None:
        received = read((b"authorization", value), (b"cookie", b"token=c"))
        raw = received.raw if isinstance(received, Received) else received
        expected = strategies.reference_bearer(value)
        if expected is not None:
            assert raw == RawToken(expected, Carrier.BEARER)
        elif re.match(rb"(?i)bearer(?:[ \t]|$)", value):
            assert raw is Reason.TOKEN_MALFORMED
        else:
            assert raw == RawToken(b"c", Carrier.COOKIE, "token")


class TestTokens:
    @given(strategies.tokens())
    def test_pyjwt_accepts_each_accepted_hmac_token_with_the_same_claims(self, token: str) -> None:
        claims = verified(hmac_target, token)
        if claims is not None:
            assert same(jwt.decode(token, SECRET, algorithms=["HS256"], options=NO_TIMES), claims)
            assert claims["exp"] + 30 > NOW
            assert claims["iat"] <= NOW + 30
            assert claims["exp"] - claims["iat"] <= 7 * 86_400 + 30

    @given(strategies.tokens(ES256))
    def test_pyjwt_accepts_each_accepted_ecdsa_token_with_the_same_claims(self, token: str) -> None:
        claims = verified(ec_target, token)
        if claims is not None:
            assert same(jwt.decode(token, EC.public_key(), algorithms=["ES256"], options=NO_TIMES), claims)

    @given(st.data())
    def test_an_edited_token_is_refused(self, data: st.DataObject) -> None:
        token = data.draw(strategies.edits(VALID))
        assert (verified(hmac_target, token) is not None) is (token == VALID)

    @given(st.text(strategies.ALPHABET + ".=+/ é\0", max_size=300) | st.text(max_size=50))
    def test_noise_is_malformed(self, token: str) -> None:
        assert hmac_target.verify(token) == "token_malformed"

    @given(st.data())
    def test_strict_json_is_read_as_the_standard_library_reads_it(self, data: st.DataObject) -> None:
        raw = data.draw(strategies.spelled(data.draw(strategies.payloads)))
        try:
            value = parse_object(raw, Reason.CLAIMS_INVALID)
        except Refusal:
            event("refused")
        else:
            assert same(value, json.loads(raw.decode(), object_pairs_hook=unique))

    def test_some_generated_tokens_are_accepted(self) -> None:
        """The attacks would prove nothing if all of them were refused for their form."""
        for target, tokens in [
            (hmac_target, strategies.tokens()),
            (ec_target, strategies.tokens(ES256)),
            (foreign_target, strategies.tokens(typ="JWT")),
        ]:

            def is_accepted(token: str, target: Target = target) -> bool:
                return target.verify(token) is None

            token = find(tokens, is_accepted)
            assert target.by_cookie(token).reason != "token_malformed"
