"""Installing the package is the first migration: an app's own tokens go on, and each thing forgiven is counted.

The old app: a cookie ``token``, a secret of 16 characters, no ``iat``, 30 days.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jwt_middleware import (
    Adoption,
    Claim,
    ConfigError,
    JWTSessionMiddleware,
    Key,
    KeyRing,
    MemorySessionStore,
    SessionCookie,
    source,
)
from jwt_middleware.testing import client
from jwt_middleware.tokens.jwt import ADOPTION_RULES
from tests.support.asgi import counts, foreign_token
from tests.support.world import EPOCH, SECRET, FakeClock, Recorder, authority_of

OLD_SECRET = b"sixteen letters."
MONTH = timedelta(days=30)
UNTIL = datetime.fromtimestamp(EPOCH, UTC) + MONTH


@dataclass(slots=True, kw_only=True)
class Account:
    id: str
    role: str = "user"
    email: Annotated[str, Claim(since=2)] = "Unknown"


class App:
    """The old app, after it installed the package."""

    def __init__(self, *, store: bool = False, **settings: Any) -> None:
        self.clock, self.seen = FakeClock(), Recorder()

        @source("email")
        async def emails(keys: Collection[str]) -> Mapping[str, Mapping[str, str]]:
            return {key: {"email": f"{key}@example.com"} for key in keys}

        given = {
            "schema": {"subject": "id", "version_claim": "v"},
            "keys": KeyRing(
                [Key.hmac(SECRET, kid="2026"), Key.hmac(OLD_SECRET, verify_only=True, allow_short=True, until=UNTIL)]
            ),
            "cookie": SessionCookie(also_read=("token",)),
            "adoption": Adoption(iat_required=False, accepted_lifetime=MONTH, sessions="marks" if store else "refuse"),
            "store": MemorySessionStore(clock=self.clock) if store else None,
        }
        self.authority = authority_of(
            Account, **{**given, **settings}, sources=[emails], clock=self.clock, observers=[self.seen]
        )
        self.app = Starlette(
            routes=[
                Route("/me", self.me),
                Route("/login", self.login, methods=["POST"]),
                Route("/logout", self.logout, methods=["POST"]),
            ],
            middleware=[Middleware(JWTSessionMiddleware, authority=self.authority, public=["/login", "/logout"])],
        )

    async def me(self, request: Request) -> Response:
        session = self.authority.session(request)
        return JSONResponse({"id": session.id, "role": session.role, "email": session.email})

    async def login(self, request: Request) -> Response:
        response = Response()
        await self.authority.start(response, Account(id="7", role="admin", email="7@example.com"))
        return response

    async def logout(self, request: Request) -> Response:
        response = Response()
        await self.authority.end(response, request)
        return response

    def token(self, **claims: Any) -> str:
        """As the old app minted it three days ago, when ``version`` meant something else."""
        payload = {"id": "7", "role": "admin", "version": "web-3.1", "exp": int(EPOCH) + 27 * 86_400, **claims}
        return foreign_token(OLD_SECRET, {name: value for name, value in payload.items() if value is not None})

    def ask(self, token: str, *, name: str = "token", times: int = 1) -> list[Any]:
        async def main() -> list[Any]:
            async with client(self.app) as http:
                return [await http.get("/me", headers={"cookie": f"{name}={token}"}) for _ in range(times)]

        return asyncio.run(main())


@pytest.mark.parametrize("store", [False, True])
def test_nobody_is_logged_out_and_each_lenience_is_counted_at_every_use(store: bool) -> None:
    app = App(store=store)
    for response in app.ask(app.token(), times=3):
        assert response.status_code == 200
        assert response.json() == {"id": "7", "role": "admin", "email": "7@example.com"}
        assert "set-cookie" not in response.headers
    expected = {("cookie",), ("key",), ("iat",), ("lifetime",)} | ({("sid",)} if store else set())
    assert counts(app.authority, "adoptions") == dict.fromkeys(expected, 3)


def test_a_token_is_counted_only_for_what_it_needed() -> None:
    app = App()
    fresh = {"iat": int(EPOCH) - 60, "exp": int(EPOCH) + 3_600}
    assert app.ask(app.token(**fresh), name="__Host-session", times=2)[1].status_code == 200
    assert counts(app.authority, "adoptions") == {("key",): 2}


@pytest.mark.parametrize("store", [False, True])
async def test_the_next_login_is_a_session_of_today_and_needs_no_lenience(store: bool) -> None:
    app = App(store=store)

    async with client(app.app, cookies={"token": app.token()}) as http:
        assert (await http.get("/me")).status_code == 200
        before = counts(app.authority, "adoptions")
        login = await http.post("/login")
        assert login.headers.get_list("set-cookie")[0].startswith("token=;")
        http.cookies.delete("token")  # the jar keeps what no server set; a browser has let it go
        assert (await http.get("/me")).json()["email"] == "7@example.com"
        assert counts(app.authority, "adoptions") == before
    assert app.seen.outcomes[-1].payload_version == "2"
    assert app.seen.outcomes[-1].key_id == "2026"


async def test_logging_out_ends_an_old_token_where_there_is_a_store() -> None:
    app = App(store=True)
    token = app.token()

    async with client(app.app) as http:
        headers = {"cookie": f"token={token}"}
        assert (await http.get("/me", headers=headers)).status_code == 200
        gone = await http.post("/logout", headers=headers)
        assert [value.split(";")[0] for value in gone.headers.get_list("set-cookie")] == [
            "__Host-session=",
            "token=",
        ]
        assert (await http.get("/me", headers=headers)).status_code == 401
    assert app.seen.reasons[-1] == "session_revoked"
    assert app.ask(app.token(exp=int(EPOCH) + 86_400))[0].status_code == 200


@pytest.mark.parametrize("revoked", ["everybody", "user"])
def test_marks_revoke_tokens_without_iat_too(revoked: str) -> None:
    app = App(store=True)
    assert app.ask(app.token())[0].status_code == 200
    asyncio.run(app.authority.revoke_all() if revoked == "everybody" else app.authority.revoke_user("7"))
    assert app.ask(app.token())[0].status_code == 401
    assert app.seen.reasons[-1] == "session_revoked"


def test_with_a_store_old_tokens_are_refused_unless_that_is_asked_for() -> None:
    app = App(store=True, adoption=Adoption(iat_required=False, accepted_lifetime=MONTH))
    assert app.ask(app.token())[0].status_code == 401
    assert app.seen.reasons == ["session_unknown"]


@pytest.mark.parametrize(
    ("without", "reason"),
    [
        ({"cookie": SessionCookie()}, "token_missing"),
        ({"keys": KeyRing([Key.hmac(SECRET, kid="2026")])}, "key_unknown"),
        ({"adoption": Adoption(accepted_lifetime=MONTH)}, "claims_invalid"),
        ({"adoption": Adoption(iat_required=False)}, "lifetime_exceeded"),
        ({"schema": {"subject": "id"}}, "claims_invalid"),
    ],
)
def test_each_line_of_the_adoption_is_needed_and_may_be_deleted_later(without: dict[str, Any], reason: str) -> None:
    app = App(**without)
    assert app.ask(app.token())[0].status_code == 401
    assert app.seen.reasons == [reason]


def test_the_old_key_ends_at_its_date() -> None:
    app = App()
    token = app.token(exp=int(EPOCH) + 30 * 86_400)
    assert app.ask(token)[0].status_code == 200
    app.clock.advance(30 * 86_400)
    assert app.ask(token)[0].status_code == 401
    assert app.seen.reasons[-1] == "key_unknown"


def test_lenience_is_for_tokens_without_sid_alone() -> None:
    app = App()
    sid = {"sid": "3f0c3a1e-0000-4000-8000-000000000000"}
    for token in (app.token(**sid), app.token(**sid, iat=int(EPOCH)), app.token(**sid, iat=None, exp=int(EPOCH) + 60)):
        assert app.ask(token)[0].status_code == 401
    assert app.seen.reasons == ["claims_invalid", "lifetime_exceeded", "claims_invalid"]


@pytest.mark.parametrize(
    "claims",
    [
        {"type": "refresh"},
        {"token_type": "refresh"},
        {"token_use": "id"},
        {"purpose": "password-reset"},
        {"nonce": "n"},
        {"type": None, "token_use": ["access"]},
    ],
)
def test_other_tokens_of_the_same_secret_do_not_become_sessions(claims: dict[str, Any]) -> None:
    app = App()
    assert app.ask(app.token(**claims))[0].status_code == 401
    assert app.seen.reasons == ["claims_invalid"]


@pytest.mark.parametrize("claims", [{"type": "access"}, {"token_type": "session"}, {"token_use": "access"}])
def test_access_tokens_do(claims: dict[str, Any]) -> None:
    app = App()
    assert app.ask(app.token(**claims))[0].status_code == 200


def broken(claims: Mapping[str, Any]) -> bool:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("recognise", "status"), [(lambda claims: "role" in claims, 200), (lambda claims: False, 401), (broken, 401)]
)
def test_the_app_can_say_which_tokens_are_sessions(recognise: Callable[..., bool], status: int) -> None:
    app = App(adoption=Adoption(iat_required=False, accepted_lifetime=MONTH, recognise=recognise))
    assert app.ask(app.token())[0].status_code == status


def test_a_short_secret_needs_an_end() -> None:
    with pytest.raises(ConfigError):
        Key.hmac(OLD_SECRET, verify_only=True)
    with pytest.raises(ConfigError, match="until"):
        Key.hmac(OLD_SECRET, verify_only=True, allow_short=True)


def test_the_page_names_every_rule() -> None:
    page = (Path(__file__).parents[2] / "docs" / "adopting.md").read_text()
    assert tuple(re.findall(r"\| `([a-z]+)` \|$", page, re.MULTILINE)) == ADOPTION_RULES
