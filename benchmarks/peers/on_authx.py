"""authx by its dependency, and by the two calls the dependency makes; what it does not check, `_session` does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from authx import AuthX, AuthXConfig, TokenPayload
from fastapi import Depends, FastAPI, HTTPException, Request
from starlette.responses import PlainTextResponse

from .. import world
from ..apps import body_of
from ..world import COOKIE, LEEWAY, SECRET, WINDOW, Session
from . import REVOKED_SESSIONS, Peer, bad, shown
from .on_fastapi import depending


def peers() -> dict[str, Peer]:
    config = AuthXConfig(
        JWT_SECRET_KEY=SECRET,
        JWT_TOKEN_LOCATION=["cookies"],
        JWT_ACCESS_COOKIE_NAME=COOKIE,
        JWT_ACCESS_TOKEN_EXPIRES=timedelta(seconds=WINDOW),
    )
    auth: AuthX[Any] = AuthX(config=config)
    own = {name: value for name, value in world.claims().items() if name not in ("iat", "exp")}
    token = auth.create_access_token(uid="42", data=own)
    claims = {**world.claims(), "sub": "42", "type": "access", "fresh": False, "csrf": "", "jti": "one"}
    apps = {
        "authx, by `get_token_from_request` and `verify_token`": _by_its_calls(auth),
        "authx, by `access_token_required`, a part of which FastAPI runs in a thread": _by_its_dependency(auth),
    }
    for app in apps.values():
        auth.handle_errors(app)
    return {
        name: Peer(
            app=app,
            framework="FastAPI",
            good=[world.cookie(token), shown(claims)],
            bad=bad(claims),
            checks="all of it, without leeway",
            refuses=(401, 422),
        )
        for name, app in apps.items()
    }


def _by_its_dependency(auth: Any) -> FastAPI:
    """As documented. Where only cookies are configured it depends on a function that does nothing, for OpenAPI.

    That function is no coroutine, so FastAPI runs it in a thread, which is more than half of the price.
    """
    app = FastAPI(openapi_url=None)

    @app.get("/")
    async def home(payload: TokenPayload = Depends(auth.access_token_required)) -> PlainTextResponse:
        return PlainTextResponse(body_of(_session(payload)))

    return app


def _by_its_calls(auth: Any) -> FastAPI:
    """What its dependency does, without that function: the fastest way through its public calls."""

    async def current(request: Request) -> Session:
        token = await auth.get_token_from_request(request, optional=False)
        return _session(auth.verify_token(token, verify_csrf=request.method in auth.config.JWT_CSRF_METHODS))

    return depending(current)


def _session(payload: Any) -> Session:
    """Its block list knows tokens and not sessions: the session's id is looked up here, and so is the lifetime."""
    try:
        if payload.exp.timestamp() - payload.iat > WINDOW + LEEWAY or payload.sid in REVOKED_SESSIONS:
            raise HTTPException(401)
        return Session(
            user_id=payload.sub,
            company_id=payload.companyId,
            role=payload.role,
            email=payload.email,
            environment=payload.environment,
        )
    except AttributeError:
        raise HTTPException(401) from None
