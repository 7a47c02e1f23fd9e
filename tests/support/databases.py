"""Users in a real database, for tests of claims that are looked up there."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from jwt_middleware import SQLAlchemyClaims

users = sa.Table("users", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("email", sa.Text))


def emails(engine: AsyncEngine, **settings: Any) -> SQLAlchemyClaims:
    """The claim ``email`` of :data:`users`."""
    return SQLAlchemyClaims(engine, users, key=users.c.id, columns={"email": users.c.email}, **settings)


@asynccontextmanager
async def database(
    url: str, rows: Mapping[int, str | None] = {1: "ada@example.com"}, **engine: Any
) -> AsyncIterator[AsyncEngine]:
    """An engine on a database with those users; every connection is back in its pool at the end."""
    made = create_async_engine(url, **engine)
    try:
        async with made.begin() as connection:
            await connection.run_sync(users.metadata.create_all)
            if rows:
                await connection.execute(sa.insert(users), [{"id": key, "email": email} for key, email in rows.items()])
        yield made
        assert checked_out(made) == 0
    finally:
        await made.dispose()


def checked_out(engine: Any) -> int:
    """Connections that are not back in the pool; before SQLAlchemy 2.1 SQLite's had none."""
    return int(getattr(engine.pool, "checkedout", lambda: 0)())


def queries_of(engine: AsyncEngine) -> Counter[str]:
    """Counts the queries of an engine from now on, under the table each reads."""
    found: Counter[str] = Counter()

    def note(*args: Any) -> None:
        statement = args[2].replace("\n", " ")
        for table in ("users", "companies", "user_sessions", "session_marks"):
            found[table] += f"FROM {table} " in f"{statement} "

    sa.event.listen(engine.sync_engine, "before_cursor_execute", note)
    return found
