"""Millions of cached sessions, each in an entry of its own, and requests with a random one of them.

Verifying a million tokens would take minutes. One token is verified; its cache entry is copied for every other user,
with that user's name, under the digest of that user's token. The copies are deep, so that the entries are spread over
memory as in production.
"""

from __future__ import annotations

import hmac
import json
import random
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from time import monotonic
from typing import Any

import msgspec

from jwt_middleware import SessionAuthority
from jwt_middleware.lookup.batch import Found
from jwt_middleware.tokens.jws import digest

from . import world
from .apps import Coming
from .tokens import remember

SHOWN = 0xFEEDFACECAFE
"""The number of the user whose token is verified."""
Token = Callable[[int], bytes]
"""Makes the token of a user from its number, always the same, so that no token has to be kept."""


def user(number: int) -> str:
    """The name of a user; all names have one length, and no other text contains the name of SHOWN."""
    return f"{number:012x}"


def numbered(claims: Mapping[str, Any]) -> Token:
    """Tokens with these claims, which contain the name of SHOWN."""
    header = _base64url(b'{"alg":"HS256","typ":"session+jwt"}')
    payload = json.dumps(claims, separators=(",", ":")).encode()
    secret, shown = world.SECRET.encode(), user(SHOWN).encode()

    def token(number: int) -> bytes:
        signed = header + b"." + _base64url(payload.replace(shown, user(number).encode()))
        return signed + b"." + _base64url(hmac.digest(secret, signed, sha256))

    return token


def digests(token: Token, count: int) -> list[bytes]:
    return [digest(token(number)) for number in range(count)]


async def crowd(authority: SessionAuthority[Any], token: Token, keys: Iterable[bytes]) -> None:
    """Cache a session under each key."""
    cache = authority.parts.token_cache
    await remember(authority, [token(SHOWN)])
    entry = cache._entries[digest(token(SHOWN))]
    packed = msgspec.msgpack.encode(entry)
    copy, shown = msgspec.msgpack.Decoder(type(entry)).decode, user(SHOWN).encode()
    cache.forget_all()
    for number, key in enumerate(keys):
        cache._entries[key] = copy(packed.replace(shown, user(number).encode()))


async def cache_claims(authority: SessionAuthority[Any], count: int) -> None:
    """Fill the cache of the claims source for a number of users."""
    lookup: Any = authority.parts.authenticator.filler._sources[0][1]
    queries = lookup._queries
    for first in range(0, count, 1_000):
        rows = await queries._fetch([user(number) for number in range(first, min(count, first + 1_000))])
        for key, row in rows.items():
            queries.cache.put(key, Found(value=row, origin="cache"), until=monotonic() + queries._ttl)


def anyone(token: Token, count: int) -> Coming:
    """Requests of random users."""
    picked = random.Random(7)
    return lambda number: [world.cookie(token(picked.randrange(count)).decode()) for _ in range(number)]


def _base64url(octets: bytes) -> bytes:
    return urlsafe_b64encode(octets).rstrip(b"=")
