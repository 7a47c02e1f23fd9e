"""Sessions by the million, each remembered in an entry of its own, and requests of one of them picked at random.

To show a million tokens to an authority would take minutes. One is shown; what is remembered of it is copied for every
other number, with that user's name in place of the first one's, under the digest of that user's own token. Copies are
deep, so that a request finds its session where it would lie: anywhere in a gigabyte.
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
"""The number whose token is shown."""
Token = Callable[[int], bytes]
"""The token of the user of a number, the same each time: so a million of them need not be kept."""


def user(number: int) -> str:
    """How the user of a number is called: all names are as long, and nothing else is spelled as the one shown."""
    return f"{number:012x}"


def numbered(claims: Mapping[str, Any]) -> Token:
    """Tokens of these claims, which are those of the number shown."""
    header, payload = _base64url(b'{"alg":"HS256","typ":"JWT"}'), json.dumps(claims, separators=(",", ":")).encode()
    secret, shown = world.SECRET.encode(), user(SHOWN).encode()

    def token(number: int) -> bytes:
        signed = header + b"." + _base64url(payload.replace(shown, user(number).encode()))
        return signed + b"." + _base64url(hmac.digest(secret, signed, sha256))

    return token


def digests(token: Token, count: int) -> list[bytes]:
    return [digest(token(number)) for number in range(count)]


async def crowd(authority: SessionAuthority[Any], token: Token, keys: Iterable[bytes]) -> None:
    """Remember a session for each key."""
    cache = authority.parts.token_cache
    await remember(authority, [token(SHOWN)])
    entry = cache._entries[digest(token(SHOWN))]
    packed = msgspec.msgpack.encode(entry)
    copy, shown = msgspec.msgpack.Decoder(type(entry)).decode, user(SHOWN).encode()
    cache.forget_all()
    for number, key in enumerate(keys):
        cache._entries[key] = copy(packed.replace(shown, user(number).encode()))


async def cache_claims(authority: SessionAuthority[Any], count: int) -> None:
    """Put what the source says of so many users where an answer of it is put."""
    lookup: Any = authority.parts.authenticator.filler._sources[0][1]
    for first in range(0, count, 1_000):
        rows = await lookup._fetch([user(number) for number in range(first, min(count, first + 1_000))])
        for key, row in rows.items():
            lookup.cache.put(key, Found(value=row, origin="cache"), until=monotonic() + lookup._ttl)


def anyone(token: Token, count: int) -> Coming:
    """Requests of one of so many users, each picked at random."""
    picked = random.Random(7)
    return lambda number: [world.cookie(token(picked.randrange(count)).decode()) for _ in range(number)]


def _base64url(octets: bytes) -> bytes:
    return urlsafe_b64encode(octets).rstrip(b"=")
