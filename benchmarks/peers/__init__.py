"""The peers, as their own documentation writes them, and each told to check what ours checks.

That is: the signature, ``exp`` and ``iat`` with a leeway, the claims that must be there, a lifetime of at most the
window, and that the session was not revoked (here a set in memory, the cheapest there is). Each makes a session of
it; a bad token is answered with 401. Keys are handed over as the documentation does it, once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from .. import world
from ..world import COOKIE, LEEWAY, REQUIRED, SECRET, WINDOW, Headers, Session

REVOKED = frozenset({"5e0c1d0e-57a5-4f4e-9e3c-3a0d3b1f0bad"})
ANOTHER_SECRET = "another-secret-0123456789abcdef0123456789"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """An app, a request it accepts, those it refuses by what is wrong with them, and the app without its check."""

    app: Any
    good: Headers
    bad: Mapping[str, Headers]
    base: str
    checks: str


def decode(token: str) -> Session:
    """What every hand-written check with PyJWT does.

    Raises:
        jwt.PyJWTError: It is no good.
    """
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], leeway=LEEWAY, options={"require": REQUIRED})
    if claims["exp"] - claims["iat"] > WINDOW + LEEWAY or claims["sid"] in REVOKED:
        raise jwt.InvalidTokenError
    return Session(
        user_id=claims["userId"],
        company_id=claims["companyId"],
        role=claims["role"],
        email=claims["email"],
        environment=claims["environment"],
    )


def signed(claims: Mapping[str, Any], secret: str = SECRET) -> str:
    return jwt.encode(dict(claims), secret, algorithm="HS256")


def bad_claims(claims: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What is wrong with a token whose signature holds, by name."""
    now = int(time.time())
    return {
        "expired": {**claims, "iat": now - 7200, "exp": now - 3600},
        "of the future": {**claims, "iat": now + 3600, "exp": now + 7200},
        "without the company": {name: value for name, value in claims.items() if name != "companyId"},
        "longer than the window": {**claims, "exp": now + 2 * WINDOW},
        "revoked": {**claims, "sid": next(iter(REVOKED))},
    }


def bad(claims: Mapping[str, Any] | None = None, prefix: str = "") -> dict[str, Headers]:
    """Requests that nobody may accept."""
    claims = world.claims() if claims is None else claims
    tokens = {"forged": signed(claims, ANOTHER_SECRET)}
    tokens |= {wrong: signed(mended) for wrong, mended in bad_claims(claims).items()}
    return {wrong: world.cookie(prefix + token, COOKIE) for wrong, token in tokens.items()}


async def prove(name: str, peer: Peer) -> None:
    """He answers a good token as the bare app would, and refuses every bad one, or the run ends here."""
    if await world.answer(peer.app, peer.good) != (200, b"ok"):
        raise SystemExit(f"{name} answered {await world.answer(peer.app, peer.good)} to a good token")
    for wrong, headers in peer.bad.items():
        status, _ = await world.answer(peer.app, headers)
        if status not in (401, 422):  # 422 is what authx says
            raise SystemExit(f"{name} answered {status} to a token that is {wrong}")


def everyone(token: str) -> dict[str, Peer]:
    """All of them; needs ``requirements.txt``."""
    from . import on_authx, on_fastapi, on_litestar, on_starlette, session_middleware

    return {
        **on_starlette.peers(token),
        **session_middleware.peers(),
        **on_fastapi.peers(token),
        **on_authx.peers(),
        **on_litestar.peers(),
    }
