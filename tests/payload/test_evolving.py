"""The mission's own cases over HTTP: last week's tokens in, today's session out, for seven days and then no more."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any

import httpx
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jwt_middleware import Claim, JWTSessionMiddleware, source
from jwt_middleware.testing import client, old_token
from tests.support.asgi import counts
from tests.support.world import FakeClock, Recorder, authority_of

WEEK = 7 * 86_400
OLD = {"userId": "1", "companyId": "acme"}


@dataclass(slots=True, kw_only=True)
class Session:
    user_id: Annotated[str, Claim("userId")]
    company_id: Annotated[str, Claim("companyId")]
    role: str = "user"
    email: Annotated[str, Claim(since=2)] = "Unknown"
    permissions: list[str] = field(default_factory=lambda: ["read"])


class App:
    """Users in memory; ``/save`` writes down who saved, by email."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {"1": {"email": "ada@example.com"}}
        self.fetched: list[str] = []
        self.saved_by: list[str] = []
        self.clock, self.seen = FakeClock(), Recorder()

        @source("email")
        async def users(keys: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
            self.fetched += keys
            return {key: self.rows[key] for key in keys if key in self.rows}

        self.authority = authority_of(Session, sources=[users], clock=self.clock, observers=[self.seen])
        self.app = Starlette(
            routes=[
                Route("/save", self.save, methods=["POST"]),
                Route("/login", self.login, methods=["POST"]),
            ],
            middleware=[Middleware(JWTSessionMiddleware, authority=self.authority, public=["/login"])],
        )

    async def save(self, request: Request) -> Response:
        session = self.authority.session(request)
        self.saved_by.append(session.email)
        return JSONResponse(
            {
                "email": session.email,
                "role": session.role,
                "permissions": session.permissions,
                "version": request.state.token.version,
                "filled": [claim.claim for claim in request.state.token.filled],
            }
        )

    async def login(self, request: Request) -> Response:
        response = Response()
        await self.authority.start(response, Session(user_id="1", company_id="acme", email="ada@example.com"))
        return response

    def old(self, **claims: Any) -> str:
        return old_token(self.authority, {**OLD, **claims})

    def ask(self, *tokens: str) -> list[httpx.Response]:
        async def main() -> list[httpx.Response]:
            async with client(self.app) as http:
                return [await http.post("/save", headers={"cookie": f"__Host-session={each}"}) for each in tokens]

        return asyncio.run(main())

    def answers(self, *tokens: str) -> list[Any]:
        responses = self.ask(*tokens)
        assert [response.status_code for response in responses] == [200] * len(tokens)
        return [response.json() for response in responses]


def test_a_missing_email_is_fetched_once_and_served_to_every_request() -> None:
    app = App()
    token = app.old()
    assert {answer["email"] for answer in app.answers(token, token, token)} == {"ada@example.com"}
    assert app.fetched == ["1"]
    assert app.saved_by == ["ada@example.com"] * 3
    assert counts(app.authority, "fallbacks") == {("resolved", "1"): 3}


def test_a_hundred_requests_at_once_fetch_a_missing_email_once() -> None:
    app = App()
    token = app.old()

    async def main() -> None:
        async with client(app.app, headers={"cookie": f"__Host-session={token}"}) as http:
            responses = await asyncio.gather(*(http.post("/save") for _ in range(100)))
        assert {response.json()["email"] for response in responses} == {"ada@example.com"}

    asyncio.run(main())
    assert app.fetched == ["1"]


def test_a_user_without_an_email_is_unknown() -> None:
    app = App()
    for row in ({"email": None}, {"email": ""}, {}):
        app.rows = {"1": row}
        app.clock.advance(120)
        assert app.answers(app.old())[0]["email"] == "Unknown"
    app.rows = {}
    app.clock.advance(120)
    assert app.answers(app.old())[0]["email"] == "Unknown"
    assert counts(app.authority, "fallbacks") == {("null", "1"): 3, ("not_found", "1"): 1}


def test_a_missing_role_is_user_and_asks_nobody() -> None:
    app = App()
    today = {"version": 2, "email": "ada@example.com"}
    for role in ({}, {"role": None}, {"role": ""}):
        assert app.answers(app.old(**today, **role))[0]["role"] == "user"
    assert app.answers(app.old(**today, role="admin"))[0]["role"] == "admin"
    assert app.fetched == []
    assert counts(app.authority, "fallbacks") == {}


def test_missing_permissions_are_a_default_list_and_never_a_crash() -> None:
    app = App()
    today = {"version": 2, "email": "ada@example.com"}
    for permissions in ({}, {"permissions": None}):
        assert app.answers(app.old(**today, **permissions))[0]["permissions"] == ["read"]
    assert app.answers(app.old(**today, permissions=[]))[0]["permissions"] == []
    for wrong in ("admin", 7, {"admin": True}, [1], [None]):
        assert app.ask(app.old(**today, permissions=wrong))[0].status_code == 401
    assert app.seen.reasons[-1] == "payload_invalid"


def test_version_1_and_version_2_are_served_side_by_side() -> None:
    app = App()
    one, two = app.old(), app.old(version=2, email="own@example.com")
    answers = app.answers(one, two, one, two)
    assert [(answer["version"], answer["email"], answer["filled"]) for answer in answers] == [
        (1, "ada@example.com", ["email"]),
        (2, "own@example.com", []),
    ] * 2


def test_on_day_7_a_401_a_login_and_a_token_of_todays_payload() -> None:
    app = App()

    async def main() -> None:
        async with client(app.app) as http:
            http.cookies.set("__Host-session", app.old(), domain="testserver.local", path="/")
            assert (await http.post("/save")).json()["filled"] == ["email"]
            app.clock.advance(WEEK - 60)
            assert (await http.post("/save")).status_code == 200
            app.clock.advance(90)
            refused = await http.post("/save")
            assert refused.status_code == 401
            assert "set-cookie" not in refused.headers
            assert (await http.post("/login")).status_code == 200
            today = (await http.post("/save")).json()
            assert (today["version"], today["email"], today["filled"]) == (2, "ada@example.com", [])

    asyncio.run(main())
    assert app.seen.reasons == [None, None, "token_expired", None]
    assert app.seen.outcomes[-1].fallback is None


def test_an_old_token_of_a_past_week_says_how_old_it_is() -> None:
    app = App()
    app.ask(old_token(app.authority, OLD, age=timedelta(days=3)))
    assert app.seen.outcomes[0].token_age == 3 * 86_400
