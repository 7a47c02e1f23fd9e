"""The floor: the least a middleware can do and still keep what ours promises to a request whose token it knows."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import asdict
from hashlib import sha256
from typing import Any

import msgspec
from starlette.responses import PlainTextResponse

from . import world


class Least:
    """Finds the cookie, digests the token, builds the session of the one token it knows, adds ``Vary``. Nothing else.

    No rule of cookies is kept, no other carrier looked for, no path public; nothing expires, is revoked or counted.
    What it costs over the bare app is what no care in writing ours can save.
    """

    def __init__(self, app: Any, token: str) -> None:
        self.app = app
        self.pair = f"{world.COOKIE}=".encode()
        self.build = msgspec.json.Decoder(world.Session).decode
        self.empty = sha256().copy
        self.known = {sha256(token.encode()).digest(): msgspec.json.encode(asdict(world.user()))}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        cookies = b""
        for name, value in scope["headers"]:
            if name == b"cookie":
                cookies = value
        digest = self.empty()
        digest.update(cookies.partition(self.pair)[2].partition(b";")[0])
        found = self.known.get(digest.digest())
        if found is None:
            await PlainTextResponse("unauthorized", status_code=401)(scope, receive, send)
            return
        scope["state"]["session"] = self.build(found)

        def sending(message: Any) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"vary", b"cookie")]}
            answer: Awaitable[None] = send(message)
            return answer

        await self.app(scope, receive, sending)
