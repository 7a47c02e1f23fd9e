"""Whatever the Reason: who is refused learns nothing by it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from jwt_middleware import Claim, JWTSessionMiddleware, Key, MemorySessionStore, Reason, Refusal, SessionStatus, source
from jwt_middleware.testing import client
from tests.support.target import CLAIMS, COOKIE, HEADER, NOW, Target, forged, page
from tests.support.world import FakeClock

STRANGER = Key.hmac("somebody-else-somebody-else-0123456789")
old = {name: value for name, value in CLAIMS.items() if name not in ("version", "email")}


@source("email", require_row=True)
async def nobody(keys: Any) -> dict[str, Any]:
    return {}


@source("email")
async def empty(keys: Any) -> dict[str, Any]:
    return {key: {"email": None} for key in keys}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reachable:
    """A session that is none without an address."""

    user_id: Annotated[str, Claim("userId")]
    email: Annotated[str, Claim(since=2)]


class Ended(MemorySessionStore):
    """Knows every session, and none is active."""

    async def statuses(self, keys: Any) -> Any:
        return {key: SessionStatus(known=True, active=False) for key in keys}


plain = Target(issuer=None)
REFUSED: dict[Reason, tuple[Target, str]] = {
    Reason.TOKEN_OVERSIZE: (plain, "a" * 9000),
    Reason.TOKEN_MALFORMED: (plain, "abc"),
    Reason.KEY_UNKNOWN: (plain, forged({**HEADER, "kid": "other"})),
    Reason.ALGORITHM_MISMATCH: (plain, forged({"alg": "none"}, key=None)),
    Reason.SIGNATURE_INVALID: (plain, forged(key=STRANGER)),
    Reason.CLAIMS_INVALID: (plain, forged(payload={**CLAIMS, "exp": "soon"})),
    Reason.TOKEN_EXPIRED: (plain, forged(payload={**CLAIMS, "exp": NOW - 31})),
    Reason.TOKEN_NOT_YET_VALID: (plain, forged(payload={**CLAIMS, "nbf": NOW + 99})),
    Reason.ISSUER_MISMATCH: (Target(issuer="us"), forged(payload={**CLAIMS, "iss": "them"})),
    Reason.AUDIENCE_MISMATCH: (plain, forged(payload={**CLAIMS, "aud": "them"})),
    Reason.LIFETIME_EXCEEDED: (plain, forged(payload={**CLAIMS, "exp": NOW + 10**6})),
    Reason.PAYLOAD_NEWER: (Target(schema={"newer": "refuse"}), forged(payload={**CLAIMS, "version": 3})),
    Reason.PAYLOAD_INVALID: (plain, forged(payload={**CLAIMS, "permissions": 7})),
    Reason.SUBJECT_UNKNOWN: (Target(sources=[nobody]), forged(payload=old)),
    Reason.CLAIMS_INCOMPLETE: (Target(cls=Reachable, sources=[empty]), forged(payload=old)),
    Reason.SESSION_UNKNOWN: (Target(store=MemorySessionStore(clock=FakeClock())), forged()),
    Reason.SESSION_REVOKED: (Target(store=Ended(clock=FakeClock())), forged()),
}
"""The Reasons a token, its row and its session can have."""


def test_no_reason_of_a_token_is_forgotten() -> None:
    without_token = {Reason.TOKEN_MISSING, Reason.TOKEN_AMBIGUOUS}
    assert set(REFUSED) == {reason for reason in Reason if reason.status == 401} - without_token


@pytest.mark.parametrize("reason", REFUSED, ids=str)
def test_every_401_has_the_same_face(reason: Reason) -> None:
    target, token = REFUSED[reason]
    face = plain.send([])
    assert face.reason == "token_missing"
    for answer in (target.by_cookie(token), target.by_bearer(token)):
        assert answer == (401, face.body, reason.value)


def test_the_headers_of_a_401_differ_by_what_the_client_sent_and_by_nothing_else() -> None:
    async def headers_of(target: Target, name: bytes, value: str) -> dict[str, str]:
        async with client(target.app) as http:
            return dict((await http.get("/", headers=[(name, value.encode())])).headers)

    for name, prefix in ((b"cookie", f"{COOKIE}="), (b"authorization", "Bearer ")):
        faces = [asyncio.run(headers_of(target, name, prefix + token)) for target, token in REFUSED.values()]
        assert all(face["www-authenticate"] == 'Bearer error="invalid_token"' for face in faces)
        seen_early = {Reason.TOKEN_OVERSIZE}  # refused in the transport, where nothing else was read
        late = [face for face, reason in zip(faces, REFUSED, strict=True) if reason not in seen_early]
        assert all(face == late[0] for face in late)
        assert all(set(face) == set(late[0]) for face in faces)


def test_where_to_log_in_is_told_to_everybody_alike() -> None:
    target = plain.authority
    app = JWTSessionMiddleware(
        Starlette(routes=[Route("/", page)]), authority=target, public=["/login"], login="/login"
    )

    async def bodies() -> set[bytes]:
        async with client(app) as http:
            tokens = [token for held, token in REFUSED.values() if held is plain]
            return {(await http.get("/", headers={"authorization": f"Bearer {token}"})).content for token in tokens}

    (body,) = asyncio.run(bodies())
    assert json.loads(body) == {"type": "about:blank", "title": "Unauthorized", "status": 401, "login": "/login"}


def test_a_refusal_says_its_reason_and_shows_nothing_else() -> None:
    token = forged(payload={**CLAIMS, "exp": "canary-canary"})
    with pytest.raises(Refusal) as caught:
        asyncio.run(plain.authority.verify(token))
    assert repr(caught.value) == "Refusal('claims_invalid')"
    assert caught.value.args == ("claims_invalid",)
