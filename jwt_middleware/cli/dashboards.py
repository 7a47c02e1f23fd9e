"""``python -m jwt_middleware dashboards DIR``: copy the packaged dashboards, rules and runbook to a directory."""

from __future__ import annotations

import argparse
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from ..errors import ConfigError
from .arguments import Commands

PLACEHOLDER: Final = "https://runbooks.example.com/jwt_middleware"
"""The address of the runbook in the packaged files."""
_CHECKOUT: Final = Path(__file__).parents[2] / "dashboards"


def add(commands: Commands) -> None:
    """Declare the command and its arguments."""
    parser = commands.add_parser(
        "dashboards",
        help="write Grafana dashboards and Prometheus rules to a directory",
        description="Write Grafana dashboards, Prometheus rules and their runbook to a directory.",
    )
    parser.add_argument("directory", type=Path, metavar="DIR", help="created if it does not exist")
    parser.add_argument("--runbook", default=PLACEHOLDER, metavar="URL", help="where you serve runbook.md")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> str:
    """Write the files, and return one line that lists them.

    Raises:
        ConfigError: The directory cannot be written.
    """
    directory: Path = arguments.directory
    sources = packaged_files(resources.files(__package__.partition(".")[0]) / "dashboards")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for source in sources:
            text = source.read_text(encoding="utf-8").replace(PLACEHOLDER, arguments.runbook.rstrip("/"))
            (directory / source.name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{directory} cannot be written: {error.strerror}") from None
    names = ", ".join(source.name for source in sources)
    hint = "; the links to the runbook are placeholders; use --runbook URL" if arguments.runbook == PLACEHOLDER else ""
    return f"written to {directory}: {names}{hint}"


def packaged_files(directory: Traversable) -> list[Traversable]:
    """The files that the wheel holds in its directory; in a checkout they are beside the package."""
    if directory.is_dir():
        return sorted(directory.iterdir(), key=lambda file: file.name)
    return [*sorted((_CHECKOUT / "generated").iterdir()), _CHECKOUT / "runbook.md"]
