"""An open websocket ends with its session: a watcher checks it and closes with 1008, or 1013 if the store is away."""

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
"""Returns the seconds until the next check is due; raises a Refusal when the session ended."""


class WatchedWebSocket:
    """One websocket. When the session ends, ``receive`` tells the app, and ``send`` fails as after any disconnect."""

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
            Exception: The app's; or of a check that failed without a Refusal, after the websocket was closed.
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
        """Send a message.

        Raises:
            OSError: The session ended, and the websocket with it (ASGI: what a server raises after a disconnect).
        """
        if not self._ended.done():
            await self._send(message)
        elif message["type"] != "websocket.close":
            raise ConnectionAbortedError("the session of this websocket ended")
        if message["type"] == "websocket.accept":
            self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        try:
            while True:  # noqa: ASYNC110 - the status changes in a database, not in this process
                await asyncio.sleep(await self._check())
        except Refusal as refusal:
            await self._end(TRY_AGAIN_LATER if refusal.reason.status == 503 else POLICY_VIOLATION)
        except Exception as failure:  # a check that fails cannot say that the session is active
            self._failure = failure
            await self._end(TRY_AGAIN_LATER)

    async def _end(self, code: int) -> None:
        self._ended.set_result(code)
        with contextlib.suppress(Exception):  # the client may have gone already
            await self._send({"type": "websocket.close", "code": code, "reason": ""})
