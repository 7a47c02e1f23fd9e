"""The authority's life inside the app's: opened after the app is up, flushed before it goes down, breaking neither."""

from __future__ import annotations

import contextlib
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .authority import SessionAuthority


async def lifespan(app: ASGIApp, authority: SessionAuthority[Any], scope: Scope, receive: Receive, send: Send) -> None:
    """Run the inner app's lifespan with the authority's hooked in."""

    async def receiving() -> Message:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            with contextlib.suppress(Exception):  # the app's own shutdown is worth more than a last flush
                await authority.aclose()
        return message

    async def sending(message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            with contextlib.suppress(Exception):  # what it starts here, the first request would start too
                authority.open()
        await send(message)

    await app(scope, receiving, sending)
