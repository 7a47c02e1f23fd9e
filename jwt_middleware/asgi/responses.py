"""Which responses may carry a reissued cookie: none that anybody else may be given, and none that says it otherwise.

Where the app says nothing about caching, ``Cache-Control: no-store`` is added; where it says that a shared cache may
keep the response, or nothing that forbids it, the cookie waits for another response (RFC 9111 section 5.2.2).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Final

from starlette.types import Receive, Scope, Send

from ..errors import RETRY_AFTER, ConfigError, Reason

_LOCATION: Final = re.compile(r"/(?![/\\])[!-~]*")
"""A path of this host: two slashes, or what browsers take for them, begin the name of another (RFC 3986, 4.2)."""
_CLOSE_CODES: Final = {401: 1008, 403: 1008, 503: 1013}


class Refusals:
    """Answers refused requests, over HTTP and before a websocket is accepted.

    Args:
        login: Told in the body of a 401, where there is a page to log in.

    Raises:
        ConfigError: It cannot stand in a ``Location`` header as it is.
    """

    def __init__(self, login: str | None) -> None:
        self._bodies: Final = {status: _body(status, login if status == 401 else None) for status in _CLOSE_CODES}
        if login is not None and not _LOCATION.fullmatch(login):
            raise ConfigError(f"login={login!r} is sent as Location: write it in ASCII, percent-encoded, without space")
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


class ResponseCookie:
    """Judges the start of a response, and puts a cookie on it; ``names`` are those of the session's cookies."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names: Final = frozenset(name.encode("ascii") for name in names)

    def allows(self, status: int, headers: Headers) -> bool:
        """Whether a response may carry the cookie."""
        cache_control = []
        for raw_name, value in headers:
            name = raw_name.lower()
            if name == b"set-cookie" and value.partition(b"=")[0].strip() in self._names:
                return False  # a log-in or a log-out: the app's word counts
            if name in _FOR_SHARED_CACHES or name.endswith(b"-cdn-cache-control") or name == b"clear-site-data":
                return False
            if name == b"cache-control":
                cache_control.append(value)
        return status != 304 and (not cache_control or _is_private(b",".join(cache_control)))

    def put(self, headers: Headers, set_cookie: str) -> list[tuple[bytes, bytes]]:
        """The headers with the cookie; only where :meth:`allows` says so."""
        silent = all(name.lower() != b"cache-control" for name, _ in headers)
        added = [(b"cache-control", b"no-store")] if silent else []
        return [*headers, (b"set-cookie", set_cookie.encode("latin-1")), *added]


def _is_private(cache_control: bytes) -> bool:
    """It keeps the whole response from shared caches; ``private="a-field"`` keeps only that field."""
    value = _QUOTED.sub(b"", cache_control)
    said = [directive.strip().lower() for directive in value.split(b",")]
    return b'"' not in value and _any(said, _PRIVATE) and not _any((each.partition(b"=")[0] for each in said), _SHARED)


def _any(directives: Iterable[bytes], wanted: frozenset[bytes]) -> bool:
    return not wanted.isdisjoint(directives)
