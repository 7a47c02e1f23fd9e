"""The release: what is deployed before it mints version 1 of the payload, what is deployed after it version 2.

Readers come first (``docs/evolution.md``): both read version 2. An authority is immutable, so a release builds the
next one and closes the one before, as a rolling restart would: its counts stay, its gauges go, and with them its
"I mint version 1". Keys, sources, store and telemetry are shared.
"""

from __future__ import annotations

import asyncio
import secrets
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
    SQLAlchemyClaims,
    SQLAlchemySessionStore,
    Telemetry,
)

from .database import Database, users
from .session import Session
from .settings import Settings

_LET_IN_BY: Final = "let_in_by"


class Deployment:
    """What is deployed now, and when the release is planned (seconds since the epoch)."""

    def __init__(self, settings: Settings, database: Database, telemetry: Telemetry) -> None:
        self._settings: Final = settings
        self._telemetry: Final = telemetry
        self._keys: Final = KeyRing([Key.hmac(secrets.token_urlsafe(64), kid="demo")])
        self._source: Final = SQLAlchemyClaims(
            database.engine, users, key=users.c.id, columns={"email": users.c.email}, require_row=True
        )
        self.store: Final = SQLAlchemySessionStore(database.engine)
        self._before: SessionAuthority[Session] | None = None
        self.planned = time() + settings.until_release
        self.released_at: float | None = None
        self.authority = self._authority(mints=1)

    async def release(self) -> bool:
        """Mint version 2 from now on; False where that was done before. Earlier than planned, the plan is mended."""
        if self.released_at is not None:
            return False
        self.released_at = time()
        self.planned = min(self.planned, self.released_at)
        self._before, self.authority = self.authority, self._authority(mints=2)
        await self._before.aclose()
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
                timeout=timedelta(seconds=5),  # a busy laptop must not look like a failing database
                ttl=timedelta(seconds=settings.claims_ttl),
                negative_ttl=timedelta(seconds=settings.absence_ttl),
            ),
            telemetry=self._telemetry,
        )


def authority_of(conn: HTTPConnection) -> SessionAuthority[Session]:
    """The authority that let the request in: while it was on its way there may have been a release."""
    authority: SessionAuthority[Session] = getattr(conn.state, _LET_IN_BY)
    return authority


def session_of(conn: HTTPConnection) -> Session:
    """The request's session; who has none is turned away."""
    return authority_of(conn).session(conn)


class DeployedSessions:
    """ASGI: every request meets the middleware of what is deployed when it arrives.

    Args:
        app: The app inside.
        deployment: Changes once, at the release.
        policy: Of :class:`JWTSessionMiddleware`.
    """

    def __init__(self, app: ASGIApp, /, *, deployment: Deployment, **policy: Any) -> None:
        self._app: Final = app
        self._deployment: Final = deployment
        self._policy: Final = policy
        self._sessions = self._of(deployment.authority)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._sessions.authority is not self._deployment.authority:
            self._sessions = self._of(self._deployment.authority)
        scope.setdefault("state", {})[_LET_IN_BY] = self._sessions.authority
        await self._sessions(scope, receive, send)

    def _of(self, authority: SessionAuthority[Session]) -> JWTSessionMiddleware:
        return JWTSessionMiddleware(self._app, authority=authority, **self._policy)
