"""Tokens of today's payload and of an old one, and requests with them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Any

import jwt

from jwt_middleware import SessionAuthority, source
from jwt_middleware.testing import old_token

from . import world
from .apps import Coming
from .world import Headers

OLD = {"userId": "42", "companyId": "acme"}
"""The payload before ``email`` was added."""
AT_ONCE = 250
"""Tokens that are sent together, so that store queries are batched."""


@source("email")
async def emails(keys: Any) -> dict[str, dict[str, str]]:
    """A source that answers at once."""
    return {key: {"email": f"user{key}@example.com"} for key in keys}


async def sid_of(authority: SessionAuthority[Any]) -> str | None:
    """The id of a new session in the store, if there is one."""
    return (await authority.issue(world.user())).session_id


async def old_request(authority: SessionAuthority[Any], **more: Any) -> Headers:
    """A request with an old token whose session is in the store."""
    return world.cookie(old_token(authority, {**OLD, **more}, sid=await sid_of(authority)))


def unseen(authority: SessionAuthority[Any], token: str) -> Coming:
    """Requests with tokens that are not cached, of a session whose status is; signed before the clock starts."""
    claims, numbers = jwt.decode(token, options={"verify_signature": False}), count()
    sign: Callable[[dict[str, Any]], str] = authority.parts.authenticator.tokens.sign

    def coming(number: int) -> list[Headers]:
        return [world.cookie(sign({**claims, "jti": f"{next(numbers):08d}"})) for _ in range(number)]

    return coming


def signed(authority: SessionAuthority[Any], number: int) -> list[bytes]:
    """Tokens of a number of users."""
    sign: Callable[[dict[str, Any]], str] = authority.parts.authenticator.tokens.sign
    sids = (f"0af76519-16cd-43dd-8448-{n:012x}" for n in range(number))
    return [
        sign(world.claims(userId=str(n), email=f"user{n}@example.com", sid=sid)).encode() for n, sid in enumerate(sids)
    ]


async def remember(authority: SessionAuthority[Any], tokens: list[bytes]) -> None:
    """Send each token once, so that it is cached."""
    for first in range(0, len(tokens), AT_ONCE):
        shown = ([(b"cookie", b"__Host-session=" + token)] for token in tokens[first : first + AT_ONCE])
        for outcome in await asyncio.gather(*map(authority.authenticate, shown)):
            if outcome.session is None:
                raise SystemExit(f"refused: {outcome.reason}")
    await asyncio.sleep(0)  # the loop still holds the last ones
