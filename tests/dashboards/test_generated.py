"""What is committed is what the code writes; names are the package's; every dashboard passes the linter."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from dashboards import GENERATED
from dashboards import __main__ as command
from dashboards.__main__ import files
from dashboards.promql import label, metric_name, series_names
from dashboards.queries import panels
from dashboards.recording import recordings
from jwt_middleware import names
from tests.dashboards.linter import OF_DASHBOARDS, OF_PANELS, Dashboard, findings, queries

GOLDEN = Path(__file__).parents[1] / "telemetry" / "scrape.txt"
TITLES = ("Payload migration", "Authentication", "Fallback cost")


def dashboard(title: str) -> Dashboard:
    loaded = [json.loads(path.read_text()) for path in GENERATED.glob("*.json")]
    found: Dashboard = next(each for each in loaded if each["title"] == title)
    return found


def test_what_is_committed_is_what_the_code_writes() -> None:
    """`python -m dashboards` (or `make dashboards`) writes it anew."""
    assert {path.name: path.read_text() for path in GENERATED.iterdir()} == files()


def test_the_command_writes_anew_and_takes_away_what_is_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "GENERATED", tmp_path)
    (tmp_path / "jwt-of-old.json").touch()
    assert command.main() == 0
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files()


def test_the_same_code_writes_the_same_text_twice() -> None:
    assert files() == files()


@pytest.mark.parametrize("title", TITLES)
def test_a_dashboard_passes_the_linter(title: str) -> None:
    assert findings(dashboard(title)) == []


def test_there_are_the_seventeen_rules_of_the_linter() -> None:
    assert len([rule for rule in {**OF_DASHBOARDS, **OF_PANELS} if rule.endswith("-rule")]) == 17


def _of_any_job(board: Any) -> None:
    target = board["panels"][2]["targets"][0]
    target["expr"] = target["expr"].replace('job=~"$job", ', "")


def _of_any_instance(board: Any) -> None:
    target = board["panels"][2]["targets"][0]
    target["expr"] = target["expr"].replace(', instance=~"$instance"', "")


def _unselected(board: Any) -> None:
    board["panels"][2]["targets"][0]["expr"] = "sum(rate(jwt_middleware_requests_total[$__rate_interval]))"


def _bare_counter(board: Any) -> None:
    panel = board["panels"][2]
    panel["targets"][0]["expr"] = 'sum(jwt_middleware_requests_total{job=~"$job", instance=~"$instance"})'


def _fixed_range(board: Any) -> None:
    expr = 'sum(rate(jwt_middleware_requests_total{job=~"$job", instance=~"$instance"}[5m]))'
    board["panels"][2]["targets"][0]["expr"] = expr


def _on_top(board: Any) -> None:
    board["panels"][3]["gridPos"] = dict(board["panels"][2]["gridPos"])


def _same_id(board: Any) -> None:
    board["panels"][3]["id"] = board["panels"][2]["id"]


def _a_count_as_a_rate(board: Any) -> None:
    board["panels"][1]["fieldConfig"]["defaults"]["unit"] = "reqps"


def _no_unit(board: Any) -> None:
    board["panels"][2]["fieldConfig"]["defaults"]["unit"] = "furlongs"


def _fixed_source(board: Any) -> None:
    board["panels"][2]["datasource"]["uid"] = "prom-1"


@pytest.mark.parametrize(
    ("mistake", "rule"),
    [
        (_of_any_job, "target-job-rule"),
        (_of_any_instance, "target-instance-rule"),
        (_unselected, "target-promql-rule"),
        (_bare_counter, "target-counter-agg-rule"),
        (_fixed_range, "target-rate-interval-rule"),
        (_on_top, "no overlap"),
        (_same_id, "unique ids"),
        (_no_unit, "panel-units-rule"),
        (_a_count_as_a_rate, "unit fits"),
        (_fixed_source, "panel-datasource-rule"),
    ],
)
def test_the_linter_finds_the_mistake(mistake: Any, rule: str) -> None:
    broken = copy.deepcopy(dashboard("Authentication"))
    mistake(broken)
    assert rule in {found for found, _, _ in findings(broken)}


def scraped() -> dict[str, set[str]]:
    """Names and labels of the golden scrape."""
    found: dict[str, set[str]] = {}
    for line in GOLDEN.read_text().splitlines():
        if line.startswith("#"):
            continue
        name = re.split(r"[{ ]", line, maxsplit=1)[0]
        found.setdefault(name, set()).update(re.findall(r"(\w+)=\"", line))
    return found


def test_names_are_spelled_as_the_exporter_spells_them() -> None:
    only_with_remote_keys = {metric_name(names.JWKS_FETCHES), metric_name(names.JWKS_LAST_SUCCESS)}
    ours = {series: metric for metric in names.METRICS for series in series_names(metric)}
    assert set(ours) - only_with_remote_keys == set(scraped())
    for name, labels in scraped().items():
        assert labels - {"le"} == {label(attribute) for attribute in ours[name].attributes}


def test_every_metric_is_shown_or_alerted_on() -> None:
    everything = "\n".join(files().values())
    assert [metric.name for metric in names.METRICS if metric_name(metric) not in everything] == []


def test_nothing_matches_on_the_scope() -> None:
    assert "otel_scope" not in "\n".join(files().values())


@pytest.mark.parametrize("title", TITLES)
def test_every_recorded_series_that_is_read_is_recorded(title: str) -> None:
    read = {
        name
        for panel in panels(dashboard(title))
        for query in queries(panel)
        for name in re.findall(r"jwt_middleware:[\w:]+", query)
    }
    assert read <= set(recordings())


def test_moments_are_told_to_grafana_in_milliseconds() -> None:
    board = dashboard("Payload migration")
    annotations = board["annotations"]["list"]
    assert [each["name"] for each in annotations] == ["Change", "Planned sunset", "Latest expiry seen"]
    assert all(each["useValueForTime"] and each["expr"].endswith("* 1000") for each in annotations)
    for panel in panels(board):
        if panel["fieldConfig"]["defaults"].get("unit", "").startswith("dateTime"):
            assert all(query.endswith("* 1000") for query in queries(panel))


def test_dashboards_lead_to_each_other_and_to_the_runbook() -> None:
    for title in TITLES:
        links = {link["title"]: link for link in dashboard(title)["links"]}
        assert links["Session dashboards"]["tags"] == dashboard(title)["tags"]
        assert links["Runbook"]["url"]


def test_the_answer_comes_first() -> None:
    board = dashboard("Payload migration")
    assert [panel["title"] for panel in board["panels"][:2]] == ["Is it going well?", "Verdict"]
    assert board["time"] == {"from": "now-8d", "to": "now"}
