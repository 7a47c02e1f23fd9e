"""A small deployment whose cookies are reissued and renewed, and a look at what it did; shared by the tests of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from typing import Any

import httpx
from starlette.types import ASGIApp

from jwt_middleware import JWTSessionMiddleware, LookupLimits, MemorySessionStore, VerifiedToken, source
from jwt_middleware.testing import old_token
from tests.support.asgi import Echo, ask, counts
from tests.support.world import FakeClock, Session, authority_of

DAY = 86_400
WEEK = 7 * DAY
PATIENT = LookupLimits(timeout=timedelta(seconds=30))
"""No figure of a test depends on how fast the machine is."""


@dataclass
class Users:
    """A table of users that says how often it was asked."""

    rows: dict[str, dict[str, Any]] = field(default_factory=lambda: {"1": {"email": "ada@example.com"}})
    asked: int = 0
    down: bool = False

    @property
    def source(self) -> Any:
        @source("email")
        async def emails(keys: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
            self.asked += 1
            if self.down:
                raise OSError("down")
            return {key: self.rows[key] for key in keys if key in self.rows}

        return emails


class Deployment:
    """An authority with a store and a source, and an app behind the middleware."""

    def __init__(
        self, *, cls: type[Any] = Session, headers: Sequence[tuple[bytes, bytes]] = (), **settings: Any
    ) -> None:
        self.clock = FakeClock()
        self.users = Users()
        self.store = settings.pop("store", MemorySessionStore(clock=self.clock))
        public, optional = settings.pop("public", ()), settings.pop("optional", ())
        self.echo = Echo(headers)
        settings = {"reissue": True, "sources": [self.users.source], "lookups": PATIENT, **settings}
        self.authority = authority_of(cls, clock=self.clock, store=self.store, **settings)
        self.app: ASGIApp = JWTSessionMiddleware(self.echo, authority=self.authority, public=public, optional=optional)

    async def old(self, claims: Mapping[str, Any] | None = None, *, version: int | None = None, **envelope: Any) -> str:
        """A token of a release of the past, minted two days ago, whose session has its row."""
        now = self.clock.now()
        self.clock.wall = now - 2 * DAY
        issued = await self.authority.issue(Session(user_id="1"))
        self.clock.wall = now
        settings: dict[str, Any] = {"sid": issued.session_id, "age": timedelta(days=2), **envelope}
        return old_token(self.authority, {"userId": "1", **(claims or {})}, version=version, **settings)

    async def get(self, token: str, path: str = "/", **settings: Any) -> httpx.Response:
        return await ask(self.app, path, cookie=f"{self.authority.cookie.name}={token}", **settings)

    async def claims(self, token: str) -> dict[str, Any]:
        verified: VerifiedToken = await self.authority.verify(token)
        return dict(verified.claims)

    @property
    def issued(self) -> dict[tuple[str, ...], int]:
        """What was minted by no log-in."""
        return {key: count for key, count in counts(self.authority, "tokens.issued").items() if key[1] != "start"}

    async def row(self) -> Any:
        (row,) = await self.store.sessions_of("1")
        return row


def cookie_of(response: httpx.Response, name: str = "__Host-session") -> str | None:
    """The token that the response sets, if any."""
    values = [value for value in response.headers.get_list("set-cookie") if value.startswith(f"{name}=")]
    assert len(values) <= 1
    return values[0].partition(";")[0].partition("=")[2] if values else None


def digest(token: str) -> str:
    return sha256(token.encode()).hexdigest()
