"""PyJWT in a dependency, as FastAPI's tutorial has it; the token is read from the cookie."""

from __future__ import annotations

from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, HTTPException, Request
from starlette.responses import PlainTextResponse

from .. import world
from ..world import COOKIE, Session
from . import Peer, bad, decode


async def current(request: Request) -> Session:
    try:
        return decode(request.cookies[COOKIE])
    except (KeyError, jwt.PyJWTError):
        raise HTTPException(401) from None


def peers(token: str) -> dict[str, Peer]:
    app = FastAPI(openapi_url=None)

    @app.get("/")
    async def home(session: Annotated[Session, Depends(current)]) -> Any:
        return PlainTextResponse("ok")

    return {
        "FastAPI dependency + PyJWT": Peer(
            app=app, good=world.cookie(token), bad=bad(), base="FastAPI", checks="all of it"
        )
    }
