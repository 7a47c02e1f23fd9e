"""The shipped rules over a history: what they would have recorded, and when an alert would have fired."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.dashboards.histories.telling import load
from tests.dashboards.prometheus import Server, prometheus
from tests.dashboards.promtool import RULES

RECORDED_EVERY: Final = 300
"""Seconds; as long as Prometheus looks back for a sample."""
JUDGED_EVERY: Final = 150


@dataclass(frozen=True, kw_only=True)
class Firing:
    """One alert, from its first moment to its last."""

    alert: str
    job: str
    since: float
    until: float


def rules(kind: str) -> list[dict[str, Any]]:
    """``alert`` or ``record``."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def record(database: Path, *, start: float, end: float, without: Iterable[str] = ()) -> None:
    """Add to the database what the recording rules make of it, the rules that read no other rule first."""
    wanted = [rule for rule in rules("record") if rule["record"] not in without]
    recorded = [rule["record"] for rule in rules("record")]
    later = [rule for rule in wanted if any(name in rule["expr"] for name in recorded)]
    for some in ([rule for rule in wanted if rule not in later], later):
        text = database.with_name("recorded.openmetrics")
        directory = database.with_name("recording")
        directory.mkdir(exist_ok=True)
        with prometheus(directory, data=database) as server, text.open("w") as out:
            for rule in some:
                out.write(f"# TYPE {rule['record']} gauge\n")
                for series in server.range(rule["expr"], start=start, end=end, step=RECORDED_EVERY):
                    labels = ",".join(f'{key}="{value}"' for key, value in series["metric"].items())
                    head = f"{rule['record']}{{{labels}}}"
                    out.writelines(f"{head} {value} {at}\n" for at, value in series["values"])
            out.write("# EOF\n")
        load(text, database)


def firing(server: Server, *, start: float, end: float) -> list[Firing]:
    """Of every job; a condition must hold at each step for as long as its rule says."""
    found: list[Firing] = []
    for rule in rules("alert"):
        hold = float(rule["for"].removesuffix("m")) * 60
        for series in server.range(rule["expr"], start=start, end=end, step=JUDGED_EVERY):
            moments = [float(at) for at, _ in series["values"]]
            found += [
                Firing(alert=rule["alert"], job=series["metric"].get("job", ""), since=first + hold, until=last)
                for first, last in _stretches(moments)
                if last - first >= hold
            ]
    return found


def _stretches(moments: list[float]) -> list[tuple[float, float]]:
    """First and last of each run without a step left out."""
    stretches: list[tuple[float, float]] = []
    for at in moments:
        if stretches and at - stretches[-1][1] <= JUDGED_EVERY:
            stretches[-1] = stretches[-1][0], at
        else:
            stretches.append((at, at))
    return stretches
