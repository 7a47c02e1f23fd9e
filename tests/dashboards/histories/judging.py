"""The shipped rules over a history: when an alert would have fired."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dashboards.loading import rules
from dashboards.prometheus import Server

JUDGED_EVERY: Final = 150


@dataclass(frozen=True, kw_only=True)
class Firing:
    """One alert, from its first moment to its last."""

    alert: str
    job: str
    since: float
    until: float


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
