"""Over HTTP: about the least that a middleware in Python can do for a request with a cached token."""

from __future__ import annotations

from dataclasses import asdict
from hashlib import sha256
from typing import Any

import msgspec
from starlette.responses import PlainTextResponse

from . import world


class Least:
    """Finds the cookie, digests the token, builds the session of its only token, adds ``Vary``, and nothing else.

    It does not parse cookies strictly, read other headers, or know public paths; nothing expires, is revoked or
    counted. It adds no coroutine, so it could not respond to a refusal of the handler, and it changes the app's message
    in place, which a real middleware must not do.
    """

    def __init__(self, app: Any, token: str) -> None:
        self.app = app
        self.pair = f"{world.COOKIE}=".encode()
        self.build = msgspec.json.Decoder(world.Session).decode
        self.empty = sha256().copy
        self.cached = {sha256(token.encode()).digest(): msgspec.json.encode(asdict(world.user()))}

    def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        cookies = b""
        for name, value in scope["headers"]:
            if name == b"cookie":
                cookies = value
        digest = self.empty()
        digest.update(cookies.partition(self.pair)[2].partition(b";")[0])
        payload = self.cached.get(digest.digest())
        if payload is None:
            return PlainTextResponse("unauthorized", status_code=401)(scope, receive, send)
        scope["state"]["session"] = self.build(payload)

        def sending(message: Any) -> Any:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"vary", b"cookie")]
            return send(message)

        return self.app(scope, receive, sending)
