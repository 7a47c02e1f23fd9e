"""Starlette's own SessionMiddleware: a signed cookie without expiry of its own; ``max_age`` is its lifetime."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import itsdangerous
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from .. import world
from ..apps import bare, body_of
from ..world import COOKIE, SECRET, WINDOW, Headers, Session
from . import ANOTHER_SECRET, REVOKED, REVOKED_SESSIONS, Peer


async def home(request: Request) -> PlainTextResponse:
    """The middleware accepts every request and makes no session: the handler does what other middleware does."""
    claims = request.session
    try:
        session = Session(
            user_id=claims["userId"],
            company_id=claims["companyId"],
            role=claims["role"],
            email=claims["email"],
            environment=claims["environment"],
        )
        if claims["sid"] in REVOKED_SESSIONS:
            return PlainTextResponse("unauthorized", status_code=401)
    except KeyError:
        return PlainTextResponse("unauthorized", status_code=401)
    return PlainTextResponse(body_of(session))


def peers() -> dict[str, Peer]:
    middleware = Middleware(SessionMiddleware, secret_key=SECRET, session_cookie=COOKIE, max_age=WINDOW)
    claims = {name: value for name, value in world.claims().items() if name not in ("iat", "exp")}
    short = {name: value for name, value in claims.items() if name != "companyId"}
    return {
        "starlette SessionMiddleware": Peer(
            app=bare(middleware, handler=home),
            framework="Starlette",
            good=[_cookie(claims)],
            bad={
                "forged": _cookie(claims, ANOTHER_SECRET),
                "expired": _cookie(claims, age=WINDOW + 60),
                "of the future": _cookie(claims, age=-3600),
                "without the company": _cookie(short),
                "revoked": _cookie({**claims, "sid": REVOKED}),
            },
            checks="all of it, by `max_age`; the handler makes the session",
        )
    }


def _cookie(claims: dict[str, Any], secret: str = SECRET, age: int = 0) -> Headers:
    signer = itsdangerous.TimestampSigner(secret)
    signer.get_timestamp = lambda: int(time.time()) - age
    return world.cookie(signer.sign(base64.b64encode(json.dumps(claims).encode())).decode())
