"""The generated files: committed as the code writes them, with the package's names, and free of linter findings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dashboards import GENERATED
from dashboards import __main__ as command
from dashboards.__main__ import files
from dashboards.promql import label, metric_name, series_names
from dashboards.queries import dashboards, panels
from dashboards.recording import recordings
from jwt_middleware import names
from tests.dashboards.linter import OF_DASHBOARDS, OF_PANELS, OF_QUERIES, Dashboard, findings, queries

GOLDEN = Path(__file__).parents[1] / "telemetry" / "scrape.txt"
TITLES = ("Payload migration", "Authentication", "Fallback cost")


def dashboard(title: str) -> Dashboard:
    [board] = [board for board in dashboards() if board["title"] == title]
    return board


def test_the_committed_files_are_those_of_the_code() -> None:
    """`make dashboards` writes them."""
    assert {path.name: path.read_text() for path in GENERATED.iterdir()} == files()


def test_the_command_writes_files_and_deletes_stale_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert len([rule for rule in {**OF_DASHBOARDS, **OF_PANELS, **OF_QUERIES} if rule.endswith("-rule")]) == 17


SELECTED = 'job=~"$job", instance=~"$instance"'


def broken_rules(board: Dashboard) -> set[str]:
    return {rule for rule, _, _ in findings(board)}


def test_the_linter_finds_a_wrong_query(subtests: pytest.Subtests) -> None:
    for rule, query in [
        ("target-job-rule", 'sum(rate(jwt_middleware_requests_total{instance=~"$instance"}[$__rate_interval]))'),
        ("target-instance-rule", 'sum(rate(jwt_middleware_requests_total{job=~"$job"}[$__rate_interval]))'),
        ("target-promql-rule", "sum(rate(jwt_middleware_requests_total[$__rate_interval]))"),
        ("target-counter-agg-rule", f"sum(jwt_middleware_requests_total{{{SELECTED}}})"),
        ("target-rate-interval-rule", f"sum(rate(jwt_middleware_requests_total{{{SELECTED}}}[5m]))"),
    ]:
        with subtests.test(rule=rule):
            board = dashboard("Authentication")
            board["panels"][2]["targets"][0]["expr"] = query
            assert rule in broken_rules(board)


def test_the_linter_finds_wrong_panels() -> None:
    board = dashboard("Authentication")
    _, figure, panel, beside = board["panels"][:4]
    figure["fieldConfig"]["defaults"]["unit"] = "reqps"
    panel["fieldConfig"]["defaults"]["unit"] = "furlongs"
    panel["datasource"]["uid"] = "prom-1"
    beside["gridPos"], beside["id"] = panel["gridPos"], panel["id"]
    wrong = {"unit fits", "panel-units-rule", "panel-datasource-rule", "no overlap", "unique ids"}
    assert wrong <= broken_rules(board)


def scraped() -> dict[str, set[str]]:
    """Names and labels of the golden scrape."""
    found: dict[str, set[str]] = {}
    for line in GOLDEN.read_text().splitlines():
        if line.startswith("#"):
            continue
        name = re.split(r"[{ ]", line, maxsplit=1)[0]
        found.setdefault(name, set()).update(re.findall(r"(\w+)=\"", line))
    return found


def test_names_are_those_of_the_exporter() -> None:
    only_where_configured = {metric_name(each) for each in (names.JWKS_FETCHES, names.JWKS_LAST_SUCCESS, names.KEY_END)}
    ours = {series: metric for metric in names.METRICS for series in series_names(metric)}
    assert set(ours) - only_where_configured == set(scraped())
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


def test_moments_are_in_milliseconds() -> None:
    board = dashboard("Payload migration")
    annotations = board["annotations"]["list"]
    assert [each["name"] for each in annotations] == ["Change", "Planned sunset", "Latest expiry seen"]
    assert all(each["useValueForTime"] and each["expr"].endswith("* 1000") for each in annotations)
    moments = [
        panel
        for title in TITLES
        for panel in panels(dashboard(title))
        if panel["fieldConfig"]["defaults"].get("unit", "").startswith("dateTime")
    ]
    assert len(moments) == 5
    assert all(query.endswith("* 1000") for panel in moments for query in queries(panel))


def test_dashboards_lead_to_each_other_and_to_the_runbook() -> None:
    for title in TITLES:
        links = {link["title"]: link for link in dashboard(title)["links"]}
        assert links["Session dashboards"]["tags"] == dashboard(title)["tags"]
        assert links["Runbook"]["url"]


def test_the_answer_comes_first() -> None:
    board = dashboard("Payload migration")
    assert [panel["title"] for panel in board["panels"][:2]] == ["Is it going well?", "Verdict"]
    assert board["time"] == {"from": "now-8d", "to": "now"}
