"""One dashboard: the settings that all three share, and the layout of its panels."""

from __future__ import annotations

import json
from typing import Final

from grafana_foundation_sdk.builders import dashboard as boards
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    GridPos,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from jwt_middleware import names

from ..promql import select
from ..rules import RUNBOOK
from .panels import JOB, PROMETHEUS, Panel

TAG: Final = "jwt_middleware"
WIDTH: Final = 24
"""Columns of Grafana's grid."""
SOURCES: Final = {"prometheus": "Prometheus", "loki": "Loki", "tempo": "Tempo"}
_INFO: Final = select(names.PAYLOAD_INFO)


class Board:
    """Rows of panels from top to bottom; the order determines positions and ids.

    Args:
        title: The title; the uid ends in it too.
        description: The question that the dashboard answers.
        since: The start of the default time range, such as ``now-8d``.
        sources: The kinds of data sources that the dashboard reads.
    """

    def __init__(self, title: str, *, description: str, since: str, sources: tuple[str, ...] = ("prometheus",)) -> None:
        self.uid: Final = f"jwt-{title.lower().replace(' ', '-')}"
        self._next_id = 1
        self._left = self._top = self._height = 0
        self._board: Final = (
            boards.Dashboard(title)
            .uid(self.uid)
            .description(description)
            .tags([TAG])
            .readonly()
            .time(since, "now")
            .refresh("1m")
            .timezone("browser")
            .tooltip(DashboardCursorSync.CROSSHAIR)
            .link(
                boards.DashboardLink("Session dashboards")
                .type(DashboardLinkType.DASHBOARDS)
                .tags([TAG])
                .as_dropdown(as_dropdown=False)
                .include_vars(include_vars=True)
                .keep_time(keep_time=False)
            )
            .link(boards.DashboardLink("Runbook").type(DashboardLinkType.LINK).url(RUNBOOK).target_blank(True))
        )
        for kind in sources:
            self._board.with_variable(
                boards.DatasourceVariable(f"{kind}_datasource").label(f"{SOURCES[kind]} data source").type(kind)
            )
        self._add_variable("job", _INFO)
        self._add_variable("instance", select(names.PAYLOAD_INFO, JOB))

    def row(self, title: str) -> None:
        """Start a row."""
        self._end_line()
        place = GridPos(h=1, w=WIDTH, x=0, y=self._top)
        self._board.with_row(boards.Row(title).grid_pos(place).id(self._id()))
        self._top += 1

    def add(self, panel: Panel, *, width: int, height: int = 8) -> None:
        """Add a panel to the right of the previous one, or on a new line if there is no room."""
        if self._left + width > WIDTH:
            self._end_line()
        place = GridPos(h=height, w=width, x=self._left, y=self._top)
        self._board.with_panel(panel.grid_pos(place).id(self._id()))
        self._left += width
        self._height = max(self._height, height)

    def annotate(self, name: str, expr: str, *, color: str, text: str) -> None:
        """Draw vertical lines at the moments that the series have as values, in milliseconds since the epoch."""
        self._board.annotation(
            boards.AnnotationQuery()
            .name(name)
            .datasource(PROMETHEUS)
            .enable(enable=True)
            .icon_color(color)
            .expr(expr)
            .step("5m")
            .use_value_for_time(use_value_for_time=True)
            .title_format(name)
            .text_format(text)
        )

    def text(self) -> str:
        """Grafana's classic JSON."""
        built = json.loads(JSONEncoder(sort_keys=True).encode(self._board.build()))
        for entry in (*built["links"], *built["annotations"].get("list", [])):
            del entry["placement"]  # the builder has only one value for it, which hides links in a menu
        return json.dumps(built, indent=2) + "\n"

    def _add_variable(self, name: str, series: str) -> None:
        query = f"label_values({series}, {name})"
        self._board.with_variable(
            boards.QueryVariable(name)
            .label(name.capitalize())
            .query({"query": query, "refId": name})
            .definition(query)
            .datasource(PROMETHEUS)
            .multi(multi=True)
            .include_all(include_all=True)
            .all_value(".+")
            .current(VariableOption(selected=True, text="All", value="$__all"))
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
        )

    def _end_line(self) -> None:
        self._top += self._height
        self._left = self._height = 0

    def _id(self) -> int:
        self._next_id += 1
        return self._next_id - 1
