"""What a refused request gets, and which response may carry a newer cookie.

A refusal is the same bytes for each status, whatever the reason: problem details (RFC 9457) with ``WWW-Authenticate``
(RFC 6750 section 3), never cached. A newer cookie goes only on a response that no shared cache may keep and that does
not set or clear the cookie itself (RFC 9111 section 5.2.2).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from starlette.types import Receive, Scope, Send

from ..errors import RETRY_AFTER, ConfigError, Reason

_LOCATION: Final = re.compile(r"/(?![/\\])[!-~]*")
"""A path of this host: two slashes, or what browsers read as two, begin another host's name (RFC 3986, 4.2)."""
_CLOSE_CODES: Final = {401: 1008, 403: 1008, 503: 1013}


class Refusals:
    """Answers refused requests, over HTTP and before a websocket is accepted.

    Args:
        login: The path of the log-in page, which the body of a 401 names.

    Raises:
        ConfigError: It cannot be the value of a ``Location`` header.
    """

    def __init__(self, login: str | None) -> None:
        self._bodies: Final = {status: _body(status, login if status == 401 else None) for status in _CLOSE_CODES}
        if login is not None and not _LOCATION.fullmatch(login):
            raise ConfigError(
                f"login must be a local path in percent-encoded ASCII, got {login!r}; write login='/login'"
            )
        self._location: Final = (login or "/").encode("ascii")

    async def answer(self, reason: Reason, vary: bytes | None, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the refusal."""
        if scope["type"] == "http":
            await self._respond("http.response", reason, vary, send)
        elif "websocket.http.response" in scope.get("extensions", {}):
            await self._respond("websocket.http.response", reason, vary, send)
        else:
            await send({"type": "websocket.close", "code": _CLOSE_CODES[reason.status], "reason": ""})

    async def redirect(self, vary: bytes | None, send: Send) -> None:
        """Send a navigation to the log-in page; a 303 makes the next request a GET."""
        headers = [(b"location", self._location), (b"content-length", b"0"), *_uncached(vary)]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async def _respond(self, kind: str, reason: Reason, vary: bytes | None, send: Send) -> None:
        body = self._bodies[reason.status]
        headers: list[tuple[bytes, bytes]] = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode("ascii")),
            *_uncached(vary),
        ]
        if reason.status == 401:
            error = b"" if reason is Reason.TOKEN_MISSING else b' error="invalid_token"'
            headers.append((b"www-authenticate", b"Bearer" + error))
        elif reason.status == 503:
            headers.append((b"retry-after", str(RETRY_AFTER).encode("ascii")))
        await send({"type": f"{kind}.start", "status": reason.status, "headers": headers})
        await send({"type": f"{kind}.body", "body": body})


def _uncached(vary: bytes | None) -> list[tuple[bytes, bytes]]:
    return [(b"cache-control", b"no-store"), *([(b"vary", vary)] if vary is not None else [])]


def _body(status: int, login: str | None) -> bytes:
    problem: dict[str, str | int] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    if login is not None:
        problem["login"] = login
    return json.dumps(problem).encode("ascii")


Headers = Sequence[tuple[bytes, bytes]]
_FOR_SHARED_CACHES: Final = frozenset({b"cdn-cache-control", b"surrogate-control", b"x-accel-expires"})
"""RFC 9213 and its forerunners: caches obey them before Cache-Control."""
_SHARED: Final = frozenset({b"public", b"s-maxage"})
_PRIVATE: Final = frozenset({b"no-store", b"private"})
_QUOTED: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')


class RenewalResponse:
    """Says whether a response may carry a newer cookie, and adds it; ``names`` are those of the session's cookies."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names: Final = frozenset(name.encode("ascii") for name in names)

    def allows(self, status: int, headers: Headers) -> bool:
        """True if the response may carry the cookie: it is private, and neither a log-in nor a log-out."""
        cache_control = []
        for raw_name, value in headers:
            name = raw_name.lower()
            if name == b"set-cookie" and value.partition(b"=")[0].strip() in self._names:
                return False
            if name in _FOR_SHARED_CACHES or name.endswith(b"-cdn-cache-control") or name == b"clear-site-data":
                return False
            if name == b"cache-control":
                cache_control.append(value)
        return status != 304 and (not cache_control or _is_private(b",".join(cache_control)))

    def add(self, headers: Headers, set_cookie: str) -> list[tuple[bytes, bytes]]:
        """The headers with the cookie, and with ``Cache-Control: no-store`` where they say nothing about caching."""
        has_cache_control = any(name.lower() == b"cache-control" for name, _ in headers)
        no_store = [] if has_cache_control else [(b"cache-control", b"no-store")]
        return [*headers, (b"set-cookie", set_cookie.encode("latin-1")), *no_store]


def _is_private(cache_control: bytes) -> bool:
    """True if it keeps the whole response from shared caches; ``private="a-field"`` keeps only that field."""
    value = _QUOTED.sub(b"", cache_control)
    directives = {directive.strip().lower() for directive in value.split(b",")}
    names = {directive.partition(b"=")[0] for directive in directives}
    return b'"' not in value and not _PRIVATE.isdisjoint(directives) and _SHARED.isdisjoint(names)
