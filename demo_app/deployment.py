"""The deployment: an authority that mints version 1 of the payload before the release, and one for version 2 after it.

Readers come first (``docs/evolution.md``): both authorities read version 2. An authority is immutable, so the release
builds another and closes the first, as a rolling restart would: its counters stay, and its gauges end, among them the
one that says it mints version 1. Keys, sources, store and telemetry are shared.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import time
from typing import Any, Final

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from jwt_middleware import (
    JWTSessionMiddleware,
    Key,
    KeyRing,
    LookupLimits,
    Revocation,
    SessionAuthority,
    SessionCookie,
    SessionSchema,
    Telemetry,
)
from jwt_middleware.sqlalchemy import SQLAlchemyClaims, SQLAlchemySessionStore

from .database import Database, users
from .session import Session
from .settings import Settings

_STATE_KEY: Final = "authority"


class Deployment:
    """The current authority, and the planned moment of the release (seconds since the epoch)."""

    def __init__(self, settings: Settings, database: Database, telemetry: Telemetry) -> None:
        self._settings: Final = settings
        self._telemetry: Final = telemetry
        self._keys: Final = KeyRing([Key.hmac(secrets.token_urlsafe(64), kid="demo")])
        self._source: Final = SQLAlchemyClaims(
            database.engine, users, key=users.c.id, columns={"email": users.c.email}, require_row=True
        )
        self.store: Final = SQLAlchemySessionStore(database.engine)
        self.planned = time() + settings.until_release
        self.released_at: float | None = None
        self.authority = self._authority(mints=1)

    async def release(self) -> bool:
        """Mint version 2 from now on; False if it is released already. An early release moves the plan forward."""
        if self.released_at is not None:
            return False
        self.released_at = time()
        self.planned = min(self.planned, self.released_at)
        previous, self.authority = self.authority, self._authority(mints=2)
        await previous.aclose()
        return True

    async def release_on_time(self) -> None:
        """Wait for the planned moment, and release."""
        await asyncio.sleep(max(0.0, self.planned - time()))
        await self.release()

    async def aclose(self) -> None:
        await self.authority.aclose()

    def _authority(self, *, mints: int) -> SessionAuthority[Session]:
        settings = self._settings
        return SessionAuthority(
            SessionSchema(Session, version=2, subject="userId", mints=mints),
            keys=self._keys,
            sources=[self._source],
            store=self.store,
            window=timedelta(seconds=settings.window),
            leeway=timedelta(0),  # one machine, one clock
            rollout=timedelta(seconds=settings.rollout),
            effective_at={2: datetime.fromtimestamp(self.planned, UTC)},
            cookie=SessionCookie(secure=False),  # http://localhost; in production leave this line out
            revocation=Revocation(max_staleness=timedelta(seconds=settings.max_staleness)),
            lookups=LookupLimits(
                timeout=timedelta(seconds=5),  # a busy laptop is not a failing database
                ttl=timedelta(seconds=settings.claims_ttl),
                negative_ttl=timedelta(seconds=settings.absence_ttl),
            ),
            telemetry=self._telemetry,
        )


def authority_of(conn: HTTPConnection) -> SessionAuthority[Session]:
    """The authority that accepted the request; the deployment may have another by now."""
    authority: SessionAuthority[Session] = getattr(conn.state, _STATE_KEY)
    return authority


def session_of(conn: HTTPConnection) -> Session:
    """The request's session; a request without one is refused."""
    return authority_of(conn).session(conn)


class DeployedApp:
    """ASGI: an app built for one authority, namely the one that accepted the request."""

    def __init__(self, build: Callable[[SessionAuthority[Session]], ASGIApp]) -> None:
        self._build: Final = build
        self._current: tuple[SessionAuthority[Session], ASGIApp] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        authority = authority_of(HTTPConnection(scope))
        if self._current is None or self._current[0] is not authority:
            self._current = authority, self._build(authority)
        await self._current[1](scope, receive, send)


class DeployedSessions:
    """ASGI: passes each request to the middleware of the authority that is deployed when it arrives.

    Args:
        app: The inner app.
        deployment: Its authority changes once, at the release.
        policy: Keyword arguments of :class:`JWTSessionMiddleware`.
    """

    def __init__(self, app: ASGIApp, /, *, deployment: Deployment, **policy: Any) -> None:
        self._app: Final = app
        self._deployment: Final = deployment
        self._policy: Final = policy
        self._middleware = self._build(deployment.authority)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._middleware.authority is not self._deployment.authority:
            self._middleware = self._build(self._deployment.authority)
        scope.setdefault("state", {})[_STATE_KEY] = self._middleware.authority
        await self._middleware(scope, receive, send)

    def _build(self, authority: SessionAuthority[Session]) -> JWTSessionMiddleware:
        return JWTSessionMiddleware(self._app, authority=authority, **self._policy)
