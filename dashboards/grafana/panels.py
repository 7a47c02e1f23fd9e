"""The few kinds of panels of the dashboards, each built by one function so that all look alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import common as parts
from grafana_foundation_sdk.builders import dashboard as boards
from grafana_foundation_sdk.builders import heatmap, logs, loki, prometheus, stat, table, tempo, timeseries
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue, Threshold
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from jwt_middleware.names import Metric

from ..promql import select

PROMETHEUS: Final = common.DataSourceRef(type_val="prometheus", uid="${prometheus_datasource}")
LOKI: Final = common.DataSourceRef(type_val="loki", uid="${loki_datasource}")
TEMPO: Final = common.DataSourceRef(type_val="tempo", uid="${tempo_datasource}")
CHOSEN: Final = ('job=~"$job"', 'instance=~"$instance"')
JOB: Final = CHOSEN[0]
EMPTY: Final = "no data"
GREEN, BLUE, ORANGE, RED, GREY, PURPLE = "green", "blue", "orange", "red", "gray", "purple"
"""Named colours: Grafana has a shade of each for its dark and its light theme."""

Panel = timeseries.Panel | stat.Panel | table.Panel | heatmap.Panel | logs.Panel


@dataclass(frozen=True, slots=True)
class Query:
    """One query and the legend of its series."""

    expr: str
    legend: str = ""


def raw(metric: Metric, *matchers: str, part: str = "") -> str:
    """A selector of raw series, limited to the jobs and instances chosen at the top of the dashboard."""
    return select(metric, *CHOSEN, *matchers, part=part)


def rate(metric: Metric, *matchers: str, part: str = "") -> str:
    """Events a second."""
    return f"rate({raw(metric, *matchers, part=part)}[$__rate_interval])"


def hourly(metric: Metric, *matchers: str) -> str:
    """Events of the last hour: a rate over a short interval shows nothing if one event an hour is normal."""
    return f"increase({raw(metric, *matchers)}[1h])"


def recorded(name: str, *matchers: str) -> str:
    """A selector of a recorded series, limited to the chosen jobs; recorded series have no instance."""
    return f"{name}{{{', '.join((JOB, *matchers))}}}"


def steps(*bounds: tuple[float | None, str]) -> boards.ThresholdsConfig:
    """Thresholds: the colour from each value on; the first has no lower bound (None)."""
    return boards.ThresholdsConfig().steps([Threshold(value=value, color=color) for value, color in bounds])


def words(texts: Mapping[float, tuple[str, str]]) -> list[dashboard.ValueMapping]:
    """Show each value as a word in a colour."""
    options = {
        f"{value:g}": dashboard.ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(texts.items())
    }
    return [dashboard.ValueMap(options=options)]


def _targets(queries: Sequence[Query], *, instant: bool, as_table: bool = False) -> list[prometheus.Dataquery]:
    built = []
    for letter, query in zip("ABCDEFGH", queries, strict=False):
        target = prometheus.Dataquery().datasource(PROMETHEUS).expr(query.expr).ref_id(letter)
        if query.legend:
            target.legend_format(query.legend)
        if instant:
            target.instant()
        else:
            target.range()
        if as_table:
            target.format(PromQueryFormat.TABLE)
        built.append(target)
    return built


def figure(
    title: str,
    description: str,
    *queries: Query,
    unit: str,
    thresholds: boards.ThresholdsConfig | None = None,
    mappings: list[dashboard.ValueMapping] | None = None,
    show_name: bool = False,
) -> stat.Panel:
    """The current value, large."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit(unit)
        .no_value(EMPTY)
        .targets(list(_targets(queries, instant=True)))
        .thresholds(thresholds or steps((None, GREY)))
        .color_mode(common.BigValueColorMode.BACKGROUND if mappings else common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.NONE)
        .text_mode(common.BigValueTextMode.VALUE_AND_NAME if show_name else common.BigValueTextMode.VALUE)
        .reduce_options(parts.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False))
    )
    return panel.mappings(mappings) if mappings else panel


def curve(
    title: str,
    description: str,
    *queries: Query,
    unit: str,
    stacked: common.StackingMode = common.StackingMode.NONE,
    colors: Mapping[str, str] | None = None,
    thresholds: boards.ThresholdsConfig | None = None,
    maximum: float | None = None,
) -> timeseries.Panel:
    """Values over time; a gap stays a gap and never becomes a zero."""
    is_stacked = stacked is not common.StackingMode.NONE
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit(unit)
        .min(0)
        .no_value(EMPTY)
        .targets(list(_targets(queries, instant=False)))
        .line_width(0 if is_stacked else 1.5)
        .fill_opacity(60 if is_stacked else 8)
        .show_points(common.VisibilityMode.NEVER)
        .span_nulls(span_nulls=False)
        .stacking(parts.StackingConfig().mode(stacked))
        .legend(_legend())
        .tooltip(parts.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
    )
    if maximum is not None:
        panel.max(maximum)
    if thresholds is not None:
        style = parts.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        panel.thresholds(thresholds).thresholds_style(style)
    for name, color in (colors or {}).items():
        panel.override_by_name(name, [DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})])
    return panel


def _legend() -> parts.VizLegendOptions:
    return (
        parts.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.TABLE)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(show_legend=True)
        .calcs(["lastNotNull", "max"])
    )


def last_week(panel: timeseries.Panel) -> timeseries.Panel:
    """Draw series named "… last week" thin and dashed."""
    dashed = DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [4, 6]})
    return panel.override_by_regexp(".* last week", [dashed, DynamicConfigValue("custom.lineWidth", 1)])


def listing(
    title: str,
    description: str,
    *queries: Query,
    unit: str,
    columns: Mapping[str, str],
    hidden: Sequence[str] = (),
    mappings: list[dashboard.ValueMapping] | None = None,
) -> table.Panel:
    """A table of current values: each label and each query is a column; ``columns`` renames them."""
    excluded = dict.fromkeys(("Time", "__name__", *hidden), True)
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit(unit)
        .no_value(EMPTY)
        .targets(list(_targets(queries, instant=True, as_table=True)))
        .with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            dashboard.DataTransformerConfig(
                id_val="organize", options={"excludeByName": excluded, "renameByName": dict(columns)}
            )
        )
    )
    return panel.mappings(mappings) if mappings else panel


def heat(title: str, description: str, query: Query, *, unit: str) -> heatmap.Panel:
    """Buckets of a histogram over time."""
    target = _targets([query], instant=False)[0].format(PromQueryFormat.HEATMAP)
    return (
        heatmap.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit(unit)
        .no_value(EMPTY)
        .with_target(target)
        .calculate(calculate=False)
        .y_axis(heatmap.YAxisConfig().unit(unit))
    )


def events(title: str, description: str, logql: str) -> logs.Panel:
    """Log events, newest first."""
    return (
        logs.Panel()
        .title(title)
        .description(description)
        .datasource(LOKI)
        .no_value(EMPTY)
        .with_target(loki.Dataquery().datasource(LOKI).expr(logql).ref_id("A").query_type("range"))
        .show_time(show_time=True)
        .wrap_log_message(wrap_log_message=True)
        .sort_order(common.LogsSortOrder.DESCENDING)
    )


def traces(title: str, description: str, traceql: str) -> table.Panel:
    """Traces with a matching span."""
    target = tempo.Dataquery().datasource(TEMPO).query(traceql).query_type("traceql").limit(20).ref_id("A")
    return (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(TEMPO)
        .unit("none")
        .no_value(EMPTY)
        .with_target(target)
    )
