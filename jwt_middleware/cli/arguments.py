"""Command-line arguments: any error in them is one line on stderr, and exit code 2."""

from __future__ import annotations

import argparse
import re
from datetime import timedelta
from typing import Final, NoReturn, TypeAlias

_DURATION: Final = re.compile(r"([0-9]{1,9})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` whose errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see --help\n")


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001 - add_subparsers() returns no public type


def duration(text: str) -> timedelta:
    """Parse ``45s``, ``3m``, ``1h`` or ``7d``.

    Raises:
        ArgumentTypeError: The text is anything else.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration; use a number with a unit: 45s, 3m, 1h or 7d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
