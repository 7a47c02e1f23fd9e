"""The release moment: old tokens of many users at once, on SQLite and PostgreSQL, against one query a request.

The one-query handlers are what an app writes by hand: a query for each token without an email. All contenders check the
same (``handlers``) and count the event with an OpenTelemetry counter, a span and a log call, ours by its own telemetry.
In a second run, users of today's payload send 5 ms queries on the same pool meanwhile; the result is their p99.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.support.postgres import cluster

from . import world
from .floods import AT_ONCE, Watch, arriving, flood, flooding, server_of, watching
from .handlers import (
    Make,
    authority,
    by_hand,
    contenders,
    metadata,
    old_tokens,
    ours,
    prove,
    users,
    with_sqlalchemy,
)
from .measure import FULL, Effort, Line, Section, Spread, Table, percentile

REQUESTS, USERS, ROUNDS = 10_000, 5_000, 5
"""For each contender, in each round."""
CASES = ((50_000, 5_000, 100), (50_000, 50_000, 400))
"""The cases of the budget: requests, users, and the allowed queries."""
SLOWER = 5
"""SQLite gets a fifth of the requests: each query takes a millisecond."""
PEOPLE, REQUESTS_OF_ONE = 6, 60
"""Users of today's payload, and the requests of each in a round."""
ARRIVING = "500 old tokens a second"
QUIET, ENDLESS = "quiet", "without end"
OURS_ARRIVING = f"beside {ARRIVING}, ours"
Row = dict[str, Any]


def run(effort: Effort = FULL) -> Section:
    world.quiet()
    section = Section()
    with cluster() as server:
        asyncio.run(_on_postgresql(server, effort, section))
    with tempfile.TemporaryDirectory() as home:
        asyncio.run(on_sqlite(Path(home), effort, section))
    return section


async def on_sqlite(home: Path, effort: Effort, section: Section) -> None:
    engine = await filled(f"sqlite+aiosqlite:///{home / 'bench.db'}", effort)
    made, tokens = contenders(engine), _coming(engine, effort.of(REQUESTS // SLOWER), effort.of(USERS // SLOWER))
    section.tables.append(_table("SQLite", await _compared(engine, made, made, Watch(), tokens, effort)))
    await engine.dispose()


async def _on_postgresql(server: str, effort: Effort, section: Section) -> None:
    engine = await filled(server.replace("postgresql://", "postgresql+asyncpg://", 1), effort)
    most = await floods(engine, server, effort, section)
    await _neighbours(engine, effort, section, most)
    await engine.dispose()


async def filled(url: str, effort: Effort) -> AsyncEngine:
    engine = create_async_engine(url, pool_size=10, max_overflow=0)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
        rows = [{"id": n, "email": f"user{n}@example.com"} for n in range(effort.of(50_000))]
        await connection.execute(sa.insert(users), rows)
    return engine


async def floods(engine: AsyncEngine, server: str, effort: Effort, section: Section) -> int:
    """Run the floods; returns the maximum of our queries in flight at once."""
    watch, size = Watch(), {"min_size": 10, "max_size": 10, "reset": _nothing}
    async with asyncpg.create_pool(server, **size) as pool, asyncpg.create_pool(server, **size, init=watch.of) as other:
        timed, watched = contenders(engine, pool), contenders(engine, other)
        tokens = _coming(engine, effort.of(REQUESTS), effort.of(USERS))
        table = _table("PostgreSQL", await _compared(engine, timed, watched, watch, tokens, effort))
    section.tables.append(table)
    in_flight = 0
    for requests, distinct, most in CASES:
        row, of_row = await _case(engine, effort.of(requests), effort.of(distinct))
        in_flight = max(in_flight, of_row)
        table.rows.append(row)
        section.lines.append(
            Line(
                what=f"release moment, {row['requests']:,} requests of {row['users']:,} users, {AT_ONCE} at once: "
                "queries",
                budget=f"≤ {most}",
                measured=str(row["queries"]),
                met=row["queries"] <= most,
            )
        )
    return in_flight


async def _nothing(connection: object) -> None:
    """In place of the reset of asyncpg's pool, which costs a round trip."""


async def _compared(
    engine: AsyncEngine,
    timed: Mapping[str, Make],
    watched: Mapping[str, Make],
    watch: Watch,
    tokens: list[str],
    effort: Effort,
) -> list[Row]:
    """Each contender takes part in every round; a separate run counts queries, so that counting costs nothing."""
    queries: dict[str, int] = {}
    with watching(engine, watch):
        for name, make in watched.items():
            await prove(name, make())
            before = watch.sent
            await flood(make(), tokens)
            queries[name] = watch.sent - before
    found: dict[str, list[dict[str, float]]] = {name: [] for name in timed}
    server, order = await server_of(engine), random.Random(7)
    for _ in range(effort.of(ROUNDS)):
        for name in order.sample(list(timed), len(timed)):
            found[name].append(await flood(timed[name](), tokens, server))
    return [_row(name, tokens, queries[name], figures) for name, figures in found.items()]


async def _case(engine: AsyncEngine, requests: int, distinct: int) -> tuple[Row, int]:
    """One case of the budget, once; its few queries can be counted while it is timed."""
    tokens, server = _coming(engine, requests, distinct), await server_of(engine)
    with watching(engine, Watch()) as watch:
        figures = await flood(ours(authority(engine)), tokens, server)
    return _row("ours, a case of the budget, once", tokens, watch.sent, [figures]), watch.most


def _coming(engine: AsyncEngine, requests: int, distinct: int) -> list[str]:
    tokens = old_tokens(authority(engine), distinct)
    return [tokens[n % distinct] for n in range(requests)]


def _row(name: str, tokens: list[str], queries: int, rounds: list[dict[str, float]]) -> Row:
    figures = {column: Spread.of(each[column] for each in rounds) for column in rounds[0]}
    rate = figures.pop("requests/s")
    return {
        "contender": name,
        "requests": len(tokens),
        "users": len(set(tokens)),
        "queries": queries,
        "requests/s": round(rate),
        "middle half": rate.half(0) if len(rounds) > 1 else "",
        **{column: round(figure, 2 if column in ("p50", "p99") else None) for column, figure in figures.items()},
    }


def _table(database: str, rows: list[Row]) -> Table:
    return Table(
        title=f"The release moment on {database}",
        note=f"{AT_ONCE} requests at once, a pool of 10; p50 and p99 of a request in ms, CPU in µs a request: medians "
        "of rounds in turns, ours each time with empty caches. Queries for the email are counted at the driver "
        "in a round apart. All check signature, `exp`, `iat`, required claims and the lifetime, and none "
        "revocation; ours reads a Cookie header, the others get the token. SQLAlchemy runs without a transaction and "
        "asyncpg without the reset of its pool, which saves a round trip or two for each query.",
        rows=rows,
    )


async def _neighbours(engine: AsyncEngine, effort: Effort, section: Section, most: int) -> None:
    """Today's users, each with a 5 ms query on the same pool: alone, beside our fallback, beside one query each."""
    tokens = old_tokens(authority(engine), effort.of(USERS))
    by_query = by_hand(with_sqlalchemy(engine))
    beside: dict[str, Callable[[], AbstractAsyncContextManager[None]]] = {
        QUIET: nullcontext,
        OURS_ARRIVING: lambda: arriving(ours(authority(engine)), tokens),
        f"beside {ARRIVING}, a query each": lambda: arriving(by_query, tokens),
        f"beside {AT_ONCE} at once {ENDLESS}, ours": lambda: flooding(ours(authority(engine)), tokens),
        f"beside {AT_ONCE} at once {ENDLESS}, a query each": lambda: flooding(by_query, tokens),
    }
    latencies: dict[str, list[list[float]]] = {name: [] for name in beside}
    quiet: dict[str, list[list[float]]] = {name: [] for name in beside}
    for turn in range(effort.of(9)):
        for name, meanwhile in beside.items():
            if ENDLESS in name and turn % 8:  # its requests take ten times as long
                continue
            async with meanwhile():
                with watching(engine, Watch()) as watch:
                    latencies[name].append(await _today(engine))
            quiet[name].append(latencies[QUIET][-1])
            most = max(most, watch.most if "ours" in name else 0)
    times = {
        name: Spread.of(
            percentile(mine, 0.99) / percentile(alone, 0.99) for mine, alone in zip(rounds, quiet[name], strict=True)
        )
        for name, rounds in latencies.items()
    }
    section.tables.append(_meanwhile(latencies, times))
    section.lines += _lines(times[OURS_ARRIVING], most)


def _meanwhile(latencies: Mapping[str, list[list[float]]], times: Mapping[str, Spread]) -> Table:
    """The latencies of today's users; ``times`` is their p99 as a multiple of the quiet one."""
    table = Table(
        title="Today's users meanwhile",
        note="ms of a handler with a query of 5 ms on the same pool of 10. Requests without end saturate the event "
        "loop, with any handler.",
    )
    for name, rounds in latencies.items():
        figures = {f"p{at}": Spread.of(percentile(took, at / 100) for took in rounds) for at in (50, 99)}
        figures["p99 × quiet"] = times[name]
        row = {column: round(figure, 2) for column, figure in figures.items()}
        table.rows.append({"": name, **row, "middle half": times[name].half()})
    return table


def _lines(share: Spread, most: int) -> list[Line]:
    return [
        Line(
            what=f"today's tokens beside {ARRIVING}, same pool, 5 ms queries: p99",
            budget="≤ 1.15 × quiet",
            measured=f"{share:.2f}",
            met=share <= 1.15,
            spread=share.half(),
        ),
        Line(
            what="claims queries in flight, in that and at 256 at once: connections used by lookups",
            budget="≤ 2",
            measured=str(most),
            met=most <= 2,
        ),
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
