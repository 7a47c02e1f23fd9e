"""What an app's author sees of the package in an editor: mypy checks this file as an app's code, and it runs too."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, assert_type

import pytest
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from jwt_middleware import (
    Claim,
    Envelope,
    Issued,
    JWTSessionMiddleware,
    Key,
    KeyRing,
    MemorySessionStore,
    Migration,
    MintError,
    Outcome,
    SessionAuthority,
    SessionCookie,
    SessionRecord,
    SessionSchema,
    SilentObserver,
    UserSessions,
    VerifiedToken,
    source,
)
from jwt_middleware.admin import MyDevices, SessionAdmin
from jwt_middleware.testing import client, log_in, old_token


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    user_id: Annotated[str, Claim("userId")]
    email: Annotated[str, Claim(since=2)] = "Unknown"


def new_authority() -> SessionAuthority[Session]:
    schema = SessionSchema(Session, version=2, subject="userId")
    assert_type(schema, SessionSchema[Session])
    keys = KeyRing([Key.hmac("0123456789abcdef" * 4)])
    return SessionAuthority(schema, keys=keys, store=MemorySessionStore())


async def test_sources_observers_and_settings_are_typed() -> None:
    @source("email")
    async def emails(subjects: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
        return {subject: {"email": f"{subject}@example.com"} for subject in subjects}

    class Watching(SilentObserver):
        def finished(self, outcome: Outcome[Any]) -> None:
            assert_type(outcome.payload_version, str | None)
            versions.append(outcome.payload_version)

    versions: list[str | None] = []
    authority = SessionAuthority(
        SessionSchema(Session, version=2, subject="userId"),
        keys=KeyRing([Key.hmac("0123456789abcdef" * 4)]),
        sources=[emails],
        effective_at={2: datetime(2026, 12, 1, tzinfo=UTC)},
        also_accept=[
            Envelope.before(datetime(2026, 12, 1, tzinfo=UTC), cookie=SessionCookie("token"), audience=None),
            Envelope.foreign(window=timedelta(days=30), recognise=lambda claims: "role" in claims),
        ],
        observers=[Watching()],
    )
    assert_type(authority, SessionAuthority[Session])
    await authority.authenticate([(b"authorization", b"Bearer " + old_token(authority, {"userId": "1"}).encode())])
    assert versions == ["1"]


async def test_the_calls_of_an_authority_know_the_session_class() -> None:
    async with new_authority() as authority:
        assert_type(authority, SessionAuthority[Session])
        assert_type(authority.migration, Migration)
        assert_type(await authority.sessions_of("1"), Sequence[SessionRecord])
        assert_type(await authority.active_users(limit=5), Sequence[UserSessions])
        issued = await authority.issue(Session(user_id="1"))
        assert_type(issued, Issued)
        assert_type(await authority.verify(issued.token), VerifiedToken)
        headers = [(b"authorization", f"Bearer {issued.token}".encode())]
        outcome = await authority.authenticate(headers)
        assert_type(outcome, Outcome[Session])
        assert_type(outcome.session, Session | None)
        assert_type(await authority.end_token(headers), list[str])
        assert_type(issued.set_cookie, list[str])
        if issued.session_id is not None:
            assert_type(await authority.revoke(issued.session_id), bool)


async def test_a_handler_reads_and_starts_a_typed_session() -> None:
    async def handler(request: Request) -> Response:
        session = authority.session(request)
        assert_type(session, Session)
        assert_type(session.email, str)
        assert_type(await authority.dependency(request), Session)
        assert_type(await authority.still_active(request), bool)
        response = RedirectResponse("/")
        assert_type(await authority.start(response, session, label="phone"), Issued)
        with pytest.raises(MintError):
            await authority.start(response, "nobody")  # type: ignore[arg-type]  # a session is of the app's own class
        await authority.end(response, request)
        return response

    authority = new_authority()
    app = Starlette(
        routes=[Route("/", handler)],
        middleware=[Middleware(JWTSessionMiddleware, authority=authority, public=["/login"], login="/login")],
    )
    async with client(app) as http:
        await log_in(http, authority, Session(user_id="1"))
        assert (await http.get("/")).status_code == 307
        assert_type(old_token(authority, {"userId": "1"}, age=timedelta(days=1)), str)


async def test_a_dependency_of_fastapi_is_typed() -> None:
    authority, api = new_authority(), FastAPI()

    @api.get("/")
    async def endpoint(session: Session = Depends(authority.dependency)) -> str:  # noqa: B008 - FastAPI's way
        return session.email

    api.add_middleware(JWTSessionMiddleware, authority=authority)
    wrapped = JWTSessionMiddleware(api, authority=authority, on_refused=PlainTextResponse("refused", 401))
    assert_type(wrapped, JWTSessionMiddleware)
    async with client(wrapped) as http:
        assert (await http.get("/")).text == "refused"
        await log_in(http, authority, Session(user_id="1", email="a@b.c"))
        assert (await http.get("/")).json() == "a@b.c"


def test_the_function_that_allows_administration_gets_the_typed_session() -> None:
    def may(request: HTTPConnection, session: Session) -> bool:
        return session.email == "root@example.com"

    async def may_later(request: Request, session: Session) -> bool:
        return may(request, session)

    authority = new_authority()
    admin = SessionAdmin(authority, allow=may)
    assert_type(admin, SessionAdmin[Session])
    SessionAdmin(authority, allow=may_later)
    SessionAdmin(authority, allow=lambda request, session: session.rank > 5)  # type: ignore[attr-defined]  # it has none
    assert Mount("/devices", MyDevices(authority)).path == "/devices"
