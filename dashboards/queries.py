"""Every query of the generated dashboards, as Grafana would send it, evaluated by a Prometheus."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import GENERATED
from .prometheus import Server


@dataclass(frozen=True, kw_only=True)
class PanelQuery:
    """One query of a panel or an annotation."""

    dashboard: str
    panel: str
    number: int
    """Its place among the panel's queries, from 0."""
    expr: str
    instant: bool


@dataclass(frozen=True, kw_only=True)
class Range:
    """A dashboard's time range, in seconds since the epoch."""

    start: float
    end: float
    step: float
    rate_interval: str


def dashboards() -> list[dict[str, Any]]:
    """The generated dashboards, as Grafana's JSON."""
    return [json.loads(path.read_text()) for path in sorted(GENERATED.glob("*.json"))]


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """The panels of a dashboard, without its rows."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def panel_queries(boards: list[dict[str, Any]]) -> Iterator[PanelQuery]:
    """Every Prometheus query of these dashboards."""
    for board in boards:
        title = board["title"]
        for panel in panels(board):
            for number, target in enumerate(panel["targets"]):
                if target["datasource"]["type"] == "prometheus":
                    instant = bool(target.get("instant"))
                    yield PanelQuery(
                        dashboard=title, panel=panel["title"], number=number, expr=target["expr"], instant=instant
                    )
        for annotation in board["annotations"].get("list", []):
            yield PanelQuery(
                dashboard=title, panel=annotation["name"], number=0, expr=annotation["expr"], instant=False
            )


def substituted(expr: str, rate_interval: str) -> str:
    """The expression with Grafana's variables replaced, as if all jobs and instances were chosen."""
    expr = expr.replace("$__rate_interval", rate_interval)
    return expr.replace("$job", ".+").replace("$instance", ".+")


def evaluate(server: Server, query: PanelQuery, period: Range) -> list[dict[str, Any]]:
    """The series that the query returns."""
    expr = substituted(query.expr, period.rate_interval)
    if query.instant:
        return server.instant(expr, period.end)
    return server.range(expr, start=period.start, end=period.end, step=period.step)


def without_data(server: Server, boards: list[dict[str, Any]], period: Range) -> set[tuple[str, str, int]]:
    """The queries that return no data, by dashboard, panel and number.

    Raises:
        RuntimeError: A query fails.
    """
    return {
        (query.dashboard, query.panel, query.number)
        for query in panel_queries(boards)
        if not any(has_data(series) for series in evaluate(server, query, period))
    }


def has_data(series: dict[str, Any]) -> bool:
    """Whether one sample at least is a number; NaN is not."""
    samples = series.get("values") or [series["value"]]
    return any(value != "NaN" for _, value in samples)
