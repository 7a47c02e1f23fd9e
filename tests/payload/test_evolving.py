"""The package's own cases over HTTP: last week's tokens in, today's session out, for seven days and then no more."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jwt_middleware.testing import client
from tests.support.world import ADA, WEEK, World

TODAY = {"version": 2, "email": "own@example.com"}


async def accepted(world: World, token: str) -> tuple[Any, Any]:
    """The session and the token that the app gets."""
    assert (await world.get(token)).status_code == 200
    return world.echo.session, world.echo.token


class TestEvolving:
    async def test_a_missing_email_is_fetched_once_and_served_to_every_request(self) -> None:
        world = World()
        token = await world.old()
        assert [(await accepted(world, token))[0].email for _ in range(3)] == ["ada@example.com"] * 3
        assert world.users.asked == 1
        assert world.counts("fallbacks") == {("resolved", "1"): 3}

    async def test_a_hundred_requests_at_once_fetch_a_missing_email_once(self) -> None:
        world = World()
        token = await world.old()
        await asyncio.gather(*(world.get(token) for _ in range(100)))
        assert [scope["state"]["session"].email for scope in world.echo.scopes] == ["ada@example.com"] * 100
        assert world.users.asked == 1

    async def test_a_user_without_an_email_is_unknown(self) -> None:
        world = World()
        token = await world.old()
        for row in ({"email": None}, {"email": ""}, {}, None):
            world.users.rows = {} if row is None else {"1": row}
            world.clock.advance(120)
            assert (await accepted(world, token))[0].email == "Unknown"
        assert world.counts("fallbacks") == {("null", "1"): 3, ("not_found", "1"): 1}

    async def test_a_missing_role_is_the_default_without_a_query(self) -> None:
        world = World()
        for role in ({}, {"role": None}, {"role": ""}):
            assert (await accepted(world, await world.old({**TODAY, **role})))[0].role == "user"
        assert (await accepted(world, await world.old({**TODAY, "role": "admin"})))[0].role == "admin"
        assert world.users.asked == 0
        assert world.counts("fallbacks") == {}

    async def test_missing_permissions_are_the_default_list(self) -> None:
        world = World()
        for permissions in ({}, {"permissions": None}):
            session, _ = await accepted(world, await world.old({**TODAY, **permissions}))
            assert session.permissions == ["read"]
        assert (await accepted(world, await world.old({**TODAY, "permissions": []})))[0].permissions == []

    @pytest.mark.parametrize("wrong", ["admin", 7, {"admin": True}, [1], [None]])
    async def test_permissions_of_a_wrong_type_are_refused(self, wrong: Any) -> None:
        world = World()
        assert (await world.get(await world.old({**TODAY, "permissions": wrong}))).status_code == 401
        assert world.recorder.reasons == ["payload_invalid"]

    async def test_version_1_and_version_2_are_served_side_by_side(self) -> None:
        world = World()
        tokens = [await world.old(), await world.old(TODAY)] * 2
        served = [await accepted(world, token) for token in tokens]
        assert [
            (token.version, session.email, [claim.claim for claim in token.filled]) for session, token in served
        ] == [
            (1, "ada@example.com", ["email"]),
            (2, "own@example.com", []),
        ] * 2

    async def test_on_day_7_a_401_a_login_and_a_token_of_todays_payload(self) -> None:
        def app(authority: Any) -> Starlette:
            async def save(request: Request) -> Response:
                return Response(authority.session(request).email)

            async def login(request: Request) -> Response:
                await authority.start(response := Response(), ADA)
                return response

            return Starlette(routes=[Route("/save", save), Route("/login", login)])

        world = World(app=app, public=["/login"])
        async with client(world.app) as http:
            http.cookies.set("__Host-session", await world.old(age=timedelta(0)), domain="testserver.local", path="/")
            assert (await http.get("/save")).text == "ada@example.com"
            world.clock.advance(WEEK - 60)
            assert (await http.get("/save")).status_code == 200
            world.clock.advance(90)
            refused = await http.get("/save")
            assert refused.status_code == 401
            assert "set-cookie" not in refused.headers
            assert (await http.get("/login")).status_code == 200
            assert (await http.get("/save")).text == "ada@example.com"
        assert world.recorder.reasons == [None, None, "token_expired", None]
        first, *_, last = world.recorder.outcomes
        assert first.token is not None
        assert [claim.claim for claim in first.token.filled] == ["email"]
        assert last.token is not None
        assert (last.token.version, last.token.filled, last.fallback) == (2, (), None)

    async def test_the_outcome_says_how_old_a_token_is(self) -> None:
        world = World()
        await world.get(await world.old(age=timedelta(days=3)))
        assert world.recorder.outcomes[0].token_age == 3 * 86_400
