"""``python -m demo_app history``: write a history into a file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from ..settings import duration
from .scenarios import SCENARIOS


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, and exit code 2."""
        self.exit(2, f"demo_app: {message}; history --help says more\n")


def _every(text: str) -> int:
    try:
        return duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _start(text: str) -> datetime:
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day: write 2026-11-02") from None
    return given.replace(tzinfo=given.tzinfo or UTC)


def _parser() -> argparse.ArgumentParser:
    scenarios = "\n".join(f"  {name:17} {scenario.about}" for name, scenario in SCENARIOS.items())
    parser = _Parser(
        prog="demo_app history",
        description=(
            "Days of a payload migration in seconds: the real middleware under a simulated clock, written as "
            "OpenMetrics.\nThen: promtool tsdb create-blocks-from openmetrics --max-block-duration=1000h FILE DIR\n"
            "and:  prometheus --storage.tsdb.path=DIR --storage.tsdb.retention.time=100y …\n"
            "Without --max-block-duration it takes minutes: promtool reads the file once for each block.\n"
            "Or, with the recorded series that the dashboards ask for: python -m dashboards.loading FILE DIR"
        ),
        epilog=f"scenarios:\n{scenarios}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="FILE", help="what to write; nine days are half a gigabyte")
    add("--days", type=float, help="default: 9, and more where a scenario needs them to end")
    add("--scenario", default="happy", metavar="NAME", help="default happy")
    add("--users", type=int, default=2_000, help="default 2000")
    add("--instances", type=int, default=3, help="default 3")
    add("--every", type=_every, default="2m", metavar="TIME", help="between two scrapes of an instance (default 2m)")
    add("--start", type=_start, metavar="DAY", default="2026-11-02", help="a Monday makes sense (default 2026-11-02)")
    add("--seed", type=int, default=1, help="another one makes other days (default 1)")
    add("--job", default="demo", help="the label of every series (default demo)")
    return parser


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    parser = _parser()
    given = vars(parser.parse_args(arguments))
    from .openmetrics import write  # noqa: PLC0415 - slow to import: a bad argument is told at once
    from .simulation import Plan, simulate  # noqa: PLC0415 - as above

    path: Path = given.pop("out")
    try:
        plan = Plan(**given)
        with path.open("w", encoding="utf-8") as out:
            history = simulate(plan)
            samples = write(out, [history.segments])
    except (ValueError, OSError) as error:
        parser.error(str(error))
    first, last = f"{plan.start:%Y-%m-%d %H:%M}", f"{datetime.fromtimestamp(history.end, UTC):%Y-%m-%d %H:%M}"
    print(f"{path}: {first} to {last} UTC, {history.requests} requests, {samples} samples")
    return 0
