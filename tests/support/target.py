"""What is attacked: a world seen from outside, and the tools to forge tokens with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding

from jwt_middleware import Key, KeyRing, Reason, Refusal
from jwt_middleware.testing import client
from jwt_middleware.tokens.jws import to_base64url
from tests.support.world import EPOCH, SECRET, World, bearer, cookie

NOW = int(EPOCH)
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


def private_pem(key: Any, password: bytes | None = None) -> bytes:
    encryption = serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password)
    pem: bytes = key.private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return pem


def public_pem(key: Any, encoding: Encoding = Encoding.PEM) -> bytes:
    public = key.public_key() if hasattr(key, "public_key") else key
    pem: bytes = public.public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    return pem


def compact(value: object) -> bytes:
    """Compact JSON; bytes are left as they are."""
    return value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def forged(header: object = HEADER, payload: object = CLAIMS, *, key: Key | None = HMAC, signature: bytes = b"") -> str:
    """A token of any header and payload, signed by ``key``, else with that signature."""
    signing_input = to_base64url(compact(header)) + b"." + to_base64url(compact(payload))
    signature = signature if key is None else key._material.algorithm.sign(signing_input, key._material.signing)
    return (signing_input + b"." + to_base64url(signature)).decode()


def refusal(call: Callable[..., object], *arguments: Any, **options: Any) -> Refusal:
    """The Refusal that the call raises; no exception of a vendor shows through."""
    with pytest.raises(Refusal) as caught:
        call(*arguments, **options)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


def reason_of(call: Callable[..., object], *arguments: Any, **options: Any) -> Reason:
    return refusal(call, *arguments, **options).reason


async def reason(authority: Any, token: str) -> str | None:
    """Why the token is refused; None if it is accepted."""
    try:
        await authority.verify(token)
    except Refusal as refusal:
        return refusal.reason.value
    return None


class Answer(NamedTuple):
    """What came back, and the Reason that stayed inside; None if the request was let in."""

    status: int
    body: bytes
    reason: str | None


class Target(World):
    """A world without a store and without users, asked from synchronous tests."""

    def __init__(self, keys: Sequence[Key] = (HMAC,), **settings: Any) -> None:
        super().__init__(**{"keys": KeyRing(keys), "store": None, "sources": [], **settings})

    def verify(self, token: str) -> str | None:
        """The Reason of the token alone."""
        return asyncio.run(reason(self.authority, token))

    def answer(self, headers: Sequence[tuple[bytes, bytes]], *, method: str = "GET") -> Answer:
        """One request over HTTP; headers may repeat."""
        return asyncio.run(self.request(headers, method))

    async def request(self, headers: Sequence[tuple[bytes, bytes]], method: str = "GET") -> Answer:
        self.recorder.outcomes.clear()
        async with client(self.app) as http:
            response = await http.request(method, "/", headers=list(headers))
        return Answer(response.status_code, response.content, next(iter(self.recorder.reasons), None))

    def by_cookie(self, token: str) -> Answer:
        return self.answer(cookie(token))

    def by_bearer(self, token: str) -> Answer:
        return self.answer(bearer(token))

    def judged(self, token: str) -> str | None:
        """The Reason of the token alone, by cookie and by Bearer; all three are the same."""
        alone, in_cookie, in_bearer = self.verify(token), self.by_cookie(token), self.by_bearer(token)
        assert (in_cookie.reason, in_bearer.reason) == (alone, alone), token[:200]
        assert in_cookie.status == in_bearer.status == (200 if alone is None else 401)
        return alone
