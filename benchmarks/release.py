"""The release moment: old tokens of many users at once, on SQLite and PostgreSQL, against one query a request.

The one-query handlers are what an app writes by hand: on a token without an email, ask the database. All contenders
count the event with an OpenTelemetry counter, a span and a log call, ours by its own telemetry. Meanwhile, in a second
run, users of today's payload make their 5 ms query on the same pool: what matters to them is its p99.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from jwt_middleware import SessionAuthority
from tests.postgres import cluster

from . import world
from .floods import AT_ONCE, arriving, flood, watching
from .handlers import authority, by_hand, metadata, old_tokens, ours, users, with_asyncpg, with_sqlalchemy
from .measure import FULL, Effort, Line, Section, Spread, Table, percentile

REQUESTS, USERS = 50_000, 5_000
EACH = 10_000
"""Requests of the contenders that send a query for each."""
PEOPLE, REQUESTS_OF_ONE = 6, 60
"""Users of today's payload, and what each asks for in a round."""


def run(effort: Effort = FULL) -> Section:
    world.quiet()
    section = Section()
    with cluster() as server:
        asyncio.run(_on_postgresql(server, effort, section))
    with tempfile.TemporaryDirectory() as home:
        asyncio.run(on_sqlite(Path(home), effort, section))
    return section


async def on_sqlite(home: Path, effort: Effort, section: Section) -> None:
    engine = await _filled(f"sqlite+aiosqlite:///{home / 'bench.db'}", effort)
    section.tables.append(await _floods(engine, "SQLite", effort))
    await engine.dispose()


async def _on_postgresql(server: str, effort: Effort, section: Section) -> None:
    engine = await _filled(server.replace("postgresql://", "postgresql+asyncpg://", 1), effort)
    table = await _floods(engine, "PostgreSQL", effort)
    each = effort.of(EACH)
    async with asyncpg.create_pool(server, min_size=10, max_size=10) as pool:
        tokens = _coming(authority(engine), each, effort.of(USERS))
        row = await flood(engine, by_hand(with_asyncpg(pool)), tokens)
    table.rows.append(
        {"contender": "a query each, asyncpg", "requests": each, "users": effort.of(USERS), **row, "queries": each}
    )
    section.tables.append(table)
    for row, most in zip(table.rows, (100, 400), strict=False):
        section.lines.append(
            Line(
                what=f"release moment, {row['requests']:,} requests of {row['users']:,} users, {AT_ONCE} at once: "
                "queries",
                budget=f"≤ {most}",
                measured=str(row["queries"]),
                met=row["queries"] <= most,
            )
        )
    await _neighbours(engine, effort, section)
    await engine.dispose()


async def _filled(url: str, effort: Effort) -> AsyncEngine:
    engine = create_async_engine(url, pool_size=10, max_overflow=0)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
        rows = [{"id": n, "email": f"user{n}@example.com"} for n in range(effort.of(REQUESTS))]
        await connection.execute(sa.insert(users), rows)
    return engine


async def _floods(engine: AsyncEngine, database: str, effort: Effort) -> Table:
    table = Table(
        title=f"The release moment on {database}",
        note=f"{AT_ONCE} requests at once, a pool of 10; p50 and p99 of a request in ms, CPU in µs a request.",
    )
    requests = effort.of(REQUESTS)
    for name, distinct in (("ours", effort.of(USERS)), ("ours, all users distinct", requests)):
        given = authority(engine)
        row = await flood(engine, ours(given), _coming(given, requests, distinct))
        table.rows.append({"contender": name, "requests": requests, "users": distinct, **row})
    tokens = _coming(authority(engine), effort.of(EACH), effort.of(USERS))
    row = await flood(engine, by_hand(with_sqlalchemy(engine)), tokens)
    table.rows.append(
        {"contender": "a query each, SQLAlchemy", "requests": len(tokens), "users": effort.of(USERS), **row}
    )
    return table


def _coming(given: SessionAuthority[Any], requests: int, distinct: int) -> list[str]:
    tokens = old_tokens(given, distinct)
    return [tokens[n % distinct] for n in range(requests)]


async def _neighbours(engine: AsyncEngine, effort: Effort, section: Section) -> None:
    """Today's users, each with a 5 ms query on the same pool: alone, beside our fallback, beside one query each."""
    tokens = old_tokens(authority(engine), effort.of(USERS))
    rounds: dict[str, list[list[float]]] = {"quiet": [], "beside ours": [], "beside a query each": []}
    most = 0
    for _ in range(effort.of(9)):
        rounds["quiet"].append(await _today(engine))
        async with arriving(ours(authority(engine)), tokens), watching(engine) as seen:
            rounds["beside ours"].append(await _today(engine))
        most = max(most, seen["most"])
        async with arriving(by_hand(with_sqlalchemy(engine)), tokens):
            rounds["beside a query each"].append(await _today(engine))
    table = Table(title="Today's users meanwhile", note="ms of a handler with a query of 5 ms on the same pool of 10.")
    p50, p99 = ({name: [percentile(took, at) for took in each] for name, each in rounds.items()} for at in (0.5, 0.99))
    times = {name: Spread.of(mine / quiet for mine, quiet in zip(p99[name], p99["quiet"], strict=True)) for name in p99}
    for name in rounds:
        figures = {"p50": Spread.of(p50[name]), "p99": Spread.of(p99[name]), "p99 × quiet": times[name]}
        row = {column: round(figure, 2) for column, figure in figures.items()}
        table.rows.append({"": name, **row, "middle half": times[name].half()})
    section.tables.append(table)
    share = times["beside ours"]
    section.lines += [
        Line(
            what="today's tokens during it, same pool, 5 ms queries: p99",
            budget="≤ 1.15 × quiet",
            measured=f"{share:.2f}",
            met=share <= 1.15,
            spread=share.half(),
        ),
        Line(what="connections used by lookups", budget="≤ 2", measured=str(most), met=most <= 2),
    ]


async def _today(engine: AsyncEngine) -> list[float]:
    took: list[float] = []

    async def client() -> None:
        for _ in range(REQUESTS_OF_ONE):
            started = perf_counter()
            async with engine.connect() as connection:
                await connection.execute(sa.text("SELECT pg_sleep(0.005)"))
            took.append((perf_counter() - started) * 1e3)
            await asyncio.sleep(0.02)

    await asyncio.gather(*(client() for _ in range(PEOPLE)))
    return took
