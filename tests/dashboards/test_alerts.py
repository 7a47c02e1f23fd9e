"""The alerts, each by promtool: they fire when they must, and nothing else does."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from dashboards.prometheus import RULES, program
from tests.dashboards.cases import CASES
from tests.dashboards.edges import DAYS
from tests.support.promtool import Case, told

CONTRACT = {
    "JwtOldPayloadStillMinted": ("ticket", "5m"),
    "JwtOldPayloadAfterSunset": ("ticket", "5m"),
    "JwtCurrentPayloadLacksClaim": ("ticket", "5m"),
    "JwtAuthenticationUnavailable": ("page", "2m"),
    "JwtInstanceUnavailable": ("ticket", "5m"),
    "JwtLookupsFailing": ("ticket", "5m"),
    "JwtBreakerOpen": ("ticket", "5m"),
    "JwtRevocationViewStale": ("page", "10m"),
    "JwtSignedTokensRefused": ("page", "5m"),
    "JwtKeysRefuseUsers": ("page", "5m"),
    "JwtNothingAccepted": ("ticket", "10m"),
    "JwtRefusalSpike": ("ticket", "15m"),
    "JwtTelemetryAbsent": ("ticket", "15m"),
    "JwtInstanceNotReporting": ("ticket", "15m"),
    "JwtTelemetryDropped": ("ticket", "5m"),
    "JwtKeySetStale": ("ticket", "10m"),
    "JwtCardinalityOverflow": ("ticket", "15m"),
}
"""Names are promises: people route and silence by them."""


def alerts() -> list[dict[str, object]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def test_the_rules_are_rules_to_prometheus() -> None:
    finished = subprocess.run(
        [program("promtool"), "check", "rules", "--lint-fatal", str(RULES)], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_every_alert_has_the_name_the_severity_and_the_patience_that_were_promised() -> None:
    assert {alert["alert"]: (alert["labels"]["severity"], alert["for"]) for alert in alerts()} == CONTRACT  # type: ignore[index] # YAML


def test_every_alert_says_what_it_is_and_where_to_read_on() -> None:
    for alert in alerts():
        annotations = alert["annotations"]
        assert isinstance(annotations, dict)
        assert set(annotations) == {"summary", "description", "runbook_url"}
        assert all(annotations.values())


def test_every_alert_is_seen_to_fire_and_to_be_silent() -> None:
    fired = {alert for case in CASES for alerts in case.fires.values() for alert in alerts}
    assert fired == set(CONTRACT)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What promtool says of each case, in two halves at once."""
    halves = CASES[::2], CASES[1::2]
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(lambda cases: told(cases, tmp_path_factory.mktemp("cases")), halves)
    return {**first, **second}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.job)
def test_alerts_fire_when_they_must_and_nothing_else_does(case: Case, said: dict[str, str]) -> None:
    assert said[case.job] == ""


def test_a_day_s_look_back_is_a_day(tmp_path: Path) -> None:
    assert set(told(DAYS, tmp_path, interval="10m").values()) == {""}
