"""``python -m dashboards.loading FILE DIRECTORY``: load simulated days into the database of a Prometheus.

OpenMetrics becomes a block. Then a Prometheus that serves this block evaluates the recording rules over the whole time,
and the results become blocks too: Prometheus itself records only from now on.
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
"""Seconds between recorded samples; Prometheus looks back as long for a sample."""


def rules(kind: str) -> list[dict[str, Any]]:
    """The rules of one kind, ``alert`` or ``record``."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def load(text: Path, database: Path) -> None:
    """Load an OpenMetrics file as one block. With many blocks promtool would read the whole file for each.

    Raises:
        RuntimeError: promtool fails; with its output.
    """
    command = [
        program("promtool"),
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        "--max-block-duration=1000h",
        "--quiet",
    ]
    finished = subprocess.run(  # noqa: S603 - our own files
        [*command, str(text), str(database)], capture_output=True, text=True, timeout=600, check=False
    )
    if finished.returncode != 0:
        raise RuntimeError(finished.stdout + finished.stderr)


def record(database: Path, *, start: float, end: float, without: Iterable[str] = ()) -> None:
    """Evaluate the recording rules over the database and add their results.

    Rules that read no recorded series come first: the others need their results.
    """
    recorded = [rule["record"] for rule in rules("record")]
    wanted = [rule for rule in rules("record") if rule["record"] not in without]
    dependent = [rule for rule in wanted if any(name in rule["expr"] for name in recorded)]
    for stage in ([rule for rule in wanted if rule not in dependent], dependent):
        with tempfile.TemporaryDirectory() as directory:
            text = Path(directory) / "recorded.openmetrics"
            with prometheus(Path(directory), data=database) as server, text.open("w") as out:
                for rule in stage:
                    out.write(f"# TYPE {rule['record']} gauge\n")
                    for series in server.range(rule["expr"], start=start, end=end, step=RECORDED_EVERY):
                        labels = ",".join(f'{key}="{value}"' for key, value in series["metric"].items())
                        head = f"{rule['record']}{{{labels}}}"
                        out.writelines(f"{head} {value} {at}\n" for at, value in series["values"])
                out.write("# EOF\n")
            load(text, database)


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit code."""
    if len(arguments) != 2:
        print("usage: python -m dashboards.loading FILE DIRECTORY", file=sys.stderr)
        return 2
    text, database = map(Path, arguments)
    load(text, database)
    blocks = [json.loads(path.read_text()) for path in database.glob("*/meta.json")]
    start, end = min(block["minTime"] for block in blocks), max(block["maxTime"] for block in blocks)
    record(database.absolute(), start=start / 1000, end=end / 1000)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
