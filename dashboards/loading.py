"""``python -m dashboards.loading FILE DIRECTORY``: a history in the database of a Prometheus, recording rules and all.

OpenMetrics becomes a block; then a Prometheus that runs for that long answers what the rules would have recorded.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from .prometheus import RULES, program, prometheus

RECORDED_EVERY: Final = 300
"""Seconds; as long as Prometheus looks back for a sample."""


def rules(kind: str) -> list[dict[str, Any]]:
    """``alert`` or ``record``."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def load(text: Path, database: Path) -> None:
    """Make one block of an OpenMetrics file: for each block promtool would read all of it again.

    Raises:
        RuntimeError: promtool's own words.
    """
    finished = subprocess.run(  # noqa: S603 - our own files
        [
            program("promtool"),
            *("tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=1000h", "--quiet"),
            *(str(text), str(database)),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if finished.returncode != 0:
        raise RuntimeError(finished.stdout + finished.stderr)


def record(database: Path, *, start: float, end: float, without: Iterable[str] = ()) -> None:
    """Add to the database what the recording rules make of it, the rules that read no other rule first."""
    wanted = [rule for rule in rules("record") if rule["record"] not in without]
    recorded = [rule["record"] for rule in rules("record")]
    later = [rule for rule in wanted if any(name in rule["expr"] for name in recorded)]
    for some in ([rule for rule in wanted if rule not in later], later):
        with tempfile.TemporaryDirectory() as away:
            text = Path(away) / "recorded.openmetrics"
            with prometheus(Path(away), data=database) as server, text.open("w") as out:
                for rule in some:
                    out.write(f"# TYPE {rule['record']} gauge\n")
                    for series in server.range(rule["expr"], start=start, end=end, step=RECORDED_EVERY):
                        labels = ",".join(f'{key}="{value}"' for key, value in series["metric"].items())
                        head = f"{rule['record']}{{{labels}}}"
                        out.writelines(f"{head} {value} {at}\n" for at, value in series["values"])
                out.write("# EOF\n")
            load(text, database)


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    if len(arguments) != 2:
        print("usage: python -m dashboards.loading FILE DIRECTORY", file=sys.stderr)  # noqa: T201 - it is a command
        return 2
    text, database = map(Path, arguments)
    load(text, database)
    blocks = [json.loads(path.read_text()) for path in database.glob("*/meta.json")]
    start, end = min(block["minTime"] for block in blocks), max(block["maxTime"] for block in blocks)
    record(database.absolute(), start=start / 1000, end=end / 1000)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
