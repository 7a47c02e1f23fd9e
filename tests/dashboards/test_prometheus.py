"""The proof: a real Prometheus scrapes the demo's real traffic under the real rules, and every query is asked of it."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards import verdict
from dashboards.asking import Range, dashboards, panels, unanswered
from dashboards.prometheus import RULES, Server, free_port, prometheus
from dashboards.promql import label, series_of, spelled
from jwt_middleware import names
from tests.dashboards.linter import queries
from tests.support.promtool import ROOT
from tests.support.signals import Signals
from tests.telemetry.test_metrics import everything_once

WINDOW = 10
"""Seconds that a token of the demo lives: seven days."""
MAY_BE_EMPTY = {
    ("Authentication", "Refusals by reason, and last week", 1): "there was no last week",
    ("Authentication", "Age of the remote keys", 0): "the demo has no remote keys",
    ("Authentication", "Fetches of remote keys", 0): "the demo has no remote keys",
}
ONLY_WITH_REMOTE_KEYS = {spelled(names.JWKS_FETCHES), spelled(names.JWKS_LAST_SUCCESS)}


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the test looks at."""

    server: Server
    looked_at: Range
    events: list[dict[str, Any]]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    directory = tmp_path_factory.mktemp("prometheus")
    port, log = free_port(), directory / "events.jsonl"
    with prometheus(directory, target=f"127.0.0.1:{port}") as server, demo(port, log):
        began = time.time()
        server.wait_for(f"sum({spelled(names.FALLBACKS)}) > 20", seconds=60)
        expired = f'sum({spelled(names.REQUESTS)}{{{label(names.ERROR_TYPE)}="token_expired"}}) > 0'
        server.wait_for(expired, seconds=60)
        server.wait_for(f"sum({spelled(names.SESSIONS_REVOCATIONS)}) > 0", seconds=60)
        server.wait_for(f"{verdict.VERDICT} > 0", seconds=30)
        time.sleep(3)
        looked_at = Range(start=began, end=time.time(), step=1, rate_interval="10s")
        events = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
        yield Seen(server=server, looked_at=looked_at, events=events)


@pytest.fixture(scope="module")
def boards() -> list[dict[str, Any]]:
    return dashboards()


@contextlib.contextmanager
def demo(port: int, log: Path) -> Iterator[None]:
    """``python -m demo_app`` as it is typed, ended by its own process id."""
    process = subprocess.Popen(
        [sys.executable, "-m", "demo_app", "--window", f"{WINDOW}s", "--port", str(port), "--log", str(log)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("OTEL_")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            _, errors = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            _, errors = process.communicate()
    assert errors == b""


def test_every_query_of_every_panel_is_answered(seen: Seen, boards: list[dict[str, Any]]) -> None:
    assert unanswered(seen.server, boards, seen.looked_at) == set(MAY_BE_EMPTY)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("jwt_middleware_fallbacks_total", "jwt_middleware_fallback_total"),
        ("jwt_middleware_payload_superseded_timestamp_seconds", "jwt_middleware_payload_superseded_timestamp"),
        ('jwt_middleware_result="accepted"', 'result="accepted"'),
        ('jwt_middleware_lookup="claims"', 'jwt_middleware_lookup="claim"'),
        ("jwt_middleware:payload:verdict", "jwt_middleware:payload:verdicts"),
    ],
)
def test_one_wrong_name_is_found(seen: Seen, boards: list[dict[str, Any]], right: str, wrong: str) -> None:
    """The proof of the proof."""
    broken = copy.deepcopy(boards)
    for board in broken:
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                target["expr"] = target.get("expr", "").replace(right, wrong)
    # the verdict's words for no data, which it shows in any case
    found = unanswered(seen.server, broken, seen.looked_at) - set(MAY_BE_EMPTY)
    assert found


def test_what_is_scraped_has_the_names_and_labels_of_the_package(seen: Seen) -> None:
    ours = {series: metric for metric in names.METRICS for series in series_of(metric)}
    scraped: dict[str, set[str]] = {}
    for series in seen.server.get("series", **{"match[]": f'{{__name__=~"{names.SCOPE}_.+"}}'}):
        scraped.setdefault(series["__name__"], set()).update(series)
    assert set(ours) - set(scraped) == ONLY_WITH_REMOTE_KEYS
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
    """A name or a label that nobody has would make a rule that never fires."""
    missing = {selector for selector in selectors_of_rules() if not seen.server.instant(selector, seen.looked_at.end)}
    assert {re.split(r"[{]", selector)[0] for selector in missing} <= ONLY_WITH_REMOTE_KEYS


def test_every_value_that_a_rule_names_is_one_that_is_counted(seen: Seen) -> None:
    for selector in selectors_of_rules():
        name = selector.partition("{")[0]
        for key, values in re.findall(r'(\w+)(?:=~|!~|!=|=)"([^"]+)"', selector):
            for value in values.split("|"):
                assert seen.server.instant(f'{name}{{{key}="{value}"}}', seen.looked_at.end), (selector, value)


def test_no_rule_fails(seen: Seen) -> None:
    rules = [rule for group in seen.server.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"]: rule["lastError"] for rule in rules if rule.get("lastError")} == {}
    assert {rule["health"] for rule in rules} == {"ok"}


def test_the_verdict_is_a_word_of_the_contract(seen: Seen) -> None:
    states = {float(series["value"][1]) for series in seen.server.instant(verdict.VERDICT)}
    assert states <= {float(state) for state in verdict.STATES.values()}
    assert len(states) == 1


def test_what_the_log_panels_ask_for_is_in_the_demo_s_log(seen: Seen, boards: list[dict[str, Any]]) -> None:
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


def test_what_the_trace_panel_asks_for_is_on_the_spans(boards: list[dict[str, Any]]) -> None:
    signals = Signals()
    asyncio.run(everything_once(signals.telemetry()))
    asked = [query for board in boards for panel in panels(board) for query in queries(panel, "tempo")]
    assert asked
    for query in asked:
        name = re.search(r'name = "([^"]+)"', query)
        assert name is not None
        found = [span for span in signals.exporter.get_finished_spans() if span.name == name[1]]
        assert found
        assert set(re.findall(r"span\.([\w.]+)", query)) <= set(found[0].attributes or {})
