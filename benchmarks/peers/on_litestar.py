"""Litestar's JWTCookieAuth, with its own handlers for the user and for revocation, and the claims it shall require."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from litestar import Litestar, MediaType, get
from litestar.security.jwt import JWTCookieAuth, Token

from .. import world
from ..world import COOKIE, LEEWAY, SECRET, WINDOW, Session
from . import REVOKED, Peer, bad


async def _retrieve(token: Any, connection: Any) -> Session | None:
    """Its own tokens have the claims of the app below ``extras``, where it cannot require them."""
    if (token.exp - token.iat).total_seconds() > WINDOW + LEEWAY:
        return None
    extras = token.extras
    try:
        return Session(
            user_id=token.sub,
            company_id=extras["companyId"],
            role=extras["role"],
            email=extras["email"],
            environment=extras["environment"],
        )
    except KeyError:
        return None


async def _revoked(token: Any, connection: Any) -> bool:
    sid = token.extras.get("sid")
    return sid is None or sid in REVOKED


def _home() -> str:
    return "ok"


def peers() -> dict[str, Peer]:
    auth = JWTCookieAuth[Session](
        retrieve_user_handler=_retrieve,
        revoked_token_handler=_revoked,
        token_secret=SECRET,
        key=COOKIE,
        require_claims=["exp", "iat", "sub"],
    )

    handler = get("/", media_type=MediaType.TEXT, sync_to_thread=False)(_home)
    now = datetime.now(UTC)
    own = {name: value for name, value in world.claims().items() if name not in ("iat", "exp", "userId")}
    token = Token(sub="42", exp=now + timedelta(seconds=WINDOW), iat=now, extras=own)
    good = world.cookie("Bearer " + token.encode(secret=SECRET, algorithm="HS256"))
    return {
        "Litestar": Peer(
            app=Litestar([handler], openapi_config=None), good=good, bad={}, base="", checks="nothing: its bare app"
        ),
        "Litestar JWTCookieAuth": Peer(
            app=Litestar([handler], on_app_init=[auth.on_app_init], openapi_config=None),
            good=good,
            bad=bad({**world.claims(), "sub": "42"}, prefix="Bearer "),
            base="Litestar",
            checks="all of it",
        ),
    }
