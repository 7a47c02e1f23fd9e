"""Apps in apps: a mount, a proxy's prefix, an app wrapped from outside, and no lifespan anywhere."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from jwt_middleware import JWTSessionMiddleware
from tests.support.asgi import scope_of
from tests.support.world import World


def text(of: Any) -> Any:
    """A handler that answers with a text."""

    async def handler(request: Request) -> Response:
        return PlainTextResponse(of(request))

    return handler


async def test_paths_of_a_mounted_app_are_its_own() -> None:
    world = World()
    inner = Starlette(
        routes=[
            Route("/me", text(lambda request: world.authority.session(request).user_id)),
            Route("/open", text(lambda request: "open")),
        ]
    )
    mounted = world.guard(inner, public=["/open"])
    world.app = Starlette(routes=[Mount("/api", mounted), Route("/open", text(lambda request: "outside"))])
    assert (await world.ask("/api/open")).text == "open"
    assert (await world.ask("/api/me")).status_code == 401
    assert (await world.get(await world.token(), "/api/me")).text == "1"
    assert (await world.ask("/open")).text == "outside"


async def test_a_prefix_of_a_proxy_is_no_part_of_a_public_path() -> None:
    sent = await World(public=["/open"]).send(scope_of("/prefix/open", root_path="/prefix"))
    assert sent[0]["status"] == 200


async def test_an_outer_app_guards_a_mounted_one_and_the_request_is_counted_once() -> None:
    world = World()
    guard = Middleware(JWTSessionMiddleware, authority=world.authority)
    inner = FastAPI(middleware=[guard])
    inner.add_api_route("/me", text(lambda request: world.authority.session(request).user_id))
    world.app = Starlette(routes=[Mount("/api", inner)], middleware=[guard])
    assert (await world.get(await world.token(), "/api/me")).text == "1"
    assert world.counts("requests") == {("2", "accepted"): 1}


async def test_a_framework_wrapped_from_outside_finds_the_session_in_the_scope() -> None:
    world = World()
    user_id = text(lambda request: request.scope["state"]["session"].user_id)
    world.guard(Starlette(routes=[Route("/", user_id)]))
    assert (await world.get(await world.token())).text == "1"
    assert (await world.ask()).status_code == 401
