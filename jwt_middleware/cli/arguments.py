"""Reading a command line: whatever is wrong with it is one line, and exit code 2."""

from __future__ import annotations

import argparse
import re
from datetime import timedelta
from typing import Final, NoReturn

_DURATION: Final = re.compile(r"([0-9]{1,9})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Parser(argparse.ArgumentParser):
    """One line instead of the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; --help says more\n")


def duration(text: str) -> timedelta:
    """``45s``, ``3m``, ``1h`` or ``7d``.

    Raises:
        ArgumentTypeError: Anything else.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: write 45s, 3m, 1h or 7d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
