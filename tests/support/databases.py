"""Real databases for tests: users to look up, engines, and deployments whose users and sessions are in one database."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from jwt_middleware.protocols import SystemClock
from jwt_middleware.sqlalchemy import SQLAlchemyClaims, SQLAlchemySessionStore
from jwt_middleware.testing import old_token
from tests.support.asgi import scope_of
from tests.support.world import Session, World, bearer

LIMIT = 120
"""Seconds after which a test fails because something hangs; no result depends on it."""
users = sa.Table("users", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("email", sa.Text))


def emails(engine: AsyncEngine, **settings: Any) -> SQLAlchemyClaims:
    """The claim ``email`` of :data:`users`."""
    return SQLAlchemyClaims(engine, users, key=users.c.id, columns={"email": users.c.email}, **settings)


async def until(condition: Callable[[], Any]) -> None:
    """Wait until the condition, which may be a coroutine function, is true."""
    async with asyncio.timeout(LIMIT):
        while not (await met if inspect.isawaitable(met := condition()) else met):
            await asyncio.sleep(0.01)


@asynccontextmanager
async def engine_on(url: str, **settings: Any) -> AsyncIterator[AsyncEngine]:
    """An engine; every connection is back in its pool at the end."""
    engine = create_async_engine(url, **settings)
    if engine.dialect.name == "sqlite":  # the file of a test need not survive a power cut
        sa.event.listen(engine.sync_engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous=OFF"))
    try:
        yield engine
        assert checked_out(engine) == 0
    finally:
        await engine.dispose()


@asynccontextmanager
async def database(
    url: str, rows: Mapping[int, str | None] = {1: "ada@example.com"}, **engine: Any
) -> AsyncIterator[AsyncEngine]:
    """An engine on a database with those users."""
    async with engine_on(url, **engine) as made:
        async with made.begin() as connection:
            await connection.run_sync(users.metadata.create_all)
            if rows:
                await connection.execute(sa.insert(users), [{"id": key, "email": email} for key, email in rows.items()])
        yield made


@asynccontextmanager
async def locked(url: str, *tables: str) -> AsyncIterator[None]:
    """Another client holds a lock: no query of these tables, of SQLite no transaction at all, ends meanwhile."""
    lock = f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE"
    async with engine_on(url) as engine, engine.connect() as connection:
        await connection.execute(sa.text("BEGIN EXCLUSIVE" if engine.dialect.name == "sqlite" else lock))
        yield


async def backends(engine: AsyncEngine, pool: int) -> set[int]:
    """Fill the pool; the server's processes behind all its connections."""
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(engine.connect()) for _ in range(pool)]
        pid = sa.text("SELECT pg_backend_pid()")
        return {(await connection.execute(pid)).scalar_one() for connection in connections}


def checked_out(engine: Any) -> int:
    """Connections that are not back in the pool; before SQLAlchemy 2.1 SQLite's had none."""
    return int(getattr(engine.pool, "checkedout", lambda: 0)())


def on_statement(engine: AsyncEngine, note: Callable[[str], Any]) -> None:
    """Call ``note`` with each statement that the engine sends from now on, on one line."""
    sa.event.listen(engine.sync_engine, "before_cursor_execute", lambda *args: note(args[2].replace("\n", " ")))


def statements_of(engine: AsyncEngine, verb: str = "") -> list[str]:
    """The statements with that verb that the engine sends from now on."""
    sent: list[str] = []
    on_statement(engine, lambda statement: sent.extend([statement] * (verb in statement)))
    return sent


def queries_of(engine: AsyncEngine) -> Counter[str]:
    """Counts the queries of an engine from now on, under the table each reads."""
    counted: Counter[str] = Counter()
    tables = ("users", "companies", "user_sessions", "session_marks")
    on_statement(engine, lambda sent: counted.update(table for table in tables if f"FROM {table} " in f"{sent} "))
    return counted


class Deployed(World):
    """A world on the machine's clock, with its users and sessions in the database of an engine."""

    def __init__(self, engine: AsyncEngine, cls: type[Any] = Session, **settings: Any) -> None:
        # no event for each fallback and each refusal of many
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
        defaults = {"clock": SystemClock(), "store": SQLAlchemySessionStore(engine), "sources": [emails(engine)]}
        super().__init__(cls, **{**defaults, **settings})
        self.engine = engine

    async def old(self, claims: Mapping[str, Any] | None = None, *, version: int | None = 1, **envelope: Any) -> str:
        """A token of version 1, whose session has its row if there is a store."""
        payload = {"userId": "1", **(claims or {})}
        if self.store is not None and "sid" not in envelope:
            _, envelope["sid"] = await self.log_in(payload["userId"], email="x")
        return old_token(self.authority, payload, version=version, **envelope)

    async def status(self, token: str | bytes) -> int:
        """The status of one request."""
        return int((await self.send(scope_of(headers=bearer(token))))[0]["status"])

    async def email(self, token: str) -> str:
        """The email of the session that the token shows, or the reason of its refusal."""
        outcome = await self.authority.authenticate(bearer(token))
        return str(outcome.session.email) if outcome.session else str(outcome.reason.value)


@asynccontextmanager
async def deployed(
    url: str, rows: Mapping[int, str | None] = {}, *, engine: Mapping[str, Any] = {}, **settings: Any
) -> AsyncIterator[Deployed]:
    """A deployment on a database with those users; closed at the end, when every connection is back in its pool."""
    async with asyncio.timeout(LIMIT), database(url, rows, **engine) as made:
        await SQLAlchemySessionStore(made).create_all()
        world = Deployed(made, **settings)
        yield world
        await world.authority.aclose()
