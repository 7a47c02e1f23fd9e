"""A real Prometheus scrapes the demo and evaluates the rules, and every query of every panel returns data."""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from dashboards import verdict
from dashboards.prometheus import RULES, Server, free_port, prometheus
from dashboards.promql import label, metric_name, select, series_names
from dashboards.queries import Range, dashboards, panels, without_data
from jwt_middleware import names
from tests.dashboards.linter import queries
from tests.support.demo import command
from tests.support.signals import Signals
from tests.telemetry.test_metrics import everything_once

pytestmark = pytest.mark.server

WINDOW = 10
"""Seconds that a token of the demo lives."""
MAY_BE_EMPTY = {
    ("Authentication", "Refusals by reason, and last week", 1): "there was no last week",
    ("Authentication", "Age of the remote keys", 0): "the demo has no remote keys",
    ("Authentication", "Fetches of remote keys", 0): "the demo has no remote keys",
    ("Authentication", "Lines of also_accept", 0): "the demo has no lines",
    ("Authentication", "Lines of also_accept", 1): "the demo has no lines",
    ("Authentication", "Requests that needed a line, in eight days", 0): "the demo has no lines",
    ("Authentication", "Keys", 1): "the demo's key has no end",
}
ALWAYS_THERE = (names.PAYLOAD_INFO, names.CACHE_ENTRIES)
"""Metrics whose samples show that Prometheus has scraped more than twice."""
ONLY_WHERE_CONFIGURED = {
    metric_name(metric)
    for metric in (
        names.JWKS_FETCHES,
        names.JWKS_LAST_SUCCESS,
        names.ADOPTIONS,
        names.ENVELOPE_LAST_USED,
        names.ENVELOPE_END,
        names.KEY_END,
    )
}
"""Metrics of remote keys, of lines of also_accept and of keys that end, which the demo does not have."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A Prometheus with the demo's metrics, and the demo's log."""

    server: Server
    period: Range
    events: list[dict[str, Any]]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    directory = tmp_path_factory.mktemp("prometheus")
    port, log = free_port(), directory / "events.jsonl"
    # released as late as possible, so that there are old tokens also on a slow machine
    arguments = ("--window", f"{WINDOW}s", "--release-after", f"{WINDOW}s", "--port", str(port), "--log", str(log))
    with prometheus(directory, target=f"127.0.0.1:{port}") as server, command(*arguments) as process:
        began = time.time()
        for condition in (
            f"sum({metric_name(names.FALLBACKS)}) > 20",
            f'sum({metric_name(names.REQUESTS)}{{{label(names.ERROR_TYPE)}="token_expired"}}) > 0',
            f"sum({metric_name(names.SESSIONS_REVOCATIONS)}) > 0",
            f"{verdict.VERDICT} > 0",
            *(f"count_over_time({select(metric)}[1h]) > 2" for metric in ALWAYS_THERE),
        ):
            server.wait_for(condition, seconds=180)
        yield Seen(
            server=server,
            period=Range(start=began, end=time.time(), step=1, rate_interval="10s"),
            events=[json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")],
        )
        process.terminate()
        assert process.communicate(timeout=60)[1] == ""


@pytest.fixture(scope="module")
def boards() -> list[dict[str, Any]]:
    return dashboards()


def test_every_query_of_every_panel_returns_data(seen: Seen, boards: list[dict[str, Any]]) -> None:
    assert without_data(seen.server, boards, seen.period) == set(MAY_BE_EMPTY)


def test_one_wrong_name_is_found(seen: Seen, boards: list[dict[str, Any]], subtests: pytest.Subtests) -> None:
    """A check of the test above."""
    for right, wrong in [
        ("jwt_middleware_fallbacks_total", "jwt_middleware_fallback_total"),
        ("jwt_middleware_payload_superseded_timestamp_seconds", "jwt_middleware_payload_superseded_timestamp"),
        ('jwt_middleware_result="accepted"', 'result="accepted"'),
        ('jwt_middleware_lookup="claims"', 'jwt_middleware_lookup="claim"'),
        ("jwt_middleware:payload:verdict", "jwt_middleware:payload:verdicts"),
    ]:
        with subtests.test(right=right):
            broken = copy.deepcopy(boards)
            for board in broken:
                for panel in board["panels"]:
                    for target in panel.get("targets", []):
                        target["expr"] = target.get("expr", "").replace(right, wrong)
            assert without_data(seen.server, broken, seen.period) - set(MAY_BE_EMPTY)


def test_scraped_names_and_labels_are_those_of_the_package(seen: Seen) -> None:
    ours = {series: metric for metric in names.METRICS for series in series_names(metric)}
    scraped: dict[str, set[str]] = {}
    for series in seen.server.get("series", **{"match[]": f'{{__name__=~"{names.SCOPE}_.+"}}'}):
        scraped.setdefault(series["__name__"], set()).update(series)
    assert set(ours) - set(scraped) == ONLY_WHERE_CONFIGURED
    for name, labels in scraped.items():
        always = {"__name__", "job", "instance"} | ({"le"} if name.endswith("_bucket") else set())
        scope = {each for each in labels if each.startswith("otel_scope")}
        assert labels - scope - always <= {label(attribute) for attribute in ours[name].attributes}, name


def selectors_of_rules() -> set[str]:
    """Every selector of a raw series in the rules."""
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    found = re.findall(
        r"jwt_middleware_[a-z_]+_(?:total|seconds|info|open)(?:\{[^}]*\})?", "\n".join(r["expr"] for r in rules)
    )
    return set(found)


def test_every_series_that_a_rule_reads_is_there_from_the_start(seen: Seen) -> None:
    """A rule with an unknown name or label would never fire."""
    missing = {selector for selector in selectors_of_rules() if not seen.server.instant(selector, seen.period.end)}
    assert {re.split(r"[{]", selector)[0] for selector in missing} <= ONLY_WHERE_CONFIGURED


def test_every_label_value_of_a_rule_is_counted(seen: Seen) -> None:
    for selector in selectors_of_rules():
        name = selector.partition("{")[0]
        for key, values in re.findall(r'(\w+)(?:=~|!~|!=|=)"([^"]+)"', selector):
            for value in values.split("|"):
                assert seen.server.instant(f'{name}{{{key}="{value}"}}', seen.period.end), (selector, value)


def test_no_rule_fails(seen: Seen) -> None:
    rules = [rule for group in seen.server.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"]: rule["lastError"] for rule in rules if rule.get("lastError")} == {}
    assert {rule["health"] for rule in rules} == {"ok"}


def test_the_verdict_is_one_of_its_states(seen: Seen) -> None:
    states = {float(series["value"][1]) for series in seen.server.instant(verdict.VERDICT)}
    assert states <= {float(state) for state in verdict.STATES.values()}
    assert len(states) == 1


def test_the_log_panels_query_events_of_the_demo_s_log(seen: Seen, boards: list[dict[str, Any]]) -> None:
    written = {event["event"] for event in seen.events}
    asked = {
        event
        for board in boards
        for panel in board["panels"]
        for target in panel.get("targets", [])
        if target["datasource"]["type"] == "loki"
        for event in re.findall(r'event="([^"]+)"', target["expr"])
    }
    assert asked
    assert asked <= written


async def test_the_trace_panel_queries_attributes_that_spans_have(boards: list[dict[str, Any]]) -> None:
    signals = Signals()
    await everything_once(signals.telemetry())
    asked = [query for board in boards for panel in panels(board) for query in queries(panel, "tempo")]
    assert asked
    for query in asked:
        name = re.search(r'name = "([^"]+)"', query)
        assert name is not None
        found = [span for span in signals.exporter.get_finished_spans() if span.name == name[1]]
        assert found
        assert set(re.findall(r"span\.([\w.]+)", query)) <= set(found[0].attributes or {})
