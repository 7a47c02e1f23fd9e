"""Apps in apps: a mount, a proxy's prefix, an app wrapped from outside, and no lifespan anywhere."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from jwt_middleware import JWTSessionMiddleware
from tests.support.asgi import Sent, ask, counts, nothing, scope_of
from tests.support.world import Session, authority_of


def me_of(authority: Any) -> Any:
    async def me(request: Request) -> Response:
        return PlainTextResponse(authority.session(request).user_id)

    return me


def cookie_of(authority: Any) -> str:
    return f"{authority.cookie.name}={asyncio.run(authority.issue(Session(user_id='1'))).token}"


def get(app: ASGIApp, path: str, **settings: Any) -> tuple[int, str]:
    response = asyncio.run(ask(app, path, **settings))
    return response.status_code, response.text if response.status_code == 200 else ""


def test_paths_of_a_mounted_app_are_its_own() -> None:
    authority = authority_of()
    inner = Starlette(
        routes=[Route("/me", me_of(authority)), Route("/open", lambda request: PlainTextResponse("open"))],
        middleware=[Middleware(JWTSessionMiddleware, authority=authority, public=["/open"])],
    )
    outer = Starlette(
        routes=[Mount("/api", inner), Route("/open", lambda request: PlainTextResponse("outside of all this"))]
    )
    assert get(outer, "/api/open") == (200, "open")
    assert get(outer, "/api/me")[0] == 401
    assert get(outer, "/api/me", cookie=cookie_of(authority)) == (200, "1")
    assert get(outer, "/open") == (200, "outside of all this")


def test_a_prefix_of_a_proxy_is_no_part_of_a_public_path() -> None:
    authority, sent = authority_of(), Sent()

    async def ok(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("ok")(scope, receive, send)

    app = JWTSessionMiddleware(ok, authority=authority, public=["/open"])
    asyncio.run(app(scope_of("/prefix/open", root_path="/prefix"), nothing, sent))
    assert sent.messages[0]["status"] == 200


def test_an_outer_app_guards_a_mounted_one_and_the_request_is_counted_once() -> None:
    authority = authority_of()
    guard = Middleware(JWTSessionMiddleware, authority=authority)
    inner = FastAPI(middleware=[guard])
    inner.add_api_route("/me", me_of(authority))
    outer = Starlette(routes=[Mount("/api", inner)], middleware=[guard])
    assert get(outer, "/api/me", cookie=cookie_of(authority)) == (200, "1")
    assert counts(authority, "requests") == {("2", "accepted"): 1}


def test_a_framework_wrapped_from_outside_finds_the_session_in_the_scope() -> None:
    authority = authority_of()
    framework = Starlette(
        routes=[Route("/", lambda request: PlainTextResponse(request.scope["state"]["session"].user_id))]
    )
    app = JWTSessionMiddleware(framework, authority=authority)
    assert get(app, "/", cookie=cookie_of(authority)) == (200, "1")
    assert get(app, "/")[0] == 401
