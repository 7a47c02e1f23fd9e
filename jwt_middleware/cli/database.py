"""The session store behind a database URL, for commands.

A URL holds a password, and a driver's error may quote it: messages repeat only the host and the database.
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
from ..sqlalchemy import SQLAlchemySessionStore

TIMEOUT = 10
"""Seconds to connect, or to wait for SQLite's lock."""
_EXAMPLES = "use postgresql+asyncpg://user@host/database or sqlite+aiosqlite:///path"


@asynccontextmanager
async def open_store(url: str) -> AsyncIterator[SQLAlchemySessionStore]:
    """Open the store of a URL, and close its connections afterwards.

    Raises:
        ConfigError: The URL cannot be used.
        Unavailable: The database is down, or has no such tables.
    """
    engine = _create_engine(url)
    try:
        yield SQLAlchemySessionStore(engine)
    except Unavailable:
        name = str(engine.url.database)
        if engine.dialect.name != "sqlite":
            name = f"{engine.url.host or 'the local server'}/{name}"
        # "from None": the driver's error may quote the URL.
        raise Unavailable(f"{name} is not reachable or has no table user_sessions") from None
    finally:
        await engine.dispose()


def _create_engine(url: str) -> AsyncEngine:
    try:
        parsed = sa.make_url(url)
        engine = create_async_engine(parsed, poolclass=NullPool, connect_args={"timeout": TIMEOUT})
    except ImportError:
        raise ConfigError("the driver of the database URL is not installed") from None
    except (SQLAlchemyError, ValueError, TypeError):
        raise ConfigError(f"--database must be a database URL with an async driver; {_EXAMPLES}") from None
    # Connecting would create the file, and an empty database has nothing to purge.
    if engine.dialect.name == "sqlite" and not Path(parsed.database or "").is_file():
        raise ConfigError(f"there is no SQLite file {parsed.database or ''!r}")
    return engine
