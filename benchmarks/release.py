"""The release moment: old tokens of many users at once, on SQLite and PostgreSQL, against one query a request.

The one-query handlers are what an app writes by hand: on a token without an email, ask the database. All contenders
count the event with an OpenTelemetry counter, a span and a log call, ours by its own telemetry. Meanwhile, in a second
run, users of today's payload make their 5 ms query on the same pool: what matters to them is its p99.
"""

from __future__ import annotations

import asyncio
import operator
import os
import statistics
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import asyncpg
import sqlalchemy as sa
import structlog
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from jwt_middleware import SessionAuthority, SQLAlchemyClaims, Telemetry
from jwt_middleware.testing import old_token
from tests.postgres import cluster

from . import world
from .measure import Line, Section, Table, percentile

REQUESTS, USERS, AT_ONCE = 50_000, 5_000, 256
SMALL = 10_000
"""Requests of the contenders that send a query for each."""
Handle = Callable[[str], Awaitable[object]]

metadata = sa.MetaData()
users = sa.Table("users", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("email", sa.String(200)))


def run() -> Section:
    world.quiet()
    section = Section()
    with cluster() as server, tempfile.TemporaryDirectory() as home:
        asyncio.run(_on("PostgreSQL", server.replace("postgresql://", "postgresql+asyncpg://", 1), section))
        asyncio.run(_on("SQLite", f"sqlite+aiosqlite:///{Path(home) / 'bench.db'}", section))
    return section


async def _on(database: str, url: str, section: Section) -> None:
    engine = create_async_engine(url, pool_size=10, max_overflow=0)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
        rows = [{"id": n, "email": f"user{n}@example.com"} for n in range(50_000)]
        await connection.execute(sa.insert(users), rows)
    table = Table(
        title=f"The release moment on {database}",
        note=f"{AT_ONCE} requests at once, a pool of 10; p50 and p99 of a request in ms, CPU of the database in s.",
    )
    for name, requests, distinct in (("ours", REQUESTS, USERS), ("ours, all users distinct", REQUESTS, 50_000)):
        authority = _authority(engine)
        tokens = _tokens(authority, distinct)
        row = await _flood(engine, database, _ours(authority), [tokens[n % distinct] for n in range(requests)])
        table.rows.append({"contender": name, "requests": requests, "users": distinct, **row})
        if database == "PostgreSQL":
            budget = 100 if distinct == USERS else 400
            section.lines.append(
                Line(
                    what=f"release moment, {requests:,} requests of {distinct:,} users, {AT_ONCE} at once: queries",
                    budget=f"≤ {budget}",
                    measured=str(row["queries"]),
                    met=row["queries"] <= budget,
                )
            )
    tokens = _tokens(_authority(engine), USERS)
    few = [tokens[n % USERS] for n in range(SMALL)]
    row = await _flood(engine, database, _by_hand(_with_sqlalchemy(engine)), few)
    table.rows.append({"contender": "a query each, SQLAlchemy", "requests": SMALL, "users": USERS, **row})
    if database == "PostgreSQL":
        async with asyncpg.create_pool(url.replace("+asyncpg", ""), min_size=10, max_size=10) as pool:
            row = await _flood(engine, database, _by_hand(_with_asyncpg(pool)), few)
        row["queries"] = SMALL
        table.rows.append({"contender": "a query each, asyncpg", "requests": SMALL, "users": USERS, **row})
        await _neighbours(engine, section)
    section.tables.insert(0, table)
    await engine.dispose()


def _authority(engine: AsyncEngine) -> SessionAuthority[Any]:
    telemetry = Telemetry(
        meter_provider=MeterProvider([InMemoryMetricReader()]), tracer_provider=TracerProvider(sampler=ALWAYS_OFF)
    )
    claims = SQLAlchemyClaims(engine, users, key=users.c.id, columns={"email": users.c.email})
    return world.authority(sources=[claims], store=None, telemetry=telemetry)


def _tokens(authority: SessionAuthority[Any], count: int) -> list[str]:
    return [old_token(authority, {"userId": str(n), "companyId": "acme"}) for n in range(count)]


def _ours(authority: SessionAuthority[Any]) -> Handle:
    async def handle(token: str) -> None:
        outcome = await authority.authenticate([(b"cookie", f"{world.COOKIE}={token}".encode())])
        if outcome.session is None or outcome.session.email == "Unknown":
            raise SystemExit("the fallback did not answer")

    return handle


def _by_hand(email_of: Callable[[int], Awaitable[str | None]]) -> Handle:
    """PyJWT, a query for each old token, and the same signals."""
    import jwt

    counter = MeterProvider([InMemoryMetricReader()]).get_meter("by hand").create_counter("fallbacks")
    tracer = TracerProvider(sampler=ALWAYS_OFF).get_tracer("by hand")
    log: Any = structlog.get_logger("by hand")

    async def handle(token: str) -> world.Session:
        claims = jwt.decode(token, world.SECRET, algorithms=["HS256"], leeway=world.LEEWAY)
        if "email" not in claims:
            with tracer.start_as_current_span("fallback"):
                claims["email"] = await email_of(int(claims["userId"]))
            counter.add(1, {"claim": "email", "outcome": "resolved"})
            log.info("fallback", claim="email")
        return world.Session(user_id=claims["userId"], company_id=claims["companyId"], email=claims["email"])

    return handle


def _with_sqlalchemy(engine: AsyncEngine) -> Callable[[int], Awaitable[str | None]]:
    async def email_of(user: int) -> str | None:
        async with engine.connect() as connection:
            found: str | None = (await connection.execute(sa.select(users.c.email).where(users.c.id == user))).scalar()
            return found

    return email_of


def _with_asyncpg(pool: Any) -> Callable[[int], Awaitable[str | None]]:
    async def email_of(user: int) -> str | None:
        found: str | None = await pool.fetchval("SELECT email FROM users WHERE id = $1", user)
        return found

    return email_of


async def _flood(engine: AsyncEngine, database: str, handle: Handle, tokens: list[str]) -> dict[str, Any]:
    """All requests, so many at once: rates, waits and what the database had to do."""
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
    cpu, started = _cpu(database), perf_counter()
    await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    seconds = perf_counter() - started
    spent = _cpu(database) - cpu
    sa.event.remove(engine.sync_engine, "before_cursor_execute", count)
    return {
        "requests/s": round(len(tokens) / seconds),
        "queries": queries,
        "p50": round(percentile(took, 0.5), 2),
        "p99": round(percentile(took, 0.99), 2),
        "database CPU": round(spent, 2) if database == "PostgreSQL" else "in the app",
    }


def _cpu(database: str) -> float:
    """Seconds of CPU of every PostgreSQL process there is."""
    total = 0.0
    if database == "PostgreSQL":
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                text = stat.read_text()
            except OSError:
                continue
            if "(postgres)" in text:
                fields = text.rpartition(")")[2].split()
                total += sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    return total


async def _neighbours(engine: AsyncEngine, section: Section) -> None:
    """Today's users, each with a 5 ms query on the same pool: alone, beside our fallback, beside one query each."""
    authority = _authority(engine)
    tokens = _tokens(authority, USERS)
    table = Table(title="Today's users meanwhile", note="ms of a handler with a query of 5 ms on the same pool of 10.")
    rounds: dict[str, list[list[float]]] = {"quiet": [], "beside ours": [], "beside a query each": []}
    most = 0
    for _ in range(7):
        rounds["quiet"].append(await _today(engine))
        async with _old_ones(_ours(_authority(engine)), tokens), _watching(engine) as seen:
            rounds["beside ours"].append(await _today(engine))
        most = max(most, seen["most"])
        async with _old_ones(_by_hand(_with_sqlalchemy(engine)), tokens):
            rounds["beside a query each"].append(await _today(engine))
    p50, p99 = ({name: [percentile(took, at) for took in each] for name, each in rounds.items()} for at in (0.5, 0.99))
    times = {name: statistics.median(map(operator.truediv, p99[name], p99["quiet"])) for name in rounds}
    for name in rounds:
        figures = {"p50": statistics.median(p50[name]), "p99": statistics.median(p99[name]), "p99 × quiet": times[name]}
        table.rows.append({"": name, **{column: round(figure, 2) for column, figure in figures.items()}})
    section.tables.append(table)
    share = times["beside ours"]
    section.lines += [
        Line(
            what="today's tokens during it, same pool, 5 ms queries: p99",
            budget="≤ 1.15 × quiet",
            measured=f"{share:.2f}",
            met=share <= 1.15,
        ),
        Line(what="connections used by lookups", budget="≤ 2", measured=str(most), met=most <= 2),
    ]


async def _today(engine: AsyncEngine) -> list[float]:
    took: list[float] = []

    async def client() -> None:
        for _ in range(60):
            started = perf_counter()
            async with engine.connect() as connection:
                await connection.execute(sa.text("SELECT pg_sleep(0.005)"))
            took.append((perf_counter() - started) * 1e3)
            await asyncio.sleep(0.02)

    await asyncio.gather(*(client() for _ in range(6)))
    return took


@asynccontextmanager
async def _old_ones(handle: Handle, tokens: list[str]) -> AsyncIterator[None]:
    """Old tokens come at a steady rate, 500 a second, each of another user."""

    async def arrive() -> None:
        running: set[asyncio.Task[object]] = set()
        for n, token in enumerate(tokens * 4):
            if n % 5 == 0:
                await asyncio.sleep(0.01)
            task = asyncio.ensure_future(handle(token))
            running.add(task)
            task.add_done_callback(running.discard)

    arriving = asyncio.ensure_future(arrive())
    try:
        yield
    finally:
        arriving.cancel()
        await asyncio.sleep(0.3)


@asynccontextmanager
async def _watching(engine: AsyncEngine) -> AsyncIterator[dict[str, int]]:
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
