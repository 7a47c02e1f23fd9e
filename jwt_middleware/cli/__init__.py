"""``python -m jwt_middleware``: the work beside the requests, as commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ..errors import JWTMiddlewareError
from . import dashboards, purge
from .arguments import Parser

COMMANDS = (purge, dashboards)
"""Each adds itself, and says what to run: a function from the parsed arguments to a line of output."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, 2 where it cannot be done as asked, 130 where it was interrupted."""
    parser = Parser(prog="jwt_middleware", description="The work beside the requests.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    given = parser.parse_args(arguments)
    try:
        sys.stdout.write(f"{given.run(given)}\n")
    except JWTMiddlewareError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    except KeyboardInterrupt:
        return 130
    return 0
