"""Small ASGI apps and a way to ask them: what the tests of the middleware share."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jwt_middleware.counters import Counters
from jwt_middleware.testing import client


class Echo:
    """An ASGI app that writes down every scope it was given and answers 200; it never suspends."""

    def __init__(self, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self.headers = list(headers)
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": self.headers, "extra": "kept"})
        await send({"type": "http.response.body", "body": b"ok"})

    @property
    def session(self) -> Any:
        """The session of the last request."""
        return self.scopes[-1]["state"]["session"]

    @property
    def token(self) -> Any:
        return self.scopes[-1]["state"]["token"]


async def ask(app: ASGIApp, path: str = "/", method: str = "GET", **settings: Any) -> httpx.Response:
    """One request without a cookie jar; ``cookie=`` is the whole header, ``bearer=`` a token."""
    headers = dict(settings.pop("headers", {}))
    if (cookie := settings.pop("cookie", None)) is not None:
        headers["cookie"] = cookie
    if (bearer := settings.pop("bearer", None)) is not None:
        headers["authorization"] = f"Bearer {bearer}"
    async with client(app) as http:
        return await http.request(method, path, headers=headers, **settings)


def scope_of(path: str = "/", *, kind: str = "http", headers: Sequence[tuple[bytes, bytes]] = (), **more: Any) -> Scope:
    """A scope as a server makes it."""
    method: dict[str, Any] = {"method": "GET"} if kind == "http" else {"subprotocols": []}
    return {
        "type": kind,
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "https" if kind == "http" else "wss",
        "path": path,
        "raw_path": path.encode("ascii"),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"testserver"), *headers],
        "client": ("127.0.0.1", 1),
        "server": ("testserver", 443),
        **method,
        **more,
    }


class Sent:
    """A ``send`` that keeps what it was given."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def types(self) -> list[str]:
        return [message["type"] for message in self.messages]


async def nothing() -> Message:
    """A ``receive`` that must not be called."""
    raise AssertionError("received")


def foreign_token(secret: bytes, claims: Mapping[str, Any], *, typ: str | None = "JWT") -> str:
    """A token as some other library minted it: HS256, no ``kid``; ``typ`` is that of its header, None for none."""
    header = {"alg": "HS256", **({} if typ is None else {"typ": typ})}
    parts = [json.dumps(part, separators=(",", ":")).encode() for part in (header, claims)]
    signing_input = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = hmac.new(secret, signing_input, hashlib.sha256).digest()
    return (signing_input + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def counted(counters: Counters, metric: str, *, zeros: bool = False) -> dict[tuple[str, ...], int]:
    """The series of one counter, attribute values to count; by default those that are not zero."""
    return {
        tuple(value for _, value in attributes): count
        for name, attributes, count in counters.series()
        if name.name.endswith(metric) and (count or zeros)
    }


def counts(authority: Any, metric: str, *, zeros: bool = False) -> dict[tuple[str, ...], int]:
    """The same of an authority."""
    return counted(authority.parts.counters, metric, zeros=zeros)
