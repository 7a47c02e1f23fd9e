"""Many requests at once on one database: throughput, latency, and the CPU of the database and of the app."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from .measure import percentile
from .world import Session

AT_ONCE = 256
Handle = Callable[[str], Awaitable[Session]]
"""One request, from its token to its session."""
CLAIMS = "FROM users"
"""The text that all queries for claims contain, and no others."""


async def flood(handle: Handle, tokens: list[str], server: int | None = None) -> dict[str, float]:
    """Send all tokens, AT_ONCE at a time; ``server`` is the process id of the database server, to read its CPU."""
    took: list[float] = []
    coming = iter(tokens)

    async def client() -> None:
        for token in coming:
            started = perf_counter()
            await _answered(handle, token)
            took.append((perf_counter() - started) * 1e3)

    gc.collect()  # garbage of the previous contender
    theirs, ours, started = _cpu_of(server), time.process_time(), perf_counter()
    await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    seconds, ours, theirs = perf_counter() - started, time.process_time() - ours, _cpu_of(server) - theirs
    figures = {
        "requests/s": len(tokens) / seconds,
        "p50": percentile(took, 0.5),
        "p99": percentile(took, 0.99),
        "app CPU": ours / len(tokens) * 1e6,
    }
    return figures if server is None else figures | {"database CPU": theirs / len(tokens) * 1e6}


async def _answered(handle: Handle, token: str) -> None:
    session = await handle(token)
    if session.email != f"user{session.user_id}@example.com":
        raise SystemExit(f"the fallback did not fill the email: {session}")


async def server_of(engine: AsyncEngine) -> int | None:
    """The process id of PostgreSQL's postmaster; None if it runs on another machine, and for SQLite."""
    if engine.dialect.name == "sqlite":
        return None
    async with engine.connect() as connection:
        backend = Path(f"/proc/{await connection.scalar(sa.text('SELECT pg_backend_pid()'))}/stat")
    return int(_stat(backend)[1]) if backend.exists() else None


def _cpu_of(server: int | None) -> float:
    """CPU seconds of a process, its children, and its ended children."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat") if server else ():
        try:
            fields = _stat(path)
        except OSError:
            continue  # the process ended meanwhile
        if str(server) in (path.parent.name, fields[1]):
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def _stat(path: Path) -> list[str]:
    """The fields behind the process's name, its state first, its parent second (proc(5))."""
    return path.read_text().rpartition(")")[2].split()


@dataclass(slots=True)
class Watch:
    """Counts the claims queries that a driver gets."""

    sent: int = 0
    now: int = 0
    most: int = 0
    """The maximum in flight at once."""

    def before(self, connection: Any, cursor: Any, statement: str, *_: object) -> None:
        if CLAIMS in statement:
            self.sent += 1
            self.now += 1
            self.most = max(self.most, self.now)

    def after(self, connection: Any, cursor: Any, statement: str, *_: object) -> None:
        if CLAIMS in statement:
            self.now -= 1

    async def of(self, connection: Any) -> None:
        """Count the queries of a connection of asyncpg."""
        connection.add_query_logger(self._ended)

    def _ended(self, record: Any) -> None:
        if CLAIMS in record.query:
            self.sent += 1


@contextmanager
def watching(engine: AsyncEngine, watch: Watch) -> Iterator[Watch]:
    events = {"before_cursor_execute": watch.before, "after_cursor_execute": watch.after}
    for event, listener in events.items():
        sa.event.listen(engine.sync_engine, event, listener)
    try:
        yield watch
    finally:
        for event, listener in events.items():
            sa.event.remove(engine.sync_engine, event, listener)


@asynccontextmanager
async def flooding(handle: Handle, tokens: list[str]) -> AsyncIterator[None]:
    """Send AT_ONCE requests at a time, without pause, while the block runs."""

    async def client(first: int) -> None:
        for n in count(first, AT_ONCE):
            await _answered(handle, tokens[n % len(tokens)])
            await asyncio.sleep(0)  # a response from memory does not suspend

    running = [asyncio.ensure_future(client(first)) for first in range(AT_ONCE)]
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@asynccontextmanager
async def arriving(handle: Handle, tokens: list[str]) -> AsyncIterator[None]:
    """Send old tokens at a steady rate, 500 a second, each of another user, while the block runs."""

    async def arrive() -> None:
        running: set[asyncio.Future[None]] = set()
        for n, token in enumerate(tokens * 4):
            if n % 5 == 0:
                await asyncio.sleep(0.01)
            task = asyncio.ensure_future(_answered(handle, token))
            running.add(task)
            task.add_done_callback(running.discard)

    coming = asyncio.ensure_future(arrive())
    try:
        yield
    finally:
        coming.cancel()
        await asyncio.sleep(0.3)
