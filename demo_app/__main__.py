"""``python -m demo_app``: the command."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from jwt_middleware.cli.arguments import Parser, duration

from .settings import Settings


def _seconds(text: str) -> int:
    return int(duration(text).total_seconds())


def _parser() -> Parser:
    defaults = Settings()
    parser = Parser(
        prog="demo_app",
        description=(
            "Seven days of a payload migration in a few minutes: a small app, simulated users, a release that adds "
            "the email to the payload, and what the metrics show. Ctrl-C ends everything."
        ),
        epilog="`python -m dashboards.simulation --help`: nine days of metrics for a real Prometheus, in seconds.",
    )
    add = parser.add_argument
    add("--window", type=_seconds, default="3m", metavar="TIME", help="life of a token: 45s, 3m, 1h, 7d (default 3m)")
    add("--release-after", type=_seconds, metavar="TIME", help="when version 2 is released (default window / 6)")
    add("--headless", action="store_true", help="check a whole migration and end: lines, then one JSON object; 0 or 1")
    add("--port", type=int, default=defaults.port, help=f"0 takes a free one (default {defaults.port})")
    add(
        "--database",
        metavar="URL",
        help="postgresql+asyncpg://… or the path of a SQLite file (default a temporary one)",
    )
    add("--users", type=int, default=defaults.users, help=f"simulated users (default {defaults.users})")
    add("--rate", type=float, default=defaults.rate, help=f"requests a second of all (default {defaults.rate:.0f})")
    add("--log", type=Path, metavar="FILE", help="append the JSON log to this file (default a temporary one)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    without_terminal = options.pop("headless")
    try:
        settings = Settings(**options)
    except ValueError as error:
        parser.error(str(error))
    try:
        return _run(settings, without_terminal=without_terminal)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of the output has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(settings: Settings, *, without_terminal: bool) -> int:
    from .run import run  # noqa: PLC0415 - slow to import: a bad argument is reported at once
    from .server import Unusable  # noqa: PLC0415 - as above

    try:
        return asyncio.run(run(settings, without_terminal=without_terminal))
    except Unusable as error:
        print(f"demo_app: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
