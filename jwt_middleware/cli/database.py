"""The store of a database URL, for commands: opened, used once, closed; what is wrong with the URL is said without it.

A URL holds a password, and so may the texts of drivers: only its host and database are ever repeated.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from ..errors import ConfigError, Unavailable
from ..sqlalchemy.sessions import SQLAlchemySessionStore

PATIENCE = 10
"""Seconds to connect, or for SQLite's lock."""
_SPELLING = "write postgresql+asyncpg://user@host/database or sqlite+aiosqlite:///path"


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[SQLAlchemySessionStore]:
    """The store of that URL.

    Raises:
        ConfigError: The URL cannot be used.
        Unavailable: The database does not answer, or has no such tables.
    """
    engine = _engine(url)
    try:
        yield SQLAlchemySessionStore(engine)
    except Unavailable:
        where = f"{engine.url.host or 'the local server'}/{engine.url.database}"
        if engine.dialect.name == "sqlite":
            where = str(engine.url.database)
        raise Unavailable(f"{where} does not answer, or has no table user_sessions") from None
    finally:
        await engine.dispose()


def _engine(url: str) -> AsyncEngine:
    try:
        parsed = sa.make_url(url)
        engine = create_async_engine(parsed, poolclass=NullPool, connect_args={"timeout": PATIENCE})
    except ImportError:
        raise ConfigError("the driver of that database URL is not installed") from None
    except (SQLAlchemyError, ValueError, TypeError):
        raise ConfigError(f"that is no database URL with an async driver: {_SPELLING}") from None
    if engine.dialect.name == "sqlite" and not Path(parsed.database or "").is_file():
        raise ConfigError(f"there is no SQLite file {parsed.database or ''!r}")
    return engine
