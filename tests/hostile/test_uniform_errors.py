"""Errors are uniform: a refused client cannot tell one Reason from another."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from jwt_middleware import Claim, Key, MemorySessionStore, Reason, SessionStatus, source
from tests.support.asgi import ask
from tests.support.strategies import OWN, own
from tests.support.target import CLAIMS, NOW, Target, forged, refusal
from tests.support.world import FakeClock, bearer, cookie

OLD = {name: value for name, value in CLAIMS.items() if name not in ("version", "email")}


@source("email", require_row=True)
async def no_row(keys: Any) -> dict[str, Any]:
    return {}


@source("email")
async def no_email(keys: Any) -> dict[str, Any]:
    return {key: {"email": None} for key in keys}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reachable:
    """A session that needs an email."""

    user_id: Annotated[str, Claim("userId")]
    email: Annotated[str, Claim(since=2)]


class Ended(MemorySessionStore):
    """Every session is in the table, and none is active."""

    async def statuses(self, keys: Any) -> Any:
        return {key: SessionStatus(known=True, active=False) for key in keys}


plain = Target(issuer=None)
REFUSED: dict[Reason, tuple[Target, str]] = {
    Reason.TOKEN_OVERSIZE: (plain, "a" * 9000),
    Reason.TOKEN_MALFORMED: (plain, "abc"),
    Reason.KEY_UNKNOWN: (plain, own(header={**OWN, "kid": "other"})),
    Reason.ALGORITHM_MISMATCH: (plain, forged({"alg": "none"}, key=None)),
    Reason.SIGNATURE_INVALID: (plain, own(key=Key.hmac("somebody-else-somebody-else-0123456789"))),
    Reason.CLAIMS_INVALID: (plain, own({**CLAIMS, "exp": "soon"})),
    Reason.TOKEN_EXPIRED: (plain, own({**CLAIMS, "exp": NOW - 31})),
    Reason.TOKEN_NOT_YET_VALID: (plain, own({**CLAIMS, "nbf": NOW + 99})),
    Reason.ISSUER_MISMATCH: (Target(issuer="us"), own({**CLAIMS, "iss": "them"})),
    Reason.AUDIENCE_MISMATCH: (plain, own({**CLAIMS, "aud": "them"})),
    Reason.LIFETIME_EXCEEDED: (plain, own({**CLAIMS, "exp": NOW + 10**6})),
    Reason.TOKEN_FOREIGN: (plain, forged()),
    Reason.PAYLOAD_NEWER: (Target(schema={"newer": "refuse"}), own({**CLAIMS, "version": 3})),
    Reason.PAYLOAD_TOO_OLD: (Target(schema={"oldest": 2}), own(OLD)),
    Reason.PAYLOAD_INVALID: (plain, own({**CLAIMS, "permissions": 7})),
    Reason.SUBJECT_UNKNOWN: (Target(sources=[no_row]), own(OLD)),
    Reason.CLAIMS_INCOMPLETE: (Target(cls=Reachable, sources=[no_email]), own(OLD)),
    Reason.SESSION_UNKNOWN: (Target(store=MemorySessionStore(clock=FakeClock())), own()),
    Reason.SESSION_REVOKED: (Target(store=Ended(clock=FakeClock())), own()),
}
"""The Reasons a token, its row and its session can have."""


class TestUniformErrors:
    def test_every_reason_of_a_token_is_covered(self) -> None:
        without_token = {Reason.TOKEN_MISSING, Reason.TOKEN_AMBIGUOUS}
        assert set(REFUSED) == {reason for reason in Reason if reason.status == 401} - without_token

    @pytest.mark.parametrize("reason", REFUSED, ids=str)
    def test_every_401_has_the_same_body(self, reason: Reason) -> None:
        target, token = REFUSED[reason]
        missing = plain.answer([])
        assert missing.reason == "token_missing"
        for answer in (target.by_cookie(token), target.by_bearer(token)):
            assert answer == (401, missing.body, reason.value)

    @pytest.mark.parametrize("carry", [cookie, bearer])
    async def test_the_headers_of_a_401_depend_only_on_the_carrier(self, carry: Any) -> None:
        headers = {
            reason: dict((await ask(target.app, headers=carry(token))).headers)
            for reason, (target, token) in REFUSED.items()
        }
        assert all(sent["www-authenticate"] == 'Bearer error="invalid_token"' for sent in headers.values())
        oversize = headers.pop(Reason.TOKEN_OVERSIZE)  # refused in the transport, where nothing else was read
        first, *others = headers.values()
        assert all(other == first for other in others)
        assert set(oversize) == set(first)

    async def test_the_login_page_is_named_for_every_reason_alike(self) -> None:
        target = Target(issuer=None, public=["/login"], login="/login")
        tokens = [token for held, token in REFUSED.values() if held is plain]
        (body,) = {(await ask(target.app, bearer=token)).content for token in tokens}
        assert json.loads(body) == {"type": "about:blank", "title": "Unauthorized", "status": 401, "login": "/login"}

    def test_a_refusal_says_its_reason_and_shows_nothing_else(self) -> None:
        for changed, shown in [
            ({"exp": "canary-canary"}, "Refusal('claims_invalid')"),
            ({"aud": "canary-canary"}, "NotAdmitted('audience_mismatch')"),
        ]:
            refused = refusal(asyncio.run, plain.authority.verify(own({**CLAIMS, **changed})))
            assert repr(refused) == shown
            assert refused.args == (refused.reason.value,)
            assert "canary" not in repr(vars(refused))
