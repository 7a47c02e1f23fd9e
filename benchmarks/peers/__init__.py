"""The peers, set up as their documentation says, and configured to check what ours checks.

That is: the signature, ``exp`` and ``iat`` with a leeway if they have one, required claims, a lifetime of at most the
window, and revocation (here a set in memory, the cheapest way). Each makes a session, which the handler reads; a bad
token gets 401. Keys are passed once, as the documentation does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt

from .. import world
from ..world import LEEWAY, OWN, REQUIRED, SECRET, WINDOW, Headers, Session

REVOKED = "5e0c1d0e-57a5-4f4e-9e3c-3a0d3b1f0bad"
REVOKED_SESSIONS = frozenset({REVOKED})
ANOTHER_SECRET = "another-secret-0123456789abcdef0123456789"
Carried = Callable[[str], Headers]
"""A request with this token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """An app, and the requests that prove it: those it must accept, and those it must refuse, by their defect."""

    app: Any
    framework: str
    good: Sequence[Headers]
    """The first is timed; another has the claims of the bad ones without their defect."""
    bad: Mapping[str, Headers]
    checks: str
    says: bytes = b"ok"
    refuses: Collection[int] = (401,)


def unguarded(app: Any, framework: str, good: Headers) -> Peer:
    """An app without a check: its handler finds no session."""
    return Peer(app=app, framework=framework, good=[good], bad={}, checks="nothing", says=b"hi")


def decode(token: str) -> Session:
    """The hand-written check with PyJWT.

    Raises:
        jwt.PyJWTError: The token is refused.
    """
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], leeway=LEEWAY, options={"require": REQUIRED})
    if claims["exp"] - claims["iat"] > WINDOW + LEEWAY or claims["sid"] in REVOKED_SESSIONS:
        raise jwt.InvalidTokenError
    return Session(
        user_id=claims["userId"],
        company_id=claims["companyId"],
        role=claims["role"],
        email=claims["email"],
        environment=claims["environment"],
    )


def shown(claims: Mapping[str, Any], carried: Carried = world.cookie, secret: str = SECRET) -> Headers:
    """A request with a token of these claims."""
    return carried(jwt.encode(dict(claims), secret, algorithm="HS256", headers=OWN))


def bad(claims: Mapping[str, Any], carried: Carried = world.cookie) -> dict[str, Headers]:
    """Requests to refuse, by the only defect of their token."""
    now = int(time.time())
    instead: dict[str, dict[str, Any]] = {
        "expired": {"iat": now - 7200, "auth_time": now - 7200, "exp": now - 3600},
        "of the future": {"iat": now + 3600, "exp": now + 7200},
        "longer than the window": {"exp": now + 2 * WINDOW},
        "revoked": {"sid": REVOKED},
    }
    less = {name: value for name, value in claims.items() if name != "companyId"}
    return {
        "forged": shown(claims, carried, ANOTHER_SECRET),
        "without the company": shown(less, carried),
        **{wrong: shown({**claims, **spoiled}, carried) for wrong, spoiled in instead.items()},
    }


async def prove(name: str, peer: Peer) -> None:
    """Check that the app accepts every good token and refuses every bad one; end the run otherwise."""
    for headers in peer.good:
        if (answer := await world.answer(peer.app, headers)) != (200, peer.says):
            raise SystemExit(f"{name} answered {answer} to a good token")
    for wrong, headers in peer.bad.items():
        status, _ = await world.answer(peer.app, headers)
        if status not in peer.refuses:
            raise SystemExit(f"{name} answered {status} to a token that is {wrong}")


def everyone(token: str) -> dict[str, Peer]:
    """All peers; needs ``requirements.txt``."""
    from . import on_authx, on_fastapi, on_litestar, on_starlette, session_middleware

    return {
        **on_starlette.peers(token),
        **session_middleware.peers(),
        **on_fastapi.peers(token),
        **on_authx.peers(),
        **on_litestar.peers(),
    }
