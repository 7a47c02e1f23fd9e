"""What a request carries for the app: session, token and user, set in place of what an outer app left there."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tests.support.asgi import scope_of
from tests.support.world import ADA, World


async def test_an_accepted_request_has_a_session_a_token_and_a_user() -> None:
    world = World()
    assert (await world.get(await world.token())).status_code == 200
    assert world.echo.session == ADA
    assert (world.echo.token.version, world.echo.token.filled) == (2, ())
    assert world.echo.token.expires_at - world.echo.token.issued_at == world.authority.window
    user = world.echo.scopes[0]["user"]
    assert (user.is_authenticated, user.identity, user.display_name) == (True, "1", "1")
    assert world.echo.scopes[0]["auth"].scopes == ("authenticated",)


async def test_starlettes_requires_works() -> None:
    @requires("authenticated")
    async def mine(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.user.identity)

    @requires(["authenticated", "admin"])
    async def admins(request: Request) -> PlainTextResponse:
        return PlainTextResponse("never")

    world = World()
    world.guard(Starlette(routes=[Route("/", mine), Route("/admins", admins)]), optional=["/", "/admins"])
    token = await world.token()
    assert (await world.ask()).status_code == 403
    assert (await world.get(token)).text == "1"
    assert (await world.get(token, "/admins")).status_code == 403


async def test_the_state_of_an_outer_app_is_replaced_first() -> None:
    stale = {"session": "of another user", "token": "theirs", "app": "kept"}
    scope = scope_of(state=stale, user="another user", auth="everything")
    await World(public=["/"]).send(scope)
    assert scope["state"] == {"session": None, "token": None, "app": "kept"}
    assert (scope["user"].is_authenticated, list(scope["auth"].scopes)) == (False, [])
