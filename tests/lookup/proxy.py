"""A TCP proxy before PostgreSQL, which can be cut, made to hang, and mended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy.engine import make_url

Mode = Literal["open", "cut", "hanging"]


@dataclass
class Proxy:
    """Passes bytes on while `open`; `cut` resets what is connected and what connects; `hanging` passes nothing on."""

    host: str
    port: int
    mode: Mode = "open"
    flows: asyncio.Event = field(default_factory=asyncio.Event)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def set(self, mode: Mode) -> None:
        self.mode = mode
        if mode == "hanging":
            self.flows.clear()
        else:
            self.flows.set()
        if mode == "cut":
            for writer in self.writers:
                writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode == "cut":
            writer.transport.abort()
            return
        there_reader, there = await asyncio.open_connection(self.host, self.port)
        self.writers |= {writer, there}
        ways = [asyncio.create_task(self._pass(reader, there)), asyncio.create_task(self._pass(there_reader, writer))]
        self.tasks |= set(ways)
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for each in (writer, there):
            each.transport.abort()
        await asyncio.gather(*ways, return_exceptions=True)
        self.tasks -= set(ways)
        self.writers -= {writer, there}

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            await self.flows.wait()
            writer.write(data)


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy before the database of that URL, and the URL through it."""
    target = make_url(url)
    proxy = Proxy(target.host or "127.0.0.1", target.port or 5432)
    proxy.flows.set()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    through = target.set(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    try:
        yield proxy, through.render_as_string(hide_password=False)
    finally:
        server.close()
        proxy.set("cut")
        for task in list(proxy.tasks):
            task.cancel()
        await server.wait_closed()
        await asyncio.sleep(0)
