"""An open websocket ends with its session: a watcher asks again, and closes with 1008 (1013 where nobody can say)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import Refusal

POLICY_VIOLATION: Final = 1008
"""RFC 6455 section 7.4.1."""
TRY_AGAIN_LATER: Final = 1013
"""IANA WebSocket Close Code Number Registry."""

Check = Callable[[], Awaitable[float]]
"""Seconds until the next check is due; raises a Refusal when the session ended."""


async def watched(app: ASGIApp, check: Check, scope: Scope, receive: Receive, send: Send) -> None:
    """Run the app on a websocket that is closed when ``check`` refuses."""
    await Watched(check, receive, send).run(app, scope)


class Watched:
    """One websocket: ``receive`` tells the app of the end, ``send`` drops what comes after it."""

    def __init__(self, check: Check, receive: Receive, send: Send) -> None:
        self._check: Final = check
        self._receive: Final = receive
        self._send: Final = send
        self._ended: Final[asyncio.Future[int]] = asyncio.get_running_loop().create_future()
        self._watcher: asyncio.Task[None] | None = None

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self.receive, self.send)
        finally:
            if self._watcher is not None:
                self._watcher.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._watcher

    async def receive(self) -> Message:
        message = asyncio.ensure_future(self._receive())
        try:
            futures: list[asyncio.Future[Any]] = [message, self._ended]
            await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not message.done():
                message.cancel()
        if message.done() and not message.cancelled() and not self._ended.done():
            return message.result()
        return {"type": "websocket.disconnect", "code": self._ended.result(), "reason": ""}

    async def send(self, message: Message) -> None:
        if self._ended.done():
            return
        await self._send(message)
        if message["type"] == "websocket.accept":
            self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        try:
            while True:  # noqa: ASYNC110 - what is waited for happens in a database
                await asyncio.sleep(await self._check())
        except Refusal as refusal:
            code = TRY_AGAIN_LATER if refusal.reason.status == 503 else POLICY_VIOLATION
        self._ended.set_result(code)
        with contextlib.suppress(Exception):  # the other side may be gone already
            await self._send({"type": "websocket.close", "code": code, "reason": ""})
