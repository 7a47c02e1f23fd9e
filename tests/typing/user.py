"""Never run, only type-checked: what an app's author sees of the package in an editor."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, assert_type

from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount

from jwt_middleware import (
    Adoption,
    Claim,
    Issued,
    JWTSessionMiddleware,
    Key,
    KeyRing,
    MemorySessionStore,
    Migration,
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
from jwt_middleware.admin.devices import MyDevices
from jwt_middleware.admin.sessions import SessionAdmin
from jwt_middleware.testing import client, log_in, old_token


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    user_id: Annotated[str, Claim("userId")]
    email: Annotated[str, Claim(since=2)] = "Unknown"


@source("email")
async def emails(subjects: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
    return {subject: {"email": f"{subject}@example.com"} for subject in subjects}


class Watching(SilentObserver):
    def finished(self, outcome: Outcome[Any]) -> None:
        assert_type(outcome.payload_version, str | None)


schema = SessionSchema(Session, version=2, subject="userId")
assert_type(schema, SessionSchema[Session])

authority = SessionAuthority(
    schema,
    keys=KeyRing([Key.hmac("0123456789abcdef" * 4)]),
    sources=[emails],
    store=MemorySessionStore(),
    effective_at={2: datetime(2026, 12, 1, tzinfo=UTC)},
    cookie=SessionCookie(also_read=["token"]),
    adoption=Adoption(accepted_lifetime=timedelta(days=30)),
    observers=[Watching()],
)
assert_type(authority, SessionAuthority[Session])
assert_type(authority.migration, Migration)

app = Starlette(
    middleware=[Middleware(JWTSessionMiddleware, authority=authority, public=["/login"], login="/login")],
)
api = FastAPI()
api.add_middleware(JWTSessionMiddleware, authority=authority)
wrapped = JWTSessionMiddleware(app, authority=authority, on_refused=api)
assert_type(wrapped, JWTSessionMiddleware)


async def handler(request: Request) -> Response:
    session = authority.session(request)
    assert_type(session, Session)
    assert_type(session.email, str)
    assert_type(await authority.still_active(request), bool)
    response = RedirectResponse("/")
    assert_type(await authority.start(response, session, label="phone"), Issued)
    await authority.start(response, "nobody")  # type: ignore[arg-type]  # a session is of the app's own class
    await authority.end(response, request)
    return response


async def endpoint(session: Annotated[Session, Depends(authority.dependency)]) -> str:
    return session.email


async def elsewhere(request: Request) -> None:
    headers = request.scope["headers"]
    assert_type(await authority.end_token(headers), list[str])
    assert_type(await authority.verify("token"), VerifiedToken)
    outcome = await authority.authenticate(headers)
    assert_type(outcome, Outcome[Session])
    assert_type(outcome.session, Session | None)
    assert_type(await authority.dependency(request), Session)
    assert_type(await authority.sessions_of("1"), Sequence[SessionRecord])
    assert_type(await authority.revoke("id"), bool)
    assert_type(await authority.active_users(limit=5), Sequence[UserSessions])
    async with authority as entered:
        assert_type(entered, SessionAuthority[Session])


def may(request: HTTPConnection, session: Session) -> bool:
    return session.email == "root@example.com"


async def may_later(request: Request, session: Session) -> bool:
    return may(request, session)


assert_type(SessionAdmin(authority, allow=may), SessionAdmin[Session])
SessionAdmin(authority, allow=may_later)
SessionAdmin(authority, allow=lambda request, session: session.rank > 5)  # type: ignore[attr-defined]  # it has none
mounted = [Mount("/devices", MyDevices(authority))]


async def test(authority: SessionAuthority[Session]) -> None:
    async with client(app) as http:
        await log_in(http, authority, Session(user_id="1"))
        assert_type(old_token(authority, {"userId": "1"}, age=timedelta(days=1)), str)
