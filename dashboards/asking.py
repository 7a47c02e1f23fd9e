"""Every query of every panel and annotation, as Grafana would send it, put to a Prometheus."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import GENERATED
from .prometheus import Server


@dataclass(frozen=True, kw_only=True)
class Question:
    """One query; ``at_once`` is an instant one."""

    dashboard: str
    panel: str
    number: int
    expr: str
    at_once: bool


@dataclass(frozen=True, kw_only=True)
class Range:
    """What is looked at."""

    start: float
    end: float
    step: float
    rate_interval: str


def dashboards() -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(GENERATED.glob("*.json"))]


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def questions(boards: list[dict[str, Any]]) -> Iterator[Question]:
    for board in boards:
        for panel in panels(board):
            for number, target in enumerate(panel["targets"]):
                if target["datasource"]["type"] == "prometheus":
                    yield Question(
                        dashboard=board["title"],
                        panel=panel["title"],
                        number=number,
                        expr=target["expr"],
                        at_once=bool(target.get("instant")),
                    )
        for each in board["annotations"].get("list", []):
            yield Question(dashboard=board["title"], panel=each["name"], number=0, expr=each["expr"], at_once=False)


def filled_in(expr: str, rate_interval: str) -> str:
    """The expression of a panel where everything is chosen."""
    expr = expr.replace("$__rate_interval", rate_interval)
    return expr.replace("$job", ".+").replace("$instance", ".+")


def answer(server: Server, question: Question, looked_at: Range) -> list[dict[str, Any]]:
    """The series."""
    expr = filled_in(question.expr, looked_at.rate_interval)
    if question.at_once:
        return server.instant(expr, looked_at.end)
    return server.range(expr, start=looked_at.start, end=looked_at.end, step=looked_at.step)


def unanswered(server: Server, boards: list[dict[str, Any]], looked_at: Range) -> set[tuple[str, str, int]]:
    """The questions that got no data, by dashboard, panel and number; an error is raised at once."""
    return {
        (question.dashboard, question.panel, question.number)
        for question in questions(boards)
        if not any(has_data(series) for series in answer(server, question, looked_at))
    }


def has_data(series: dict[str, Any]) -> bool:
    """A number; NaN is none."""
    samples = series.get("values") or [series["value"]]
    return any(value != "NaN" for _, value in samples)
