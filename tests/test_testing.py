"""What apps use in their own tests behaves like a browser and like an older release."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from jwt_middleware import ConfigError, JWTSessionMiddleware, Refusal, SessionCookie
from jwt_middleware.testing import client, log_in, old_token
from tests.support.world import EPOCH, FakeClock, Session, authority_of


def app_of(authority: Any) -> Starlette:
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

    return Starlette(
        routes=[Route("/me", me), Route("/login", login), Route("/logout", logout)],
        middleware=[Middleware(JWTSessionMiddleware, authority=authority, public=["/login", "/logout"])],
    )


@pytest.mark.parametrize(
    ("cookie", "base_url"),
    [
        (SessionCookie(), "https://testserver"),
        (SessionCookie(secure=False), "http://localhost:8000"),
        (SessionCookie("mine"), "https://app.example.com"),
    ],
)
async def test_a_client_is_logged_in_without_a_login_page_and_can_log_in_and_out_afterwards(
    cookie: SessionCookie, base_url: str
) -> None:
    authority = authority_of(cookie=cookie)
    async with client(app_of(authority), base_url=base_url) as http:
        assert (await http.get("/me")).status_code == 401
        await log_in(http, authority, Session(user_id="1"))
        assert (await http.get("/me")).text == "1"
        await http.get("/login")
        assert (await http.get("/me")).text == "2"
        await http.get("/logout")
        assert (await http.get("/me")).status_code == 401


async def test_errors_of_the_app_reach_the_test() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("mine")

    async with client(broken) as http:
        with pytest.raises(LookupError, match="mine"):
            await http.get("/")


def test_an_old_token_has_just_these_claims_and_an_envelope_that_can_be_changed() -> None:
    authority = authority_of(clock=FakeClock())

    def claims_of(token: str) -> dict[str, Any]:
        return dict(asyncio.run(authority.verify(token)).claims)

    claims = claims_of(old_token(authority, {"userId": "1"}, age=timedelta(days=1)))
    day_before = int(EPOCH) - 86_400
    sid = claims.pop("sid")
    assert claims == {"userId": "1", "iat": day_before, "exp": day_before + 7 * 86_400, "auth_time": day_before}
    assert claims_of(old_token(authority, {"userId": "1"}, version=2, sid=sid))["sid"] == sid
    bare = claims_of(old_token(authority, {"userId": "1"}, version=2, sid=None, auth_time=None))
    assert sorted(bare) == ["exp", "iat", "userId", "version"]


def test_a_slip_in_a_claims_name_is_found() -> None:
    authority = authority_of()
    with pytest.raises(ConfigError, match=r"'userID' is no claim of Session: use .*'userId'.* keyword argument"):
        old_token(authority, {"userID": "1"})
    with pytest.raises(ConfigError, match="age is a length of time"):
        old_token(authority, {"userId": "1"}, age=3)  # type: ignore[arg-type]  # the slip is the point


def test_names_that_something_may_know_are_no_slip() -> None:
    """What an upgrade step reads, what a newer release writes, and what is given on purpose."""
    stepping = authority_of(schema={"upgrades": {1: lambda claims: {"userId": claims["uid"]}}})
    assert asyncio.run(stepping.verify(old_token(stepping, {"uid": "1"}))).claims["uid"] == "1"
    with pytest.raises(ConfigError, match="'uid' is no claim"):
        old_token(stepping, {"uid": "1"}, version=2)
    authority = authority_of()
    assert asyncio.run(authority.verify(old_token(authority, {"userId": "1", "plan": "pro"}, version=3)))
    dropped = old_token(authority, {"userId": "1", "nbf": 0}, nickname="ada")
    assert asyncio.run(authority.verify(dropped)).claims["nickname"] == "ada"


def test_an_old_token_writes_the_version_under_the_schemas_name() -> None:
    authority = authority_of(schema={"version_claim": "v"})
    token = old_token(authority, {"userId": "1"}, version=1)
    assert asyncio.run(authority.verify(token)).claims["v"] == 1


def test_an_old_token_older_than_the_window_is_expired() -> None:
    authority = authority_of()
    with pytest.raises(Refusal, match="token_expired"):
        asyncio.run(authority.verify(old_token(authority, {"userId": "1"}, age=timedelta(days=8))))


def test_an_old_token_needs_no_leeway() -> None:
    authority = authority_of(leeway=timedelta(0), clock=FakeClock(wall=EPOCH + 0.9))
    assert asyncio.run(authority.verify(old_token(authority, {"userId": "1"}))).issued_at == EPOCH
