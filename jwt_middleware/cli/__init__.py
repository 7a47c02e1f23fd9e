"""``python -m jwt_middleware``: maintenance commands for cron jobs and deployments."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ..errors import JWTMiddlewareError
from . import dashboards, purge
from .arguments import Parser

COMMANDS = (purge, dashboards)
"""Modules: ``add`` declares the command; ``run`` gets the parsed arguments and returns one line of output."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, 2 after an error, or 130 after an interruption."""
    parser = Parser(prog="jwt_middleware", description="Maintenance commands of jwt_middleware.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    parsed = parser.parse_args(arguments)
    try:
        sys.stdout.write(f"{parsed.run(parsed)}\n")
    except JWTMiddlewareError as error:  # its message is written for people; any other exception is a bug
        parser.exit(2, f"{parser.prog}: {error}\n")
    except KeyboardInterrupt:
        return 130
    return 0
