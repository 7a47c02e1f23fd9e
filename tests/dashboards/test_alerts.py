"""The alerts, each by promtool: they fire when they must, and nothing else does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dashboards.loading import rules
from dashboards.prometheus import RULES
from tests.dashboards.cases import CASES
from tests.dashboards.edges import DAYS
from tests.support.promtool import job_of, moments_of, promtool, reports

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
"""Operators route and silence alerts by these names."""


@pytest.mark.server
def test_promtool_accepts_the_rules() -> None:
    assert promtool("check", "rules", "--lint-fatal", str(RULES)) == ""


def test_every_alert_has_its_name_severity_and_duration() -> None:
    assert {alert["alert"]: (alert["labels"]["severity"], alert["for"]) for alert in rules("alert")} == CONTRACT


def test_every_alert_has_its_texts_and_a_link() -> None:
    for alert in rules("alert"):
        annotations = alert["annotations"]
        assert isinstance(annotations, dict)
        assert set(annotations) == {"summary", "description", "runbook_url"}
        assert all(annotations.values())


def test_every_alert_fires_in_some_case() -> None:
    fired = {f"Jwt{alert}" for _, moments in CASES.values() for _, alerts in moments_of(moments) for alert in alerts}
    assert fired == set(CONTRACT)


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """promtool's report on each case; two runs at once."""
    halves = dict(list(CASES.items())[::2]), dict(list(CASES.items())[1::2])
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(lambda cases: reports(cases, tmp_path_factory.mktemp("cases")), halves)
    return {**first, **second}


@pytest.mark.server
@pytest.mark.parametrize("job", list(map(job_of, CASES)))
def test_the_expected_alerts_fire_and_no_others(job: str, reported: dict[str, str]) -> None:
    assert reported[job] == ""


@pytest.mark.server
def test_rules_that_look_back_a_day(tmp_path: Path) -> None:
    assert set(reports(DAYS, tmp_path, interval="10m").values()) == {""}
