"""A TCP proxy before PostgreSQL, which can fail in the ways networks do, and be repaired."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal, get_args

from sqlalchemy.engine import make_url

Fault = Literal["cut", "reset", "delay", "half-open"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
DELAY = 5.0
"""Seconds that each piece of data is late while the fault is `delay`."""


@dataclass(eq=False)
class Link:
    """One connection of a client, and its connection to the server, if there is one."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    dead: bool = False
    """Half-open: what it is sent is lost without a sign; for good."""

    def end(self, *, reset: bool) -> None:
        for writer in (self.client, self.server):
            if writer is None:
                continue
            if reset and (raw := writer.get_extra_info("socket")) is not None:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


@dataclass
class Proxy:
    """Passes bytes on while there is no fault.

    `cut` closes each connection, old or new, `reset` does so with RST; `delay` holds each piece of data back;
    `half-open` loses what is sent on a connection from before or during the fault, also after it.
    """

    host: str
    port: int
    fault: Fault | None = None
    links: set[Link] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def set(self, fault: Fault | None) -> None:
        self.fault = fault
        for link in list(self.links):
            if fault in ("cut", "reset"):
                link.end(reset=fault == "reset")
            elif fault == "half-open":
                link.dead = True

    def repair(self) -> None:
        self.set(None)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(writer, dead=self.fault == "half-open")
        if self.fault in ("cut", "reset"):
            link.end(reset=self.fault == "reset")
            return
        self.links.add(link)
        try:
            there, link.server = await asyncio.open_connection(self.host, self.port)
            ways = [self._pass(link, reader, link.server), self._pass(link, there, writer)]
            tasks = {asyncio.create_task(way) for way in ways}
            self.tasks |= tasks
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self.tasks -= tasks
        finally:
            link.end(reset=False)
            self.links.discard(link)

    async def _pass(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                if self.fault == "delay":
                    await asyncio.sleep(DELAY)
                if not link.dead:
                    writer.write(data)
        except ConnectionError:
            pass  # `serve` ends the other direction too


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy before the database of that URL, and the URL through it."""
    target = make_url(url)
    proxy = Proxy(target.host or "127.0.0.1", target.port or 5432)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    through = target.set(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    try:
        yield proxy, through.render_as_string(hide_password=False)
    finally:
        server.close()
        proxy.set("cut")
        async with asyncio.timeout(10):
            while proxy.links:
                for task in list(proxy.tasks):
                    task.cancel()
                await asyncio.sleep(0.01)
        await server.wait_closed()
