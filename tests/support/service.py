"""A small service whose worker processes share one database; tests of revocation start several workers."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from jwt_middleware import Revocation
from tests.support.asgi import Echo
from tests.support.databases import Deployed


def routes(authority: Any) -> Starlette:
    async def ready(_: Request) -> PlainTextResponse:
        return PlainTextResponse(str(os.getpid()))

    async def log_in(request: Request) -> PlainTextResponse:
        """The token, and the id of its session, which the test revokes."""
        issued = await authority.issue(authority.schema.cls(user_id=request.query_params["user"], email="x"))
        return PlainTextResponse(f"{issued.token} {issued.session_id}")

    async def revoke(request: Request) -> PlainTextResponse:
        """Revoke the session or the user of the query, or all."""
        query = request.query_params
        if "session" in query:
            await authority.revoke(query["session"])
        elif "user" in query:
            await authority.revoke_user(query["user"])
        else:
            await authority.revoke_all()
        return PlainTextResponse("done")

    public = [Route(f"/{view.__name__}", view, methods=["POST"]) for view in (ready, log_in, revoke)]
    return Starlette(routes=[*public, Route("/me", Echo())])


engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=2, max_overflow=0)
app = Deployed(
    engine,
    app=routes,
    public=["/ready", "/log_in", "/revoke"],
    revocation=Revocation(max_staleness=timedelta(seconds=1)),
).app
