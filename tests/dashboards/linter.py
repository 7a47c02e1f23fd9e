"""The rules of grafana/dashboard-linter, and some of our own, on Grafana's classic JSON.

An exception is made for one kind of range or series, and has its reason. ``test_prometheus`` checks that each query is
PromQL; the rules here check its selectors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, Final

from dashboards.queries import panels

Dashboard = dict[str, Any]
Panel = dict[str, Any]
Finding = tuple[str, str, str]
"""The rule, the dashboard or panel, and the part that breaks the rule."""

UNITS: Final = {
    "none", "short", "percentunit", "reqps", "ops", "cps", "s", "dateTimeAsIso", "dateTimeFromNow"
}  # fmt: skip
"""Grafana's units that the dashboards use."""
DATA_SOURCES: Final = {"prometheus": "Prometheus", "loki": "Loki", "tempo": "Tempo"}
SELECTOR: Final = re.compile(r"([a-zA-Z_][a-zA-Z0-9_:]*)?\{([^}]*)\}")
LOGQL: Final = re.compile(r'\{\w+=~?"[^"]+"\}( \|= "[^"]+")?( \| json)?( \| \w+(=|!=|=~)"[^"]*")*')
FIXED_RANGES: Final = {
    "1h": "an increase over a fixed hour, where a rate over a short interval would show nothing",
    "8d": "the life of a token and a day: whether something was not used at all, and when it last was",
}
OVER_FIXED_RANGES: Final = {"1h": {"increase"}, "8d": {"increase", "max_over_time"}}
NO_INSTANCE: Final = {
    "jwt_middleware:": "recorded over all instances of a job, which is what the verdict is about",
    "ALERTS": "most alerts are of a job, and have no instance",
}


def queries(panel: Panel, kind: str = "prometheus") -> list[str]:
    """The panel's queries of one kind of data source."""
    targets = [target for target in panel.get("targets", []) if target["datasource"]["type"] == kind]
    return [target["query"] if kind == "tempo" else target["expr"] for target in targets]


def _variables(dashboard: Dashboard, kind: str) -> list[dict[str, Any]]:
    return [variable for variable in dashboard["templating"]["list"] if variable["type"] == kind]


def template_datasource(dashboard: Dashboard) -> Iterator[str]:
    variables = _variables(dashboard, "datasource")
    if not variables:
        yield "no data source is a variable"
    for variable in variables:
        kind = variable["query"]
        if (variable["name"], variable["label"]) != (f"{kind}_datasource", f"{DATA_SOURCES[kind]} data source"):
            yield variable["name"]


def _template(name: str) -> Callable[[Dashboard], Iterator[str]]:
    def check(dashboard: Dashboard) -> Iterator[str]:
        expected = {
            "name": name,
            "label": name.capitalize(),
            "multi": True,
            "includeAll": True,
            "allValue": ".+",
            "datasource": {"type": "prometheus", "uid": "${prometheus_datasource}"},
        }
        variables = _variables(dashboard, "query")
        if expected not in [{key: variable.get(key) for key in expected} for variable in variables]:
            yield f"no variable ${name} with {expected}"

    return check


def template_label_promql(dashboard: Dashboard) -> Iterator[str]:
    for variable in _variables(dashboard, "query"):
        if not re.fullmatch(r"label_values\(\w+(\{.*\})?, \w+\)", variable["query"]["query"]):
            yield variable["name"]


def template_on_time_change_reload(dashboard: Dashboard) -> Iterator[str]:
    yield from (variable["name"] for variable in _variables(dashboard, "query") if variable.get("refresh") != 2)


def uneditable_dashboard(dashboard: Dashboard) -> Iterator[str]:
    if dashboard["editable"]:
        yield "edits would be lost at the next provisioning"


def unique_ids(dashboard: Dashboard) -> Iterator[str]:
    ids = [panel["id"] for panel in dashboard["panels"]]
    if len(set(ids)) != len(ids) or not all(ids):
        yield f"ids {ids}"


def no_overlap(dashboard: Dashboard) -> Iterator[str]:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = set(product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])))
        if taken & cells or place["x"] + place["w"] > 24:
            yield panel["title"]
        taken |= cells


def wrong_datasource(panel: Panel) -> bool:
    sources = [part.get("datasource", {}).get("uid") for part in (panel, *panel.get("targets", []))]
    return not set(sources) <= {f"${{{kind}_datasource}}" for kind in DATA_SOURCES}


def wrong_unit(panel: Panel) -> bool:
    has_unit = panel["type"] in {"stat", "timeseries", "table", "heatmap"}
    return has_unit and panel["fieldConfig"]["defaults"].get("unit") not in UNITS


def without_selector(query: str) -> bool:
    """Whether a series has no selector; braces and lists of labels are left out of the search."""
    lists = r"(by|on|without|ignoring|group_left|group_right) ?\([^)]*\)"
    rest = re.sub(lists, "", re.sub(r"\{[^}]*\}", "{}", query))
    return query.count("(") != query.count(")") or bool(re.search(r"(?<![\w:])(jwt_middleware[\w:]*)(?![\w:{])", rest))


def wrong_range(query: str) -> bool:
    ranges = re.findall(r"(\w+)\([^()\[\]]*\[([^\]]+)\]", query)
    return not all(
        span == "$__rate_interval" or function in OVER_FIXED_RANGES.get(span, ()) for function, span in ranges
    )


def of_any_job(query: str) -> bool:
    return any('job=~"$job"' not in matchers for _, matchers in SELECTOR.findall(query))


def of_any_instance(query: str) -> bool:
    return any(
        'instance=~"$instance"' not in matchers and not name.startswith(tuple(NO_INSTANCE))
        for name, matchers in SELECTOR.findall(query)
    )


def bare_counter(query: str) -> bool:
    """Whether a counter is read without ``rate`` or ``increase``."""
    rates = re.findall(r"(?:rate|increase)\(\w+_total\{[^}]*\}\[", query)
    return len(re.findall(r"_total\{", query)) != len(rates)


def unit_does_not_fit(panel: Panel) -> bool:
    """A rate is not a count, and a moment is not a duration."""
    unit = panel["fieldConfig"]["defaults"].get("unit")
    return any(unit not in _fitting_units(query) for query in queries(panel))


def _fitting_units(query: str) -> set[str]:
    if " / " in query:
        return {"percentunit", "short"}
    if "timestamp" in query:
        return {"s"} if query.startswith("time()") else {"dateTimeAsIso", "dateTimeFromNow"}
    if "_duration_" in query:
        return {"s"}
    if re.search(r"rate\(|:rate5m", query):
        return {"reqps", "ops", "cps"}
    return {"short"} if "increase(" in query else {"none", "short"}


OF_DASHBOARDS: Final[dict[str, Callable[[Dashboard], Iterator[str]]]] = {
    "template-datasource-rule": template_datasource,
    "template-job-rule": _template("job"),
    "template-instance-rule": _template("instance"),
    "template-label-promql-rule": template_label_promql,
    "template-on-time-change-reload-rule": template_on_time_change_reload,
    "uneditable-dashboard-rule": uneditable_dashboard,
    "unique ids": unique_ids,
    "no overlap": no_overlap,
}
OF_PANELS: Final[dict[str, Callable[[Panel], bool]]] = {
    "panel-datasource-rule": wrong_datasource,
    "panel-title-description-rule": lambda panel: not panel.get("title") or len(panel.get("description", "")) < 40,
    "panel-units-rule": wrong_unit,
    "panel-no-targets-rule": lambda panel: not panel.get("targets"),
    "unit fits": unit_does_not_fit,
    # A colour by number is unreadable either in the dark or in the light theme.
    "named colours": lambda panel: bool(re.search(r"#[0-9a-fA-F]{3,8}\b|rgba?\(", str(panel["fieldConfig"]))),
}
OF_QUERIES: Final[dict[str, tuple[str, Callable[[str], bool]]]] = {
    "target-logql-rule": ("loki", lambda query: not LOGQL.fullmatch(query)),
    "target-logql-auto-rule": ("loki", lambda query: bool(re.search(r"\[(?!\$__auto\])", query))),
    "target-promql-rule": ("prometheus", without_selector),
    "target-rate-interval-rule": ("prometheus", wrong_range),
    "target-job-rule": ("prometheus", of_any_job),
    "target-instance-rule": ("prometheus", of_any_instance),
    "target-counter-agg-rule": ("prometheus", bare_counter),
}
"""The kind of data source, and whether a query breaks the rule."""


def findings(dashboard: Dashboard) -> list[Finding]:
    """Everything that breaks a rule."""
    of_panels = [(panel["title"], panel) for panel in panels(dashboard)]
    return [
        *((rule, dashboard["title"], part) for rule, check in OF_DASHBOARDS.items() for part in check(dashboard)),
        *((rule, title, "") for title, panel in of_panels for rule, breaks in OF_PANELS.items() if breaks(panel)),
        *(
            (rule, title, query)
            for title, panel in of_panels
            for rule, (kind, breaks) in OF_QUERIES.items()
            for query in queries(panel, kind)
            if breaks(query)
        ),
    ]
