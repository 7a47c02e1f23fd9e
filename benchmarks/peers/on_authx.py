"""authx: its dependency and its error handlers; what it does not check, the handler does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from authx import AuthX, AuthXConfig, TokenPayload
from fastapi import Depends, FastAPI, HTTPException
from starlette.responses import PlainTextResponse

from .. import world
from ..world import COOKIE, LEEWAY, SECRET, WINDOW, Session
from . import REVOKED, Peer, bad


def peers() -> dict[str, Peer]:
    config = AuthXConfig(
        JWT_SECRET_KEY=SECRET,
        JWT_TOKEN_LOCATION=["cookies"],
        JWT_ACCESS_COOKIE_NAME=COOKIE,
        JWT_ACCESS_TOKEN_EXPIRES=timedelta(seconds=WINDOW),
        JWT_DECODE_LEEWAY=LEEWAY,
    )
    auth: AuthX[Any] = AuthX(config=config)
    app = FastAPI(openapi_url=None)
    auth.handle_errors(app)

    @app.get("/")
    async def home(payload: TokenPayload = Depends(auth.access_token_required)) -> Any:
        _session(payload)
        return PlainTextResponse("ok")

    own = {name: value for name, value in world.claims().items() if name not in ("iat", "exp")}
    token = auth.create_access_token(uid="42", data=own)
    claims = {**world.claims(), "sub": "42", "type": "access", "fresh": False, "csrf": "", "jti": "one"}
    return {"authx": Peer(app=app, good=world.cookie(token), bad=bad(claims), base="FastAPI", checks="all of it")}


def _session(payload: Any) -> Session:
    """Its block list knows tokens and not sessions: the session's id is looked up here, and so is the lifetime."""
    try:
        if payload.exp.timestamp() - payload.iat > WINDOW + LEEWAY or payload.sid in REVOKED:
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
