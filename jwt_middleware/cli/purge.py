"""``python -m jwt_middleware purge``: for a nightly job where no process of the app does it."""

from __future__ import annotations

import argparse
import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..types import Purged, Retention
from .arguments import duration

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from .arguments import Parser


def add(commands: _SubParsersAction[Parser]) -> None:
    """Put the command on the parser."""
    parser = commands.add_parser(
        "purge",
        help="delete sessions that expired long ago",
        description="Delete sessions that expired long ago, in chunks, beside the running app.",
    )
    parser.add_argument(
        "--database",
        required=True,
        metavar="URL",
        help="postgresql+asyncpg://user@host/database (the password better in PGPASSWORD) or sqlite+aiosqlite:///path",
    )
    parser.add_argument(
        "--older-than",
        type=duration,
        default=timedelta(days=30),
        metavar="TIME",
        help="how long ago they expired at least: 12h, 30d (default 30d)",
    )
    parser.add_argument(
        "--longest-token",
        type=duration,
        metavar="TIME",
        help="how long your tokens live at most, with every leeway: then marks ('log out everywhere') that are older "
        "are deleted too (default: marks stay)",
    )
    parser.add_argument("--chunk", type=int, default=1_000, metavar="N", help="rows of a transaction (default 1000)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> str:
    """Delete; what was deleted, in one line.

    Raises:
        ConfigError: What was asked for cannot be done.
        Unavailable: The database does not answer.
    """
    retention = Retention(expired=arguments.older_than, longest_token=arguments.longest_token, chunk=arguments.chunk)
    deleted = asyncio.run(_purge(arguments.database, retention))
    return f"deleted: sessions {deleted.sessions}, marks {deleted.marks}"


async def _purge(url: str, retention: Retention) -> Purged:
    try:
        from .database import opened  # noqa: PLC0415 - an extra that may not be installed
    except ImportError:
        raise ConfigError("install SQLAlchemy for it: pip install 'asgi-jwt-middleware[sqlalchemy]'") from None
    async with opened(url) as store:
        return await store.purge(retention)
