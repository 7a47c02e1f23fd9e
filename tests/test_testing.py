"""The helpers for an app's tests behave like a browser and like an earlier release."""

from __future__ import annotations

from datetime import timedelta

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from jwt_middleware import ConfigError, JWTSessionMiddleware, SessionCookie
from jwt_middleware.testing import client, log_in, old_token
from tests.support.world import DAY, EPOCH, FakeClock, Session, World, authority_of


class TestClient:
    @pytest.mark.parametrize(
        ("cookie", "base_url"),
        [
            (SessionCookie(), "https://testserver"),
            (SessionCookie(secure=False), "http://localhost:8000"),
            (SessionCookie("mine"), "https://app.example.com"),
        ],
    )
    async def test_a_client_is_logged_in_without_a_login_page(self, cookie: SessionCookie, base_url: str) -> None:
        async def me(request: Request) -> Response:
            return PlainTextResponse(authority.session(request).user_id)

        async def login(request: Request) -> Response:
            response = Response()
            await authority.start(response, Session(user_id="2"))
            return response

        async def logout(request: Request) -> Response:
            response = Response()
            await authority.end(response, request)
            return response

        authority = authority_of(cookie=cookie)
        routes = Starlette(routes=[Route("/me", me), Route("/login", login), Route("/logout", logout)])
        app = JWTSessionMiddleware(routes, authority=authority, public=["/login", "/logout"])
        async with client(app, base_url=base_url) as http:
            assert (await http.get("/me")).status_code == 401
            await log_in(http, authority, Session(user_id="1"))
            assert (await http.get("/me")).text == "1"
            await http.get("/login")
            assert (await http.get("/me")).text == "2"
            await http.get("/logout")
            assert (await http.get("/me")).status_code == 401

    async def test_exceptions_of_the_app_reach_the_test(self) -> None:
        async def broken(scope: Scope, receive: Receive, send: Send) -> None:
            raise LookupError("mine")

        async with client(broken) as http:
            with pytest.raises(LookupError, match="mine"):
                await http.get("/")


class TestOldToken:
    async def test_an_old_token_has_exactly_these_claims_and_a_variable_envelope(self) -> None:
        world = World(store=None)
        minted = int(EPOCH) - DAY
        claims = await world.claims(old_token(world.authority, {"userId": "1"}, age=timedelta(days=1)))
        sid = "5d3c1c52-8a3e-4f57-9d3b-2b8a5a9a1c11"
        assert claims == {"userId": "1", "iat": minted, "exp": minted + 7 * DAY, "auth_time": minted}
        assert (await world.claims(old_token(world.authority, {"userId": "1"}, version=2, sid=sid)))["sid"] == sid
        assert "sid" in await world.claims(old_token(World().authority, {"userId": "1"}))
        bare = await world.claims(old_token(world.authority, {"userId": "1"}, version=2, sid=None, auth_time=None))
        assert sorted(bare) == ["exp", "iat", "userId", "version"]

    def test_a_typo_in_a_claim_or_an_argument_is_refused(self) -> None:
        authority = authority_of()
        with pytest.raises(ConfigError, match=r"Session has no claim 'userID'.*'userId'.* keyword argument"):
            old_token(authority, {"userID": "1"})
        with pytest.raises(ConfigError, match="age"):
            old_token(authority, {"userId": "1"}, age=3)  # type: ignore[arg-type]  # that is the typo

    async def test_claims_of_an_upgrade_step_a_newer_release_or_the_envelope_are_accepted(self) -> None:
        stepping = World(schema={"upgrades": {1: lambda claims: {"userId": claims["uid"]}}})
        assert (await stepping.claims(old_token(stepping.authority, {"uid": "1"})))["uid"] == "1"
        with pytest.raises(ConfigError, match="'uid'"):
            old_token(stepping.authority, {"uid": "1"}, version=2)
        world = World()
        assert await world.claims(old_token(world.authority, {"userId": "1", "plan": "pro"}, version=3))
        dropped = old_token(world.authority, {"userId": "1", "nbf": 0}, nickname="ada")
        assert (await world.claims(dropped))["nickname"] == "ada"

    async def test_an_old_token_names_its_version_as_the_schema_does(self) -> None:
        world = World(schema={"version_claim": "v"})
        assert (await world.claims(old_token(world.authority, {"userId": "1"}, version=1)))["v"] == 1

    async def test_an_old_token_older_than_the_window_is_expired(self) -> None:
        world = World()
        assert await world.reason(old_token(world.authority, {"userId": "1"}, age=timedelta(days=8))) == "token_expired"

    async def test_an_old_token_needs_no_leeway(self) -> None:
        authority = authority_of(leeway=timedelta(0), clock=FakeClock(wall=EPOCH + 0.9))
        assert (await authority.verify(old_token(authority, {"userId": "1"}))).issued_at == EPOCH
