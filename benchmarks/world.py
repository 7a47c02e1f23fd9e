"""Shared by all sections: today's session, its authority, tokens, and a browser's request."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Annotated, Any

import jwt
import structlog
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from jwt_middleware import (
    Claim,
    Key,
    KeyRing,
    MemorySessionStore,
    Revocation,
    SessionAuthority,
    SessionSchema,
    SessionStatus,
    Telemetry,
)
from jwt_middleware.protocols import Clock

SECRET = "a-secret-of-the-benchmarks-0123456789abcdef"
OWN = {"typ": "session+jwt"}
"""The header of a token that says whose it is; the peers do not look at it."""
COOKIE = "__Host-session"
WINDOW = 7 * 24 * 3600
LEEWAY = 30
REQUIRED = ["exp", "iat", "sid", "userId", "companyId"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Version 2 of the payload, which added the email."""

    user_id: Annotated[str, Claim("userId")]
    company_id: Annotated[str, Claim("companyId")]
    role: str = "user"
    email: Annotated[str, Claim(since=2)] = "Unknown"
    environment: str = "production"


def user(number: int = 42) -> Session:
    return Session(user_id=str(number), company_id="acme", email=f"user{number}@example.com")


def quiet() -> None:
    """Filter logs by level, as in production; ``signals`` measures their cost."""
    _used_heap()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50), cache_logger_on_first_use=True)


@cache
def _used_heap() -> tuple[bytes, ...]:
    """Fragment the memory, as in a process that has run for a while.

    In a fresh process each allocation may map an arena and unmap it again, which makes a contender half as expensive
    again by chance.
    """
    made = [bytes(size) for _ in range(4000) for size in range(1, 480, 16)]
    return tuple(made[::2])


def telemetry() -> Telemetry:
    """Metrics with a reader, no spans."""
    return Telemetry(meter_provider=MeterProvider([InMemoryMetricReader()]))


def authority(**settings: Any) -> SessionAuthority[Session]:
    """An authority with revocation and metrics on.

    Statuses stay fresh for the run, so that the figures contain no query; ``pauses`` measures those.
    """
    given: dict[str, Any] = {
        "keys": KeyRing([Key.hmac(SECRET)]),
        "store": MemorySessionStore(),
        "revocation": Revocation(max_staleness=timedelta(hours=2)),
        "telemetry": telemetry(),
        **settings,
    }
    return SessionAuthority(SessionSchema(Session, version=2, subject="userId"), **given)


class Everyone(MemorySessionStore):
    """A store in which every session is active."""

    async def statuses(self, keys: Collection[Any]) -> Any:
        return {key: SessionStatus(known=True, active=True) for key in keys}


class Ahead(Clock):
    """The machine's clocks; the monotonic one can skip time."""

    def __init__(self) -> None:
        self.skipped = 0.0

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic() + self.skipped


def claims(**more: Any) -> dict[str, Any]:
    """The claims of a token of today's payload, as the authority mints them."""
    now = int(time.time()) - 60
    return {
        "userId": "42",
        "companyId": "acme",
        "role": "user",
        "email": "user42@example.com",
        "environment": "production",
        "version": 2,
        "iat": now,
        "exp": now + WINDOW,
        "auth_time": now,
        "sid": "0af76519-16cd-43dd-8448-eb211c80319c",
        **more,
    }


def today() -> str:
    """A token of today's payload."""
    return jwt.encode(claims(), SECRET, algorithm="HS256", headers=OWN)


def forged(**more: Any) -> str:
    """A token like ours, signed with another key."""
    return jwt.encode(claims(**more), "another-secret-0123456789abcdef0123456789", algorithm="HS256", headers=OWN)


BROWSER = (
    ("host", "app.example.com"),
    ("connection", "keep-alive"),
    ("sec-ch-ua", '"Chromium";v="142", "Google Chrome";v="142", "Not_A Brand";v="99"'),
    ("sec-ch-ua-mobile", "?0"),
    ("sec-ch-ua-platform", '"Linux"'),
    ("upgrade-insecure-requests", "1"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-user", "?1"),
    ("sec-fetch-dest", "document"),
    ("referer", "https://app.example.com/orders"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("accept-language", "en-GB,en;q=0.9"),
)
"""Chrome's headers of a navigation."""

Headers = list[tuple[bytes, bytes]]


def headers(*more: tuple[str, str], base: Sequence[tuple[str, str]] = BROWSER) -> Headers:
    return [(name.encode(), value.encode()) for name, value in (*base, *more)]


def cookie(token: str, name: str = COOKIE) -> Headers:
    """A browser's headers with the token's cookie among two others."""
    return headers(("cookie", f"theme=dark; {name}={token}; csrftoken=Hc3ZqkTzGJf0tVXoN5q7Wk"))


def bearer(token: str) -> Headers:
    return headers(("authorization", f"Bearer {token}"))


def scope(given: Headers, path: str = "/") -> dict[str, Any]:
    """A scope like uvicorn's."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 443),
        "client": ("127.0.0.1", 50_000),
        "scheme": "https",
        "method": "GET",
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": given,
        "state": {},
    }


async def receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: Any) -> None:
    """A client that ignores messages."""


async def answer(app: Any, given: Headers) -> tuple[int, bytes]:
    """Status and body of one response."""
    statuses: list[int] = []
    body = b""

    async def keeping(message: Any) -> None:
        nonlocal body
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
        body += message.get("body", b"")

    await app(scope(given), receive, keeping)
    return statuses[0], body
