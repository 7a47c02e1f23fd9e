"""Starlette bare, PyJWT in its AuthenticationMiddleware as documented, and PyJWT in the middleware of tutorials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jwt
from starlette.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse

from .. import world
from ..apps import PassThrough, bare
from ..world import COOKIE
from . import Peer, bad, decode, shown, unguarded


class Backend(AuthenticationBackend):
    """Starlette's documentation, "Authentication", with PyJWT in it."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser]:
        try:
            session = decode(conn.cookies[COOKIE])
        except (KeyError, jwt.PyJWTError):
            raise AuthenticationError("no session") from None
        conn.state.session = session
        return AuthCredentials(["authenticated"]), SimpleUser(session.user_id)


def _unauthorized(conn: HTTPConnection, error: Exception) -> PlainTextResponse:
    return PlainTextResponse("unauthorized", status_code=401)


class Tutorial(BaseHTTPMiddleware):
    """The middleware of most tutorials."""

    async def dispatch(self, request: Request, call_next: Callable[[Request], Any]) -> Any:
        try:
            request.state.session = decode(request.cookies[COOKIE])
        except (KeyError, jwt.PyJWTError):
            return PlainTextResponse("unauthorized", status_code=401)
        return await call_next(request)


def peers(token: str) -> dict[str, Peer]:
    good, claims = world.cookie(token), world.claims()
    authentication = Middleware(AuthenticationMiddleware, backend=Backend(), on_error=_unauthorized)
    checked = {
        "AuthenticationMiddleware + PyJWT": bare(authentication),
        "tutorial BaseHTTPMiddleware + PyJWT": bare(Middleware(Tutorial)),
    }
    return {
        "Starlette": unguarded(bare(), "Starlette", good),
        "empty pass-through": unguarded(bare(Middleware(PassThrough)), "Starlette", good),
        **{
            name: Peer(app=app, framework="Starlette", good=[good, shown(claims)], bad=bad(claims), checks="all of it")
            for name, app in checked.items()
        },
    }
