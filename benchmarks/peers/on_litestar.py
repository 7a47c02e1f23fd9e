"""Litestar bare, and its JWTCookieAuth with its own handlers for the user and for revocation, and required claims."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

from litestar import Litestar, MediaType, Request, get
from litestar.security.jwt import JWTCookieAuth, Token

from .. import world
from ..apps import body_of
from ..world import COOKIE, LEEWAY, SECRET, WINDOW, Headers, Session
from . import REVOKED_SESSIONS, Peer, bad, shown, unguarded


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
    return sid is None or sid in REVOKED_SESSIONS


def _of_the_scope(request: Any) -> object:
    return request.scope["state"].get("session")


def _app(session_of: Callable[[Any], object], **settings: Any) -> Litestar:
    def home(request: Request[Any, Any, Any]) -> str:
        return body_of(session_of(request))

    handler = get("/", media_type=MediaType.TEXT, sync_to_thread=False)(home)
    return Litestar([handler], openapi_config=None, **settings)


def _carried(token: str) -> Headers:
    return world.cookie("Bearer " + token)


def peers() -> dict[str, Peer]:
    auth = JWTCookieAuth[Session](
        retrieve_user_handler=_retrieve,
        revoked_token_handler=_revoked,
        token_secret=SECRET,
        key=COOKIE,
        require_claims=["exp", "iat", "sub"],
    )
    now = datetime.now(UTC)
    own = {name: value for name, value in world.claims().items() if name not in ("iat", "exp", "userId")}
    token = Token(sub="42", exp=now + timedelta(seconds=WINDOW), iat=now, extras=own)
    good, claims = _carried(token.encode(secret=SECRET, algorithm="HS256")), {**world.claims(), "sub": "42"}
    return {
        "Litestar": unguarded(_app(_of_the_scope), "Litestar", good),
        "Litestar JWTCookieAuth": Peer(
            app=_app(attrgetter("user"), on_app_init=[auth.on_app_init]),
            framework="Litestar",
            good=[good, shown(claims, _carried)],
            bad=bad(claims, _carried),
            checks="all of it, without leeway",
        ),
    }
