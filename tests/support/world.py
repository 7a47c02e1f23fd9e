"""The one world of the tests: a clock that stands still, a session class, users to look up, an authority, an app.

``World()`` is a whole small deployment; its settings are those of the authority and of the middleware::

    world = World(reissue=True, optional=["/"])
    old = await world.old({"role": "admin"})     # as an earlier release minted it two days ago
    response = await world.get(old)              # what the middleware answered
    world.echo.session.email                     # what the app saw
    world.counts("fallbacks")                    # what was counted

A test that needs less takes ``authority_of()``, or ``bearer(token)`` alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated, Any

import httpx
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jwt_middleware import (
    Claim,
    Envelope,
    JWTSessionMiddleware,
    Key,
    KeyRing,
    LookupLimits,
    MemorySessionStore,
    Outcome,
    SessionAuthority,
    SessionSchema,
    SilentObserver,
    VerifiedToken,
    source,
)
from jwt_middleware.testing import old_token
from tests.support.asgi import Echo, Sent, ask, counts, nothing

SECRET = "0123456789abcdef0123456789abcdef-tests"
EPOCH = 1_795_600_000.0
"""A moment in November 2026."""
DAY = 86_400
WEEK = 7 * DAY
PATIENT = LookupLimits(timeout=timedelta(seconds=30))
"""Long enough for any machine: no result of a test depends on how fast it is."""
ROWLESS = Envelope.before(datetime.fromtimestamp(EPOCH + 1_000 * DAY, UTC), store=None)
"""Own tokens may lack ``sid``: there was no session store when they were minted."""
MIDDLEWARE = {"public", "optional", "login", "on_refused", "trusted_origins", "trusted_proxy"}
"""Settings that a :class:`World` hands to the middleware, not to the authority."""


@dataclass
class FakeClock:
    """Both clocks stand still until a test moves them."""

    wall: float = EPOCH
    ticks: float = 1_000.0

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.ticks

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.ticks += seconds


@dataclass
class Recorder(SilentObserver):
    """Writes down every outcome."""

    outcomes: list[Outcome[Any]] = field(default_factory=list)

    def finished(self, outcome: Outcome[Any]) -> None:
        self.outcomes.append(outcome)

    @property
    def reasons(self) -> list[str | None]:
        return [None if outcome.reason is None else outcome.reason.value for outcome in self.outcomes]


@dataclass(slots=True, kw_only=True)
class Session:
    """Version 2 added the email, which has a default."""

    user_id: Annotated[str, Claim("userId")]
    company_id: Annotated[str, Claim("companyId")] = "none"
    role: str = "user"
    email: Annotated[str, Claim(since=2)] = "Unknown"
    permissions: list[str] = field(default_factory=lambda: ["read"])


ADA = Session(user_id="1", email="ada@example.com")


def authority_of(cls: type[Any] = Session, *, schema: dict[str, Any] | None = None, **settings: Any) -> Any:
    """An authority of version 2 with one HMAC key; ``settings`` override and add."""
    versions = {"version": 2, "subject": "userId", **(schema or {})}
    return SessionAuthority(SessionSchema(cls, **versions), **{"keys": KeyRing([Key.hmac(SECRET)]), **settings})


def bearer(token: str | bytes) -> list[tuple[bytes, bytes]]:
    """The headers of a request with a Bearer token."""
    return [(b"authorization", b"Bearer " + (token.encode() if isinstance(token, str) else token))]


def cookie(token: str | bytes, name: str = "__Host-session") -> list[tuple[bytes, bytes]]:
    """The headers of a request with a cookie."""
    return [(b"cookie", name.encode() + b"=" + (token.encode() if isinstance(token, str) else token))]


def cookie_of(response: httpx.Response, name: str = "__Host-session") -> str | None:
    """The token that the response sets, if any."""
    values = [value for value in response.headers.get_list("set-cookie") if value.startswith(f"{name}=")]
    assert len(values) <= 1
    return values[0].partition(";")[0].partition("=")[2] if values else None


def digest(token: str) -> str:
    """The value of ``user_sessions.session_token``."""
    return sha256(token.encode()).hexdigest()


@dataclass
class Users:
    """A table of users that counts its queries, can be down, and can make a query wait for ``gate``."""

    rows: dict[str, dict[str, Any]] = field(default_factory=lambda: {"1": {"email": "ada@example.com"}})
    asked: int = 0
    down: bool = False
    gate: asyncio.Event | None = None

    @property
    def source(self) -> Any:
        @source("email")
        async def emails(keys: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
            self.asked += 1
            if self.gate is not None:
                await self.gate.wait()
            if self.down:
                raise OSError("down")
            return {key: self.rows[key] for key in keys if key in self.rows}

        return emails


class World:
    """A deployment: its clock, its users, its store, an authority, and an app behind the middleware.

    By default there is a store, and ``users`` is a source of the claim ``email``.

    Args:
        cls: The session class.
        app: Makes the app from the authority; by default it is ``echo``, which answers 200 with ``headers``.
        store: By default one in memory; a class is called with the world's clock.
        settings: Keyword arguments of :class:`JWTSessionMiddleware` and of :func:`authority_of`.
    """

    def __init__(
        self,
        cls: type[Any] = Session,
        *,
        headers: Sequence[tuple[bytes, bytes]] = (),
        app: Callable[[Any], ASGIApp] | None = None,
        store: Any = MemorySessionStore,
        **settings: Any,
    ) -> None:
        self.clock = settings.setdefault("clock", FakeClock())
        self.users = Users()
        self.recorder = Recorder()
        self.echo = Echo(headers)
        middleware = {name: settings.pop(name) for name in MIDDLEWARE & settings.keys()}
        settings.setdefault("sources", [self.users.source])
        settings.setdefault("lookups", PATIENT)
        settings["observers"] = [self.recorder, *settings.get("observers", ())]
        self.store = store(clock=self.clock) if isinstance(store, type) else store
        self.authority = authority_of(cls, store=self.store, **settings)
        self.app: ASGIApp
        self.guard(self.echo if app is None else app(self.authority), **middleware)

    def guard(self, app: ASGIApp, **settings: Any) -> ASGIApp:
        """Put another app behind the middleware; ``world.app`` wraps it from now on."""
        self.app = JWTSessionMiddleware(app, authority=self.authority, **settings)
        return self.app

    def with_login(self, session: Any = ADA) -> None:
        """``/login`` starts this session, ``/logout`` ends the request's; every other path is guarded and echoes."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            response = Response()
            if scope["path"] == "/login":
                await self.authority.start(response, session)
            elif scope["path"] == "/logout":
                await self.authority.end(response, Request(scope))
            else:
                return await self.echo(scope, receive, send)
            return await response(scope, receive, send)

        self.guard(app, public=["/login", "/logout"])

    async def log_in(self, user_id: str = "1", **claims: Any) -> tuple[str, str]:
        """A token of today's payload, and the id of its session."""
        issued = await self.authority.issue(self.authority.schema.cls(user_id=user_id, **claims))
        return issued.token, issued.session_id

    async def token(self, user_id: str = "1", **claims: Any) -> str:
        """A token of today's payload, with every claim that ``users`` would fill."""
        return (await self.log_in(user_id, **{"email": "ada@example.com", **claims}))[0]

    async def cookie(self, user_id: str = "1", **claims: Any) -> str:
        """The Cookie header of a user who has just logged in."""
        return f"{self.authority.cookie.name}={await self.token(user_id, **claims)}"

    async def old(self, claims: Mapping[str, Any] | None = None, *, version: int | None = None, **envelope: Any) -> str:
        """A token of an earlier release, minted two days ago, whose session has its row."""
        payload = {"userId": "1", **(claims or {})}
        now = self.clock.now()
        self.clock.wall = now - 2 * DAY
        _, session_id = await self.log_in(payload["userId"])
        self.clock.wall = now
        settings: dict[str, Any] = {"sid": session_id, "age": timedelta(days=2), **envelope}
        return old_token(self.authority, payload, version=version, **settings)

    async def ask(self, path: str = "/", method: str = "GET", **settings: Any) -> httpx.Response:
        """One request; ``cookie=`` is the whole header, ``bearer=`` a token."""
        return await ask(self.app, path, method, **settings)

    async def get(self, token: str, path: str = "/", **settings: Any) -> httpx.Response:
        """One request with the token in the cookie."""
        return await self.ask(path, cookie=f"{self.authority.cookie.name}={token}", **settings)

    async def exchange(self, token: str) -> dict[str, Any]:
        """The claims of the new token that the response sets in place of this one; it must set one."""
        new = cookie_of(await self.get(token))
        assert new is not None
        return await self.claims(new)

    async def send(self, scope: Scope, receive: Receive = nothing) -> list[Message]:
        """The messages that the app sends for a scope: what an HTTP client hides."""
        sent = Sent()
        await self.app(scope, receive, sent)
        return sent.messages

    async def reason(self, token: str) -> str | None:
        """Why the token is refused; None where it is accepted."""
        outcome = await self.authority.authenticate(bearer(token))
        return None if outcome.reason is None else str(outcome.reason.value)

    async def claims(self, token: str) -> dict[str, Any]:
        """The verified payload."""
        verified: VerifiedToken = await self.authority.verify(token)
        return dict(verified.claims)

    def counts(self, metric: str) -> dict[tuple[str, ...], int]:
        """The series of one counter that are not zero."""
        return counts(self.authority, metric)

    @property
    def reissued(self) -> dict[tuple[str, ...], int]:
        """The tokens that no log-in minted."""
        return {key: count for key, count in self.counts("tokens.issued").items() if key[1] != "start"}

    async def row(self, user_id: str = "1") -> Any:
        """The only active session of the user."""
        (row,) = await self.store.sessions_of(user_id)
        return row
