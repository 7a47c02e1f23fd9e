"""Many requests at once on one database: how fast, how late, and what the database and the app had to do for it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from .measure import percentile

AT_ONCE = 256
Handle = Callable[[str], Awaitable[object]]
"""One request, from its token to its session."""


async def flood(engine: AsyncEngine, handle: Handle, tokens: list[str]) -> dict[str, Any]:
    """All of them, so many at once."""
    queries, took, coming = 0, [], iter(tokens)

    def count(*_: object) -> None:
        nonlocal queries
        queries += 1

    async def client() -> None:
        for token in coming:
            started = perf_counter()
            await handle(token)
            took.append((perf_counter() - started) * 1e3)

    sa.event.listen(engine.sync_engine, "before_cursor_execute", count)
    theirs, ours, started = _of_database(), time.process_time(), perf_counter()
    await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    seconds, ours, theirs = perf_counter() - started, time.process_time() - ours, _of_database() - theirs
    sa.event.remove(engine.sync_engine, "before_cursor_execute", count)
    inside = engine.dialect.name == "sqlite"
    return {
        "requests/s": round(len(tokens) / seconds),
        "queries": queries,
        "p50": round(percentile(took, 0.5), 2),
        "p99": round(percentile(took, 0.99), 2),
        "database CPU": "in the app" if inside else round(theirs / len(tokens) * 1e6),
        "app CPU": round(ours / len(tokens) * 1e6),
    }


def _of_database() -> float:
    """Seconds of CPU of every PostgreSQL process there is."""
    total = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue  # it ended meanwhile
        if "(postgres)" in text:
            fields = text.rpartition(")")[2].split()
            total += sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    return total


@asynccontextmanager
async def arriving(handle: Handle, tokens: list[str]) -> AsyncIterator[None]:
    """Old tokens come at a steady rate, 500 a second, each of another user."""

    async def arrive() -> None:
        running: set[asyncio.Future[object]] = set()
        for n, token in enumerate(tokens * 4):
            if n % 5 == 0:
                await asyncio.sleep(0.01)
            task = asyncio.ensure_future(handle(token))
            running.add(task)
            task.add_done_callback(running.discard)

    coming = asyncio.ensure_future(arrive())
    try:
        yield
    finally:
        coming.cancel()
        await asyncio.sleep(0.3)


@asynccontextmanager
async def watching(engine: AsyncEngine) -> AsyncIterator[dict[str, int]]:
    """How many claims queries are in flight at once, at most."""
    seen = {"now": 0, "most": 0}

    def before(connection: Any, cursor: Any, statement: str, *_: object) -> None:
        if "FROM users" in statement:
            seen["now"] += 1
            seen["most"] = max(seen["most"], seen["now"])

    def after(connection: Any, cursor: Any, statement: str, *_: object) -> None:
        if "FROM users" in statement:
            seen["now"] -= 1

    sa.event.listen(engine.sync_engine, "before_cursor_execute", before)
    sa.event.listen(engine.sync_engine, "after_cursor_execute", after)
    try:
        yield seen
    finally:
        sa.event.remove(engine.sync_engine, "before_cursor_execute", before)
        sa.event.remove(engine.sync_engine, "after_cursor_execute", after)
