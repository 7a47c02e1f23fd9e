"""``python -m jwt_middleware dashboards DIR``: write out the dashboards, rules and runbook that the package brings."""

from __future__ import annotations

import argparse
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..errors import ConfigError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from .arguments import Parser


PLACEHOLDER: Final = "https://runbooks.example.com/jwt_middleware"
"""Stands in the files for the address of the runbook."""
_CHECKOUT: Final = Path(__file__).parents[2] / "dashboards"


def add(commands: _SubParsersAction[Parser]) -> None:
    """Put the command on the parser."""
    parser = commands.add_parser(
        "dashboards",
        help="write Grafana dashboards and Prometheus rules to a directory",
        description="Write Grafana dashboards, Prometheus rules and their runbook to a directory.",
    )
    parser.add_argument("directory", type=Path, metavar="DIR", help="made where it does not exist")
    parser.add_argument("--runbook", default=PLACEHOLDER, metavar="URL", help="where you serve runbook.md")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> str:
    """Write; how many files, in one line.

    Raises:
        ConfigError: A directory that cannot be written.
    """
    directory: Path = arguments.directory
    sources = shipped(resources.files(__package__.partition(".")[0]) / "dashboards")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for source in sources:
            text = source.read_text(encoding="utf-8").replace(PLACEHOLDER, arguments.runbook.rstrip("/"))
            (directory / source.name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{directory} cannot be written: {error.strerror}") from None
    missing = "; its links to the runbook lead nowhere: give --runbook URL" if arguments.runbook == PLACEHOLDER else ""
    return f"written to {directory}: {', '.join(source.name for source in sources)}{missing}"


def shipped(packaged: Traversable) -> list[Traversable]:
    """What the wheel brought; in a checkout it lies beside the package."""
    if packaged.is_dir():
        return sorted(packaged.iterdir(), key=lambda each: each.name)
    return [*sorted((_CHECKOUT / "generated").iterdir()), _CHECKOUT / "runbook.md"]
