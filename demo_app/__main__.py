"""``python -m demo_app``: the command."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from .settings import Settings, duration


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, and exit code 2."""
        self.exit(2, f"demo_app: {message}; --help says more\n")


def _duration(text: str) -> int:
    try:
        return duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _parser() -> argparse.ArgumentParser:
    defaults = Settings()
    parser = _Parser(
        prog="demo_app",
        description=(
            "Seven days of a payload migration in a few minutes: a small app, simulated users, a release that adds "
            "the email to the payload, and what the metrics say about it. Ctrl-C ends everything."
        ),
        epilog="`demo_app history --help`: the same as nine days of metrics for a real Prometheus, in seconds.",
    )
    add = parser.add_argument
    add("--window", type=_duration, default="3m", metavar="TIME", help="life of a token: 45s, 3m, 1h, 7d (default 3m)")
    add("--release-after", type=_duration, metavar="TIME", help="when version 2 is released (default window / 6)")
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
    given_arguments = sys.argv[1:] if arguments is None else list(arguments)
    if given_arguments[:1] == ["history"]:
        from .history.command import main as history  # noqa: PLC0415 - the other command needs none of it

        return history(given_arguments[1:])
    parser = _parser()
    given = vars(parser.parse_args(given_arguments))
    without_terminal = given.pop("headless")
    try:
        settings = Settings(**given)
    except ValueError as error:
        parser.error(str(error))
    try:
        return _run(settings, without_terminal=without_terminal)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # nobody reads any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(settings: Settings, *, without_terminal: bool) -> int:
    from .run import run  # noqa: PLC0415 - slow to import: a bad argument is told at once
    from .server import Unusable  # noqa: PLC0415 - as above

    try:
        return asyncio.run(run(settings, without_terminal=without_terminal))
    except Unusable as error:
        print(f"demo_app: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
