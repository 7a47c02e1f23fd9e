"""An open websocket ends with its session: a watcher asks again, and closes with 1008 (1013 where nobody can say)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import Refusal

POLICY_VIOLATION: Final = 1008
"""RFC 6455 section 7.4.1."""
TRY_AGAIN_LATER: Final = 1013
"""IANA WebSocket Close Code Number Registry."""
Check = Callable[[], Awaitable[float]]
"""Seconds until the next check is due; raises a Refusal when the session ended."""


async def watched(app: ASGIApp, check: Check, scope: Scope, receive: Receive, send: Send) -> None:
    """Run the app on a websocket that is closed when ``check`` refuses."""
    await WatchedWebSocket(check, receive, send).run(app, scope)


class WatchedWebSocket:
    """One websocket: ``receive`` tells the app of the end, ``send`` fails after it as after any disconnect."""

    def __init__(self, check: Check, receive: Receive, send: Send) -> None:
        self._check: Final = check
        self._receive: Final = receive
        self._send: Final = send
        self._ended: Final[asyncio.Future[int]] = asyncio.get_running_loop().create_future()
        self._watcher: asyncio.Task[None] | None = None
        self._arriving: asyncio.Future[Message] | None = None
        self._failure: Exception | None = None

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Run the app.

        Raises:
            Exception: The app's, or that of a check that failed without a Refusal (the websocket is closed by then).
        """
        try:
            await app(scope, self.receive, self.send)
        finally:
            tasks = [task for task in (self._watcher, self._arriving) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._failure is not None:
            raise self._failure

    async def receive(self) -> Message:
        """The next message. One that arrives while the app gives up waiting is kept for its next call."""
        if self._arriving is None:
            self._arriving = asyncio.ensure_future(self._receive())
        await asyncio.wait((self._arriving, self._ended), return_when=asyncio.FIRST_COMPLETED)
        if self._ended.done():
            return {"type": "websocket.disconnect", "code": self._ended.result(), "reason": ""}
        arrived, self._arriving = self._arriving, None
        return arrived.result()

    async def send(self, message: Message) -> None:
        """Send it.

        Raises:
            OSError: The session ended, and with it the websocket (ASGI: what a server raises after a disconnect).
        """
        if not self._ended.done():
            await self._send(message)
        elif message["type"] != "websocket.close":
            raise ConnectionAbortedError("the session of this websocket ended")
        if message["type"] == "websocket.accept":
            self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        try:
            while True:  # noqa: ASYNC110 - what is waited for happens in a database
                await asyncio.sleep(await self._check())
        except Refusal as refusal:
            await self._end(TRY_AGAIN_LATER if refusal.reason.status == 503 else POLICY_VIOLATION)
        except Exception as failure:  # whatever it is, nobody can say that the session stands
            self._failure = failure
            await self._end(TRY_AGAIN_LATER)

    async def _end(self, code: int) -> None:
        self._ended.set_result(code)
        with contextlib.suppress(Exception):  # the other side may be gone already
            await self._send({"type": "websocket.close", "code": code, "reason": ""})
