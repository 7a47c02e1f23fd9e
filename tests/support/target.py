"""What is attacked: an authority with its app, seen from outside, and the tools to forge with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from jwt_middleware import JWTSessionMiddleware, Key, KeyRing, Refusal
from jwt_middleware.testing import client
from jwt_middleware.tokens.jws import to_base64url
from tests.support.world import EPOCH, SECRET, FakeClock, Recorder, authority_of

NOW = int(EPOCH)
COOKIE = "__Host-session"
CLAIMS: dict[str, Any] = {
    "iat": NOW,
    "exp": NOW + 3600,
    "sid": "6fa1c5b2-8a0b-4c57-9d3e-0d8a4b1f2c3d",
    "auth_time": NOW,
    "version": 2,
    "userId": "7",
    "companyId": "c",
    "role": "user",
    "email": "a@example.com",
    "permissions": ["read"],
}
HEADER: dict[str, Any] = {"alg": "HS256", "typ": "JWT"}
HMAC = Key.hmac(SECRET)


def compact(value: object) -> bytes:
    """JSON as everybody writes it; bytes are taken as they are."""
    return value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def forged(header: object = HEADER, payload: object = CLAIMS, *, key: Key | None = HMAC, signature: bytes = b"") -> str:
    """A token of any header and payload, signed by ``key`` or not at all."""
    signing_input = to_base64url(compact(header)) + b"." + to_base64url(compact(payload))
    signature = signature if key is None else key._material.algorithm.sign(signing_input, key._material.signing)
    return (signing_input + b"." + to_base64url(signature)).decode()


class Answer(NamedTuple):
    """What came back, and the Reason that stayed inside; None where the request was let in."""

    status: int
    body: bytes
    reason: str | None


async def page(request: Request) -> JSONResponse:
    return JSONResponse({"user": str(request.state.session.user_id)})


class Target:
    """An authority and its app, with an observer inside."""

    def __init__(self, keys: Sequence[Key] = (HMAC,), **settings: Any) -> None:
        self.recorder = Recorder()
        self.authority = authority_of(
            **{"keys": KeyRing(keys), "observers": [self.recorder], "clock": FakeClock(), **settings}
        )
        self.app = JWTSessionMiddleware(Starlette(routes=[Route("/", page)]), authority=self.authority)

    def verify(self, token: str) -> str | None:
        """The Reason of the token alone."""
        try:
            asyncio.run(self.authority.verify(token))
        except Refusal as refusal:
            return refusal.reason.value
        return None

    def send(self, headers: Sequence[tuple[bytes, bytes]], *, method: str = "GET", url: str = "/") -> Answer:
        """One request over HTTP."""

        async def request() -> Answer:
            async with client(self.app) as http:
                response = await http.request(method, url, headers=list(headers))
                return Answer(response.status_code, response.content, None)

        self.recorder.outcomes.clear()
        answer = asyncio.run(request())
        reasons = self.recorder.reasons
        return answer._replace(reason=reasons[0] if reasons else None)

    def by_cookie(self, token: str) -> Answer:
        return self.send([(b"cookie", f"{COOKIE}={token}".encode())])

    def by_bearer(self, token: str) -> Answer:
        return self.send([(b"authorization", f"Bearer {token}".encode())])

    def judged(self, token: str) -> str | None:
        """The Reason of the token alone, by cookie and by Bearer; all three say the same."""
        alone, cookie, bearer = self.verify(token), self.by_cookie(token), self.by_bearer(token)
        assert (cookie.reason, bearer.reason) == (alone, alone), token[:200]
        assert cookie.status == bearer.status == (200 if alone is None else 401)
        return alone
