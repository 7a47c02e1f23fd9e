"""``python -m dashboards.simulation``: write simulated days to a file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from jwt_middleware.cli.arguments import Parser, duration

from .scenarios import SCENARIOS


def _seconds(text: str) -> int:
    return int(duration(text).total_seconds())


def _day(text: str) -> datetime:
    try:
        day = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day; write 2026-11-02") from None
    return day.replace(tzinfo=day.tzinfo or UTC)


def _parser() -> Parser:
    scenarios = "\n".join(f"  {name:17} {scenario.about}" for name, scenario in SCENARIOS.items())
    parser = Parser(
        prog="dashboards.simulation",
        description=(
            "Simulate days of a payload migration in seconds: the real middleware under a simulated clock, written as "
            "OpenMetrics.\nThen load them, with the recorded series: python -m dashboards.loading FILE DIR\n"
            "or without: promtool tsdb create-blocks-from openmetrics --max-block-duration=1000h FILE DIR\n"
            "(without --max-block-duration it takes minutes: promtool reads the file once for each block),\n"
            "and serve them: prometheus --storage.tsdb.path=DIR --storage.tsdb.retention.time=100y …"
        ),
        epilog=f"scenarios:\n{scenarios}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="FILE", help="the file to write; nine days are half a gigabyte")
    add("--days", type=float, help="default: 9, or more if the scenario takes longer")
    add("--scenario", default="happy", metavar="NAME", help="default happy")
    add("--users", type=int, default=2_000, help="default 2000")
    add("--instances", type=int, default=3, help="default 3")
    add("--every", type=_seconds, default="2m", metavar="TIME", help="between two scrapes of an instance (default 2m)")
    add("--start", type=_day, metavar="DAY", default="2026-11-02", help="best a Monday (default 2026-11-02)")
    add("--seed", type=int, default=1, help="of the random numbers (default 1)")
    add("--job", default="demo", help="the label of every series (default demo)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    from .openmetrics import write  # noqa: PLC0415 - slow to import: a bad argument is reported at once
    from .simulator import Plan, simulate  # noqa: PLC0415 - as above

    path: Path = options.pop("out")
    try:
        plan = Plan(**options)
        with path.open("w", encoding="utf-8") as out:
            days = simulate(plan)
            samples = write(out, [days.segments])
    except (ValueError, OSError) as error:
        parser.error(str(error))
    first, last = f"{plan.start:%Y-%m-%d %H:%M}", f"{datetime.fromtimestamp(days.end, UTC):%Y-%m-%d %H:%M}"
    print(f"{path}: {first} to {last} UTC, {days.requests} requests, {samples} samples")
    return 0


if __name__ == "__main__":
    sys.exit(main())
