"""FastAPI bare, and PyJWT in a dependency, as its tutorial has it; the token is read from the cookie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jwt
from fastapi import Depends, FastAPI, HTTPException, Request
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse

from .. import world
from ..apps import body_of, home
from ..world import COOKIE, Session
from . import Peer, bad, decode, shown, unguarded


def bare(*middleware: Middleware) -> FastAPI:
    app = FastAPI(openapi_url=None, middleware=middleware)
    app.get("/")(home)
    return app


def depending(on: Callable[..., Any], *middleware: Middleware) -> FastAPI:
    """The handler takes its session from a dependency."""
    app = FastAPI(openapi_url=None, middleware=middleware)

    @app.get("/")
    async def home(session: Any = Depends(on)) -> PlainTextResponse:
        return PlainTextResponse(body_of(session))

    return app


async def current(request: Request) -> Session:
    try:
        return decode(request.cookies[COOKIE])
    except (KeyError, jwt.PyJWTError):
        raise HTTPException(401) from None


def peers(token: str) -> dict[str, Peer]:
    good, claims = world.cookie(token), world.claims()
    return {
        "FastAPI": unguarded(bare(), "FastAPI", good),
        "FastAPI dependency + PyJWT": Peer(
            app=depending(current),
            framework="FastAPI",
            good=[good, shown(claims)],
            bad=bad(claims),
            checks="all of it",
        ),
    }
