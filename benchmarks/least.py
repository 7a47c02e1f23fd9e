"""Over HTTP: about the least that a middleware in Python can do for a request whose token it knows."""

from __future__ import annotations

from dataclasses import asdict
from hashlib import sha256
from typing import Any

import msgspec
from starlette.responses import PlainTextResponse

from . import world


class Least:
    """Finds the cookie, digests the token, builds the session of the one token it knows, adds ``Vary``. Nothing else.

    No rule of cookies is kept, no other carrier looked for, no path public; nothing expires, is revoked or counted. It
    adds no coroutine, so that what a handler refuses could not be answered, and changes the app's message in place,
    which no middleware may do to an app that sends one message again and again.
    """

    def __init__(self, app: Any, token: str) -> None:
        self.app = app
        self.pair = f"{world.COOKIE}=".encode()
        self.build = msgspec.json.Decoder(world.Session).decode
        self.empty = sha256().copy
        self.known = {sha256(token.encode()).digest(): msgspec.json.encode(asdict(world.user()))}

    def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        cookies = b""
        for name, value in scope["headers"]:
            if name == b"cookie":
                cookies = value
        digest = self.empty()
        digest.update(cookies.partition(self.pair)[2].partition(b";")[0])
        found = self.known.get(digest.digest())
        if found is None:
            return PlainTextResponse("unauthorized", status_code=401)(scope, receive, send)
        scope["state"]["session"] = self.build(found)

        def sending(message: Any) -> Any:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"vary", b"cookie")]
            return send(message)

        return self.app(scope, receive, sending)
