"""What a refused request is told: fixed bytes for each status, whatever the reason.

Problem details (RFC 9457), ``WWW-Authenticate`` (RFC 6750 section 3), never cached.
"""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Final

from starlette.types import Receive, Scope, Send

from .errors import RETRY_AFTER, ConfigError, Reason

_LOCATION: Final = re.compile(r"/(?![/\\])[!-~]*")
"""A path of this host: two slashes, or what browsers take for them, begin the name of another (RFC 3986, 4.2)."""
_CLOSE_CODES: Final = {401: 1008, 403: 1008, 503: 1013}
Headers = list[tuple[bytes, bytes]]


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
        headers: Headers = [
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


def _uncached(vary: bytes | None) -> Headers:
    return [(b"cache-control", b"no-store"), *([(b"vary", vary)] if vary is not None else [])]


def _body(status: int, login: str | None) -> bytes:
    problem: dict[str, str | int] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    if login is not None:
        problem["login"] = login
    return json.dumps(problem).encode("ascii")
