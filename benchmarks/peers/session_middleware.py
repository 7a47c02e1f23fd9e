"""Starlette's own SessionMiddleware: a signed cookie without expiry of its own; ``max_age`` is its lifetime."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import itsdangerous
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from .. import world
from ..world import COOKIE, SECRET, WINDOW, Headers, Session
from . import ANOTHER_SECRET, REVOKED, Peer


async def home(request: Request) -> PlainTextResponse:
    """The middleware lets everybody in: what a session needs, the handler asks."""
    claims = request.session
    try:
        Session(
            user_id=claims["userId"],
            company_id=claims["companyId"],
            role=claims["role"],
            email=claims["email"],
            environment=claims["environment"],
        )
        if claims["sid"] in REVOKED:
            return PlainTextResponse("unauthorized", status_code=401)
    except KeyError:
        return PlainTextResponse("unauthorized", status_code=401)
    return PlainTextResponse("ok")


def peers() -> dict[str, Peer]:
    middleware = Middleware(SessionMiddleware, secret_key=SECRET, session_cookie=COOKIE, max_age=WINDOW)
    claims = {name: value for name, value in world.claims().items() if name not in ("iat", "exp")}
    short = {name: value for name, value in claims.items() if name != "companyId"}
    return {
        "starlette SessionMiddleware": Peer(
            app=Starlette(routes=[Route("/", home)], middleware=[middleware]),
            good=_cookie(claims),
            bad={
                "forged": _cookie(claims, ANOTHER_SECRET),
                "expired": _cookie(claims, age=WINDOW + 60),
                "of the future": _cookie(claims, age=-3600),
                "without the company": _cookie(short),
                "revoked": _cookie({**claims, "sid": next(iter(REVOKED))}),
            },
            base="Starlette",
            checks="all of it, by `max_age`",
        )
    }


def _cookie(claims: dict[str, Any], secret: str = SECRET, age: int = 0) -> Headers:
    signer = itsdangerous.TimestampSigner(secret)
    signer.get_timestamp = lambda: int(time.time()) - age
    return world.cookie(signer.sign(base64.b64encode(json.dumps(claims).encode())).decode())
