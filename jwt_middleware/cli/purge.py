"""``python -m jwt_middleware purge``: delete expired sessions, as a nightly job outside the app's processes."""

from __future__ import annotations

import argparse
import asyncio
from datetime import timedelta

from ..errors import ConfigError
from ..types import Purged, Retention
from .arguments import Commands, duration


def add(commands: Commands) -> None:
    """Declare the command and its arguments."""
    parser = commands.add_parser(
        "purge",
        help="delete sessions that expired long ago",
        description="Delete sessions that expired long ago, in chunks, while the app runs.",
    )
    parser.add_argument(
        "--database",
        required=True,
        metavar="URL",
        help="postgresql+asyncpg://user@host/database (put the password in PGPASSWORD) or sqlite+aiosqlite:///path",
    )
    parser.add_argument(
        "--older-than",
        type=duration,
        default=timedelta(days=30),
        metavar="TIME",
        help="delete sessions that expired longer ago than this: 12h, 30d (default 30d)",
    )
    parser.add_argument(
        "--longest-token",
        type=duration,
        metavar="TIME",
        help="the longest life of your tokens, leeway included: also delete marks ('log out everywhere') older than "
        "this (default: keep all marks)",
    )
    parser.add_argument("--chunk", type=int, default=1_000, metavar="N", help="rows per transaction (default 1000)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> str:
    """Delete, and return one line with the numbers of deleted rows.

    Raises:
        ConfigError: An argument is out of range, the URL is unusable, or SQLAlchemy is not installed.
        Unavailable: The database is down, or has no such tables.
    """
    retention = Retention(expired=arguments.older_than, longest_token=arguments.longest_token, chunk=arguments.chunk)
    deleted = asyncio.run(_purge(arguments.database, retention))
    return f"deleted: sessions {deleted.sessions}, marks {deleted.marks}"


async def _purge(url: str, retention: Retention) -> Purged:
    try:
        from .database import open_store  # noqa: PLC0415 - an extra that may not be installed
    except ImportError:
        raise ConfigError("purge needs SQLAlchemy; run pip install 'asgi-jwt-middleware[sqlalchemy]'") from None
    async with open_store(url) as store:
        return await store.purge(retention)
