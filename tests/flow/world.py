"""A whole small deployment for one test: two databases, an authority of version 3, an app behind a server span."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import asyncpg
import httpx
import sqlalchemy as sa
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from jwt_middleware import (
    Claim,
    JWTSessionMiddleware,
    Key,
    KeyRing,
    LookupLimits,
    SessionAuthority,
    SessionSchema,
    SQLAlchemyClaims,
    SQLAlchemySessionStore,
)
from jwt_middleware.testing import client, old_token
from tests.support.signals import Signals
from tests.support.world import SECRET

USER = 424_242_001
WITHOUT_EMAIL = 424_242_002
DELETED = 424_242_003
EMAIL = "canary@example.com"
COMPANY = "canary-company"
NAME = "Canary Ltd"
WINDOW = timedelta(days=7)

metadata = sa.MetaData()
users = sa.Table("users", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("email", sa.String(200)))
companies = sa.Table(
    "companies", metadata, sa.Column("id", sa.String(50), primary_key=True), sa.Column("name", sa.String(200))
)


@dataclass(slots=True, kw_only=True)
class Lenient:
    """Version 2 brought the email, version 3 the company's name; each has a default."""

    user_id: Annotated[str, Claim("userId")]
    company_id: Annotated[str, Claim("companyId")]
    role: str = "user"
    permissions: list[str] = field(default_factory=lambda: ["read"])
    email: Annotated[str, Claim(since=2)] = "Unknown"
    company_name: Annotated[str, Claim("companyName", since=3)] = "nameless"


@dataclass(slots=True, kw_only=True)
class Strict:
    """The same without defaults for what the database knows."""

    user_id: Annotated[str, Claim("userId")]
    company_id: Annotated[str, Claim("companyId")]
    role: str = "user"
    permissions: list[str] = field(default_factory=lambda: ["read"])
    email: Annotated[str, Claim(since=2)]
    company_name: Annotated[str, Claim("companyName", since=3)]


@dataclass(kw_only=True)
class World:
    """What a case acts on and looks at."""

    url: str
    engine: AsyncEngine
    authority: SessionAuthority[Any]
    app: Any
    signals: Signals
    statements: Counter[str]
    seen: list[dict[str, Any]]

    async def token(self, *, version: int | None, user: int = USER, **claims: Any) -> str:
        """An honest token of a release of the past, minted two days ago, whose session has its row."""
        today = self.authority.schema.cls(user_id=str(user), company_id=COMPANY, email=EMAIL, company_name=NAME)
        issued = await self.authority.issue(today)
        payload = {"userId": str(user), "companyId": COMPANY, **claims}
        settings: dict[str, Any] = {"age": timedelta(days=2), "sid": issued.session_id}
        settings |= {name: payload.pop(name) for name in ("age", "exp") if name in payload}
        return old_token(self.authority, payload, version=version, **settings)

    async def today(self) -> str:
        """A token of today's payload, as the log-in mints it."""
        session = self.authority.schema.cls(user_id=str(USER), company_id=COMPANY, email=EMAIL, company_name=NAME)
        return (await self.authority.issue(session)).token

    def cookie(self, token: str) -> dict[str, str]:
        return {"cookie": f"{self.authority.cookie.name}={token}"}

    def forget_statements(self) -> None:
        self.statements.clear()

    async def get(self, path: str, headers: dict[str, str]) -> httpx.Response:
        async with client(self.app) as http:
            return await http.get(path, headers=headers)

    async def websocket(self, headers: dict[str, str]) -> list[dict[str, Any]]:
        """What a server would be told for a websocket whose client leaves at once."""
        sent: list[dict[str, Any]] = []
        coming = iter([{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}])

        async def receive() -> Any:
            return next(coming)

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "websocket",
            "scheme": "wss",
            "path": "/ws",
            "raw_path": b"/ws",
            "query_string": b"",
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "server": ("testserver", 443),
            "client": ("testclient", 1),
            "subprotocols": [],
            "extensions": {},
        }
        await self.app(scope, receive, send)
        return sent

    @asynccontextmanager
    async def slow(self) -> AsyncIterator[None]:
        """Somebody else holds a lock: a query waits much longer than a lookup may."""
        if self.url.startswith("sqlite"):
            other = sqlite3.connect(str(self.engine.url.database), isolation_level=None)
            other.execute("BEGIN EXCLUSIVE")
            try:
                yield
            finally:
                other.execute("ROLLBACK")
                other.close()
            return
        holder = await asyncpg.connect(self.url.replace("+asyncpg", ""))
        try:
            async with holder.transaction():
                await holder.execute("LOCK TABLE users, companies IN ACCESS EXCLUSIVE MODE")
                yield
        finally:
            await holder.close()


@asynccontextmanager
async def world(url: str, *, strict: bool = False, down: bool = False) -> AsyncIterator[World]:
    """Build it on empty databases; ``down``: the one with the claims cannot be reached."""
    waits = {"timeout": 1.0} if url.startswith("sqlite") else {}
    apart = url.replace("test.db", "sessions.db")
    engine = create_async_engine(unreachable(url) if down else url, connect_args=waits)
    sessions = create_async_engine(apart)
    signals, statements = Signals(), Counter[str]()
    seen: list[dict[str, Any]] = []
    for each in (engine, sessions):
        sa.event.listen(each.sync_engine, "before_cursor_execute", lambda *args: note(statements, args[2]))
    if not down:
        await seed(engine)
    store = SQLAlchemySessionStore(sessions)
    await store.create_all()
    now = datetime.now(UTC)
    authority = SessionAuthority(
        SessionSchema(Strict if strict else Lenient, version=3, subject="userId"),
        keys=KeyRing([Key.hmac(SECRET)]),
        sources=[
            SQLAlchemyClaims(engine, users, key=users.c.id, columns={"email": users.c.email}),
            SQLAlchemyClaims(
                engine, companies, key=companies.c.id, columns={"companyName": companies.c.name}, by="companyId"
            ),
        ],
        store=store,
        effective_at={2: now - timedelta(days=30), 3: now - timedelta(days=1)},
        lookups=LookupLimits(timeout=timedelta(milliseconds=150)),
        telemetry=signals.telemetry(),
    )
    try:
        yield World(
            url=url,
            engine=engine,
            authority=authority,
            app=app_of(authority, signals, seen),
            signals=signals,
            statements=statements,
            seen=seen,
        )
    finally:
        await authority.aclose()
        await engine.dispose()
        await sessions.dispose()


def app_of(authority: SessionAuthority[Any], signals: Signals, seen: list[dict[str, Any]]) -> Any:
    def look(session: Any, token: Any) -> None:
        seen.append(
            {
                "user": session.user_id,
                "role": session.role,
                "permissions": session.permissions,
                "email": session.email,
                "company": session.company_name,
                "version": token.version,
                "filled": [claim.claim for claim in token.filled],
            }
        )

    async def me(request: Request) -> JSONResponse:
        look(authority.session(request), request.state.token)
        return JSONResponse({"ok": True})

    async def health(request: Request) -> PlainTextResponse:
        return PlainTextResponse("healthy")

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        look(websocket.state.session, websocket.state.token)
        await websocket.close()

    app = Starlette(
        routes=[Route("/me", me), Route("/healthz", health), WebSocketRoute("/ws", socket)],
        middleware=[Middleware(JWTSessionMiddleware, authority=authority, public=["/healthz"])],
    )
    return OpenTelemetryMiddleware(app, tracer_provider=signals.tracer_provider, exclude_spans=["send", "receive"])


async def seed(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
        await connection.execute(sa.insert(users), [{"id": USER, "email": EMAIL}, {"id": WITHOUT_EMAIL, "email": None}])
        await connection.execute(sa.insert(companies).values(id=COMPANY, name=NAME))


def unreachable(url: str) -> str:
    if url.startswith("sqlite"):
        return "sqlite+aiosqlite:////nonexistent/directory/test.db"
    return sa.make_url(url).set(port=1).render_as_string(hide_password=False)


def note(statements: Counter[str], statement: str) -> None:
    """Count it under the table it is about."""
    for table in ("users", "companies", "user_sessions", "session_marks"):
        if f"FROM {table}" in statement.replace("\n", " "):
            statements[table] += 1


def told(world: World, logs: list[Any], response: str) -> str:
    """Everything that left the process, as one text, to search for what must not be in it."""
    spans = [span.to_json() for span in world.signals.exporter.get_finished_spans()]
    series = [f"{name} {attributes}" for name, attributes in world.signals.values()]
    return "\n".join([json.dumps(logs, default=repr), *spans, *series, response])
