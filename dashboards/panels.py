"""The few kinds of panel that the dashboards are made of, all drawn alike."""

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

from .promql import select

PROMETHEUS: Final = common.DataSourceRef(type_val="prometheus", uid="${prometheus_datasource}")
LOKI: Final = common.DataSourceRef(type_val="loki", uid="${loki_datasource}")
TEMPO: Final = common.DataSourceRef(type_val="tempo", uid="${tempo_datasource}")
CHOSEN: Final = ('job=~"$job"', 'instance=~"$instance"')
JOB: Final = CHOSEN[0]
EMPTY: Final = "no data"
GREEN, BLUE, ORANGE, RED, GREY, PURPLE = "green", "blue", "orange", "red", "gray", "purple"
"""Named colours: Grafana has a shade of each for dark and for light."""

Panel = timeseries.Panel | stat.Panel | table.Panel | heatmap.Panel | logs.Panel


@dataclass(frozen=True, slots=True)
class Query:
    """One query, and what its series are called."""

    expr: str
    legend: str = ""


def seen(metric: Metric, *matchers: str, part: str = "") -> str:
    """A selector of raw series, of the jobs and instances that were chosen above."""
    return select(metric, *CHOSEN, *matchers, part=part)


def rate(metric: Metric, *matchers: str, part: str = "") -> str:
    return f"rate({seen(metric, *matchers, part=part)}[$__rate_interval])"


def hourly(metric: Metric, *matchers: str) -> str:
    """Events of the last hour: a rate over a short interval shows nothing where one event an hour is normal."""
    return f"increase({seen(metric, *matchers)}[1h])"


def recorded(name: str, *matchers: str) -> str:
    """A selector of a recorded series, which has no instance."""
    return f"{name}{{{', '.join((JOB, *matchers))}}}"


def steps(*bounds: tuple[float | None, str]) -> boards.ThresholdsConfig:
    """Thresholds: from which value on which colour; the first has no lower bound."""
    return boards.ThresholdsConfig().steps([Threshold(value=value, color=color) for value, color in bounds])


def words(texts: Mapping[float, tuple[str, str]]) -> list[dashboard.ValueMapping]:
    """Each value by a word and a colour."""
    options = {
        f"{value:g}": dashboard.ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(texts.items())
    }
    return [dashboard.ValueMap(options=options)]


def _targets(queries: Sequence[Query], *, at_once: bool, as_table: bool = False) -> list[prometheus.Dataquery]:
    built = []
    for letter, query in zip("ABCDEFGH", queries, strict=False):
        target = prometheus.Dataquery().datasource(PROMETHEUS).expr(query.expr).ref_id(letter)
        if query.legend:
            target.legend_format(query.legend)
        if at_once:
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
    name_too: bool = False,
) -> stat.Panel:
    """The value of now, large."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit(unit)
        .no_value(EMPTY)
        .targets(list(_targets(queries, at_once=True)))
        .thresholds(thresholds or steps((None, GREY)))
        .color_mode(common.BigValueColorMode.BACKGROUND if mappings else common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.NONE)
        .text_mode(common.BigValueTextMode.VALUE_AND_NAME if name_too else common.BigValueTextMode.VALUE)
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
    most: float | None = None,
) -> timeseries.Panel:
    """Values over time; a gap is a gap, never a zero."""
    is_stacked = stacked is not common.StackingMode.NONE
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit(unit)
        .min(0)
        .no_value(EMPTY)
        .targets(list(_targets(queries, at_once=False)))
        .line_width(0 if is_stacked else 1.5)
        .fill_opacity(60 if is_stacked else 8)
        .show_points(common.VisibilityMode.NEVER)
        .span_nulls(span_nulls=False)
        .stacking(parts.StackingConfig().mode(stacked))
        .legend(_legend())
        .tooltip(parts.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
    )
    if most is not None:
        panel.max(most)
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
    """Draw what is called "… last week" thin and dashed."""
    dashed = DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [4, 6]})
    return panel.override_by_regexp(".* last week", [dashed, DynamicConfigValue("custom.lineWidth", 1)])


def listing(
    title: str, description: str, *queries: Query, unit: str, columns: Mapping[str, str], hidden: Sequence[str] = ()
) -> table.Panel:
    """A table of now: labels are columns, and each query is one; ``columns`` renames them."""
    away = dict.fromkeys(("Time", "__name__", *hidden), True)
    return (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit(unit)
        .no_value(EMPTY)
        .targets(list(_targets(queries, at_once=True, as_table=True)))
        .with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            dashboard.DataTransformerConfig(
                id_val="organize", options={"excludeByName": away, "renameByName": dict(columns)}
            )
        )
    )


def heat(title: str, description: str, query: Query, *, unit: str) -> heatmap.Panel:
    """Buckets of a histogram over time."""
    target = _targets([query], at_once=False)[0].format(PromQueryFormat.HEATMAP)
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
    """Traces that hold such a span."""
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
