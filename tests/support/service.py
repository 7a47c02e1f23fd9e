"""A small service whose worker processes share one database: what the tests of revocation start several of."""

from __future__ import annotations

import os
from datetime import timedelta

from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from jwt_middleware import JWTSessionMiddleware, Revocation
from jwt_middleware.sqlalchemy import SQLAlchemySessionStore
from tests.support.world import Session, authority_of

BOUND = 1.0
"""Seconds of `max_staleness`."""

engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=2, max_overflow=0)
authority = authority_of(
    store=SQLAlchemySessionStore(engine), revocation=Revocation(max_staleness=timedelta(seconds=BOUND))
)


async def ready(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(os.getpid()))


async def log_in(request: Request) -> PlainTextResponse:
    """A token; its session id is for the test to act on."""
    issued = await authority.issue(Session(user_id=request.query_params["user"], email="x"))
    return PlainTextResponse(f"{issued.token} {issued.session_id}")


async def me(request: Request) -> PlainTextResponse:
    return PlainTextResponse(authority.session(request).user_id)


async def revoke(request: Request) -> PlainTextResponse:
    """The session, the user, or everybody: whatever is named."""
    asked = request.query_params
    if "session" in asked:
        await authority.revoke(asked["session"])
    elif "user" in asked:
        await authority.revoke_user(asked["user"])
    else:
        await authority.revoke_all()
    return PlainTextResponse("done")


app = Starlette(
    routes=[
        Route("/ready", ready),
        Route("/login", log_in, methods=["POST"]),
        Route("/revoke", revoke, methods=["POST"]),
        Route("/me", me),
    ],
    middleware=[Middleware(JWTSessionMiddleware, authority=authority, public=["/ready", "/login", "/revoke"])],
)
