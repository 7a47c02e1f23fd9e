"""The dashboards' panels over a whole migration: their queries, titles and colours, evaluated by a real Prometheus."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dashboards.loading import record
from dashboards.prometheus import Server, prometheus
from dashboards.queries import dashboards, panels, substituted
from dashboards.simulation.simulator import Plan, simulate_into

Values = NDArray[np.float64]

SMOOTHED: Final = "6h"
"""A point of a curve is the average of the time before it: ten days have only a few hundred pixels."""
STEP: Final = 1_800
"""Seconds between two points."""
_MOST_CURVES: Final = 5
"""Curves of one panel; all others are drawn as one."""
MIGRATION: Final = "Payload migration"
PLAN: Final = Plan(days=10, users=10_000)
"""A day more than the scenario takes, to show what follows the sunset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One series, a value for each moment; NaN where there is no data."""

    name: str
    color: str = ""
    """One of Grafana's colour names; empty if Grafana chooses."""
    values: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel of a dashboard with the data that it would draw."""

    title: str
    unit: str
    stacked: bool = False
    words: Mapping[int, tuple[str, str]]
    """The word and the colour of each value."""
    curves: tuple[Curve, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A named moment, in seconds since the epoch."""

    name: str
    color: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Panels:
    """The data of the whole picture."""

    times: Values
    verdict: Panel
    sunset: Panel
    rate: Panel
    payloads: Panel
    refusals: Panel
    cost: Panel
    marks: tuple[Mark, ...]


def query_panels(server: Server, *, start: float, end: float, smoothed: str = SMOOTHED) -> Panels:
    """Query the panels over a time range, in seconds since the epoch."""
    querying = _Querying(server, start, end, smoothed)
    return Panels(
        times=querying.times,
        verdict=querying.panel(MIGRATION, "Verdict"),
        sunset=querying.panel(MIGRATION, "Sunset"),
        rate=querying.panel(MIGRATION, "Fallback rate"),
        payloads=querying.panel(MIGRATION, "Requests by payload"),
        refusals=_largest(querying.panel("Authentication", "Refusals by reason, and last week", queries=1)),
        cost=_costs(
            querying.panel("Fallback cost", "Queries"), querying.panel(MIGRATION, "Fallbacks by payload version")
        ),
        marks=tuple(querying.mark(name) for name in ("Change", "Planned sunset")),
    )


class _Querying:
    def __init__(self, server: Server, start: float, end: float, smoothed: str) -> None:
        self._server: Final = server
        self._smoothed: Final = smoothed
        self._boards: Final = {board["title"]: board for board in dashboards()}
        self.times: Final[Values] = np.arange(start, end, STEP, dtype=np.float64)

    def panel(self, board: str, title: str, *, queries: int | None = None) -> Panel:
        """The panel with this title; ``queries`` limits it to its first queries."""
        [panel] = [panel for panel in panels(self._boards[board]) if panel["title"] == title]
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
                for name, values in self._series(target)
            ),
        )

    def mark(self, name: str) -> Mark:
        """The moment of an annotation: its value, in milliseconds."""
        annotations = self._boards[MIGRATION]["annotations"]["list"]
        [annotation] = [annotation for annotation in annotations if annotation["name"] == name]
        [(_, values)] = self._series({**annotation, "instant": True})
        return Mark(name=name, color=annotation["iconColor"], at=float(np.nanmax(values)) / 1000)

    def _series(self, target: Mapping[str, Any]) -> Sequence[tuple[str, Values]]:
        """Name and values of each series that the query returns, smoothed if the panel draws a curve."""
        expr = substituted(target["expr"], "10m")
        if not target.get("instant"):
            expr = f"avg_over_time(({expr})[{self._smoothed}:5m])"
        start, end = float(self.times[0]), float(self.times[-1])
        series = self._server.range(expr, start=start, end=end, step=STEP)
        return [(_legend(target, each["metric"]), self._aligned(each["values"])) for each in series]

    def _aligned(self, samples: Sequence[tuple[float, str]]) -> Values:
        values = np.full(len(self.times), np.nan)
        for at, value in samples:
            values[round((float(at) - self.times[0]) / STEP)] = float(value)
        return values


def _legend(target: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda name: labels.get(name[1], ""), target.get("legendFormat", ""))


def _largest(panel: Panel) -> Panel:
    """The largest curves, and one for all others."""
    by_size = sorted(panel.curves, key=lambda curve: -float(np.nansum(curve.values)))
    rest = Curve(name="all other reasons", color="gray", values=_sum(by_size[_MOST_CURVES:]))
    return Panel(title=panel.title, unit=panel.unit, words={}, curves=(*by_size[:_MOST_CURVES], rest))


def _costs(queries: Panel, fallbacks: Panel) -> Panel:
    """The queries that were sent, beside one query a request: what it would cost without batching and a cache."""
    needed = Curve(name="requests that need the fallback", color="blue", values=_sum(fallbacks.curves))
    named = [Curve(name=f"queries: {each.name}", color="", values=each.values) for each in queries.curves]
    return Panel(title=queries.title, unit=queries.unit, words={}, curves=(needed, *named))


def _sum(curves: Sequence[Curve]) -> Values:
    """The sum; NaN where all are NaN."""
    values = np.array([curve.values for curve in curves])
    total: Values = np.where(np.isnan(values).all(axis=0), np.nan, np.nansum(values, axis=0))
    return total


def simulated(plan: Plan = PLAN) -> Panels:
    """The panels over the days of a simulation."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        database = directory / "tsdb"
        simulation = simulate_into(plan, database)
        record(database, start=simulation.start, end=simulation.end)
        with prometheus(directory, data=database) as server:
            return query_panels(server, start=simulation.start, end=simulation.end)
