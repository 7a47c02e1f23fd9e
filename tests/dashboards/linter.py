"""The rules of grafana/dashboard-linter, and some of our own, on Grafana's classic JSON.

An exception is made for one panel or one kind of series, and carries its reason. That a query is PromQL is asked of a
real Prometheus in ``test_prometheus``; here its selectors are looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from dashboards.queries import panels

Dashboard = dict[str, Any]
Panel = dict[str, Any]
Finding = tuple[str, str, str]
"""The rule, the panel or variable, and what is wrong."""

UNITS: Final = {
    "none", "short", "percentunit", "reqps", "ops", "cps", "s", "dateTimeAsIso", "dateTimeFromNow",
}  # fmt: skip
"""Those of Grafana that are used here."""
DATA_SOURCES: Final = {"prometheus": "Prometheus", "loki": "Loki", "tempo": "Tempo"}
SELECTOR: Final = re.compile(r"([a-zA-Z_][a-zA-Z0-9_:]*)?\{([^}]*)\}")
FIXED_RANGES: Final = {
    "1h": "an increase over a fixed hour, where a rate over a short interval would show nothing",
    "8d": "an increase over the life of a token and a day: whether something was not used at all",
}
NO_INSTANCE: Final = {
    "jwt_middleware:": "recorded over all instances of a job, which is what the verdict is about",
    "ALERTS": "most alerts are of a job, and have no instance",
}


def queries(panel: Panel, kind: str = "prometheus") -> list[str]:
    targets = [target for target in panel.get("targets", []) if target["datasource"]["type"] == kind]
    return [target["query"] if kind == "tempo" else target["expr"] for target in targets]


def selectors(expression: str) -> list[tuple[str, str]]:
    return [(name, matchers) for name, matchers in SELECTOR.findall(expression)]


def variable(dashboard: Dashboard, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next((each for each in dashboard["templating"]["list"] if each["name"] == name), {})
    return found


def template_datasource(dashboard: Dashboard) -> Iterator[str]:
    found = [each for each in dashboard["templating"]["list"] if each["type"] == "datasource"]
    if not found:
        yield "no data source is a variable"
    for each in found:
        if each["name"] != f"{each['query']}_datasource":
            yield f"{each['name']} should be {each['query']}_datasource"
        if each["label"] != f"{DATA_SOURCES[each['query']]} data source":
            yield f"{each['name']} has the label {each['label']}"


def _template(name: str) -> Callable[[Dashboard], Iterator[str]]:
    def check(dashboard: Dashboard) -> Iterator[str]:
        expected = {
            "type": "query",
            "label": name.capitalize(),
            "multi": True,
            "includeAll": True,
            "allValue": ".+",
            "datasource": {"type": "prometheus", "uid": "${prometheus_datasource}"},
        }
        found = variable(dashboard, name)
        for key, value in expected.items():
            if found.get(key) != value:
                yield f"{key} of ${name} is {found.get(key)!r}, not {value!r}"

    return check


def template_label_promql(dashboard: Dashboard) -> Iterator[str]:
    for each in dashboard["templating"]["list"]:
        if each["type"] == "query" and not re.fullmatch(r"label_values\(\w+(\{.*\})?, \w+\)", each["query"]["query"]):
            yield f"${each['name']} is {each['query']['query']}"


def template_on_time_change_reload(dashboard: Dashboard) -> Iterator[str]:
    for each in dashboard["templating"]["list"]:
        if each["type"] == "query" and each.get("refresh") != 2:
            yield f"${each['name']} is not read anew when the range changes"


def uneditable_dashboard(dashboard: Dashboard) -> Iterator[str]:
    if dashboard["editable"]:
        yield "it can be edited, and what was edited is lost at the next provisioning"


def panel_datasource(panel: Panel) -> Iterator[str]:
    for each in (panel, *panel.get("targets", [])):
        if each.get("datasource", {}).get("uid") not in {f"${{{kind}_datasource}}" for kind in DATA_SOURCES}:
            yield f"data source {each.get('datasource')}"


def panel_title_description(panel: Panel) -> Iterator[str]:
    if not panel.get("title") or len(panel.get("description", "")) < 40:
        yield "no title, or a description that helps nobody"


def panel_units(panel: Panel) -> Iterator[str]:
    if panel["type"] in {"stat", "timeseries", "table", "heatmap"}:
        unit = panel["fieldConfig"]["defaults"].get("unit")
        if unit not in UNITS:
            yield f"unit {unit!r}"


def panel_no_targets(panel: Panel) -> Iterator[str]:
    if not panel.get("targets"):
        yield "asks nothing"


def target_logql(panel: Panel) -> Iterator[str]:
    for query in queries(panel, "loki"):
        if not re.fullmatch(r'\{\w+=~?"[^"]+"\}( \|= "[^"]+")?( \| json)?( \| \w+(=|!=|=~)"[^"]*")*', query):
            yield f"no LogQL that we know: {query}"


def target_logql_auto(panel: Panel) -> Iterator[str]:
    for query in queries(panel, "loki"):
        if re.search(r"\[(?!\$__auto\])", query):
            yield f"a fixed range: {query}"


def target_promql(panel: Panel) -> Iterator[str]:
    for query in queries(panel):
        if query.count("(") != query.count(")") or re.search(
            r"(?<![\w:])(jwt_middleware[\w:]*)(?![\w:{])", _unlabelled(query)
        ):
            yield f"a series without a selector: {query}"


def _unlabelled(query: str) -> str:
    """Without what stands in braces and in lists of labels."""
    return re.sub(r"(by|on|without|ignoring|group_left|group_right) ?\([^)]*\)", "", re.sub(r"\{[^}]*\}", "{}", query))


def target_rate_interval(panel: Panel) -> Iterator[str]:
    for query in queries(panel):
        for function, span in re.findall(r"(\w+)\([^()\[\]]*\[([^\]]+)\]", query):
            fine = span == "$__rate_interval" or (function == "increase" and span in FIXED_RANGES)
            if not fine:
                yield f"{function} over {span}: {query}"


def target_job(panel: Panel) -> Iterator[str]:
    for query in queries(panel):
        for name, matchers in selectors(query):
            if 'job=~"$job"' not in matchers:
                yield f"{name} of any job: {query}"


def target_instance(panel: Panel) -> Iterator[str]:
    for query in queries(panel):
        for name, matchers in selectors(query):
            if 'instance=~"$instance"' not in matchers and not name.startswith(tuple(NO_INSTANCE)):
                yield f"{name} of any instance: {query}"


def target_counter_agg(panel: Panel) -> Iterator[str]:
    for query in queries(panel):
        for before, name in re.findall(r"(\w*)\(?(?<=[(])(\w+_total)\{", query):
            if before not in {"rate", "irate", "increase"}:
                yield f"{name} is a counter: {query}"
        if len(re.findall(r"_total\{", query)) != len(re.findall(r"(?:rate|increase)\(\w+_total\{[^}]*\}\[", query)):
            yield f"a counter without rate or increase: {query}"


def unique_ids(dashboard: Dashboard) -> Iterator[str]:
    ids = [panel["id"] for panel in dashboard["panels"]]
    if len(set(ids)) != len(ids) or not all(ids):
        yield f"ids {ids}"


def no_overlap(dashboard: Dashboard) -> Iterator[str]:
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        if place["x"] + place["w"] > 24:
            yield f"{panel['title']} sticks out"
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                if (x, y) in taken:
                    yield f"{panel['title']} lies on {taken[x, y]}"
                    return
                taken[x, y] = panel["title"]


def unit_fits(panel: Panel) -> Iterator[str]:
    """A rate is not a count, and a moment is not a duration."""
    for query in queries(panel):
        if " / " in query:
            fitting = {"percentunit", "short"}
        elif "timestamp" in query:
            fitting = {"s"} if query.startswith("time()") else {"dateTimeAsIso", "dateTimeFromNow"}
        elif "_duration_" in query:
            fitting = {"s"}
        elif re.search(r"rate\(|:rate5m", query):
            fitting = {"reqps", "ops", "cps"}
        elif "increase(" in query:
            fitting = {"short"}
        else:
            fitting = {"none", "short"}
        if panel["fieldConfig"]["defaults"]["unit"] not in fitting:
            yield f"{panel['fieldConfig']['defaults']['unit']}, not one of {sorted(fitting)}: {query}"


def named_colors(panel: Panel) -> Iterator[str]:
    """A colour by number is unreadable either in dark or in light."""
    if re.search(r"#[0-9a-fA-F]{3,8}\b|rgba?\(", str(panel["fieldConfig"])):
        yield "a colour that is no name"


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
OF_PANELS: Final[dict[str, Callable[[Panel], Iterator[str]]]] = {
    "panel-datasource-rule": panel_datasource,
    "panel-title-description-rule": panel_title_description,
    "panel-units-rule": panel_units,
    "panel-no-targets-rule": panel_no_targets,
    "target-logql-rule": target_logql,
    "target-logql-auto-rule": target_logql_auto,
    "target-promql-rule": target_promql,
    "target-rate-interval-rule": target_rate_interval,
    "target-job-rule": target_job,
    "target-instance-rule": target_instance,
    "target-counter-agg-rule": target_counter_agg,
    "unit fits": unit_fits,
    "named colours": named_colors,
}


def findings(dashboard: Dashboard) -> list[Finding]:
    """Everything that is wrong."""
    return [
        *((rule, dashboard["title"], text) for rule, check in OF_DASHBOARDS.items() for text in check(dashboard)),
        *(
            (rule, panel["title"], text)
            for rule, check in OF_PANELS.items()
            for panel in panels(dashboard)
            for text in check(panel)
        ),
    ]
