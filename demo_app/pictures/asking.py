"""What the picture of the panels shows: their own queries, titles, colours and words, put to a Prometheus."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dashboards.asking import dashboards, filled_in, panels
from dashboards.prometheus import Server

Values = NDArray[np.float64]

SMOOTHED: Final = "6h"
"""A point of a curve is the average of that time before it: nine days on a few hundred pixels."""
STEP: Final = 1_800
"""Seconds between two points."""
_MOST: Final = 5
"""Curves of one panel; what is more is drawn as one, called other."""
MIGRATION: Final = "Payload migration"


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One series; NaN where there is no data."""

    name: str
    color: str = ""
    """A name of Grafana's; empty where it has the choice."""
    values: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel of a dashboard, and what it would draw."""

    title: str
    unit: str
    stacked: bool = False
    words: Mapping[int, tuple[str, str]]
    """Word and colour of a value."""
    curves: tuple[Curve, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A moment with a name."""

    name: str
    color: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Everything that is drawn."""

    times: Values
    verdict: Panel
    sunset: Panel
    rate: Panel
    payloads: Panel
    refusals: Panel
    cost: Panel
    marks: tuple[Mark, ...]


def ask(server: Server, *, start: float, end: float, smoothed: str = SMOOTHED) -> Shown:
    """Look at those days."""
    asking = _Asking(server, start, end, smoothed)
    return Shown(
        times=asking.times,
        verdict=asking.panel(MIGRATION, "Verdict"),
        sunset=asking.panel(MIGRATION, "Sunset"),
        rate=asking.panel(MIGRATION, "Fallback rate"),
        payloads=asking.panel(MIGRATION, "Requests by payload"),
        refusals=_few(asking.panel("Authentication", "Refusals by reason, and last week", queries=1)),
        cost=_beside(asking.panel("Fallback cost", "Queries"), asking.panel(MIGRATION, "Fallbacks by payload version")),
        marks=tuple(asking.mark(name) for name in ("Change", "Planned sunset")),
    )


class _Asking:
    def __init__(self, server: Server, start: float, end: float, smoothed: str) -> None:
        self._server: Final = server
        self._smoothed: Final = smoothed
        self._boards: Final = {board["title"]: board for board in dashboards()}
        self.times: Final[Values] = np.arange(start, end, STEP, dtype=np.float64)

    def panel(self, board: str, title: str, *, queries: int | None = None) -> Panel:
        """One by its title; only the first of its queries where a number is given."""
        [panel] = [each for each in panels(self._boards[board]) if each["title"] == title]
        defaults = panel["fieldConfig"]["defaults"]
        colors = {
            override["matcher"]["options"]: change["value"]["fixedColor"]
            for override in panel["fieldConfig"]["overrides"]
            for change in override["properties"]
            if change["id"] == "color"
        }
        words = {
            int(value): (result["text"], result["color"])
            for mapping in defaults.get("mappings", [])
            for value, result in mapping["options"].items()
        }
        return Panel(
            title=title,
            unit=defaults["unit"],
            stacked=defaults.get("custom", {}).get("stacking", {}).get("mode") == "normal",
            words=words,
            curves=tuple(
                Curve(name=name, color=colors.get(name, ""), values=values)
                for target in panel["targets"][:queries]
                for name, values in self._answers(target)
            ),
        )

    def mark(self, name: str) -> Mark:
        """Of an annotation, whose value is the moment itself, in milliseconds."""
        [annotation] = [each for each in self._boards[MIGRATION]["annotations"]["list"] if each["name"] == name]
        [(_, values)] = self._answers({**annotation, "instant": True})
        return Mark(name=name, color=annotation["iconColor"], at=float(np.nanmax(values)) / 1000)

    def _answers(self, target: Mapping[str, Any]) -> Sequence[tuple[str, Values]]:
        """The series of one query at every moment, smoothed where the panel draws a curve."""
        expr = filled_in(target["expr"], "10m")
        if not target.get("instant"):
            expr = f"avg_over_time(({expr})[{self._smoothed}:5m])"
        start, end = float(self.times[0]), float(self.times[-1])
        found = self._server.range(expr, start=start, end=end, step=STEP)
        return [(_called(target, series["metric"]), self._at_every_moment(series["values"])) for series in found]

    def _at_every_moment(self, samples: Sequence[tuple[float, str]]) -> Values:
        values = np.full(len(self.times), np.nan)
        for at, value in samples:
            values[round((float(at) - self.times[0]) / STEP)] = float(value)
        return values


def _called(target: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), target.get("legendFormat", ""))


def _few(panel: Panel) -> Panel:
    """The largest, and all others in one."""
    by_size = sorted(panel.curves, key=lambda curve: -float(np.nansum(curve.values)))
    rest = Curve(name="all other reasons", color="gray", values=_sum(by_size[_MOST:]))
    return Panel(title=panel.title, unit=panel.unit, words={}, curves=(*by_size[:_MOST], rest))


def _beside(queries: Panel, fallbacks: Panel) -> Panel:
    """What would be asked without batching and a cache, one query a request, and what is asked."""
    needed = Curve(name="requests that need the fallback", color="blue", values=_sum(fallbacks.curves))
    named = [Curve(name=f"queries: {each.name}", color="", values=each.values) for each in queries.curves]
    return Panel(title=queries.title, unit=queries.unit, words={}, curves=(needed, *named))


def _sum(curves: Sequence[Curve]) -> Values:
    """NaN where all are."""
    values = np.array([curve.values for curve in curves])
    total: Values = np.where(np.isnan(values).all(axis=0), np.nan, np.nansum(values, axis=0))
    return total
