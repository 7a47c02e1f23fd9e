"""The runbook: a section for each alert, and valid queries."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from dashboards.alerts import ALERTS, SIGNED
from dashboards.promql import series_names
from dashboards.recording import recordings
from dashboards.rules import RUNBOOK, text
from jwt_middleware import names
from tests.support.promtool import ROOT, promtool

TEXT = (ROOT / "dashboards" / "runbook.md").read_text()
QUERIES = re.findall(r"```promql\n(.*?)\n```", TEXT, re.DOTALL)


def sections() -> dict[str, str]:
    parts = re.split(r"^#{2,3} (.+)$", TEXT, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("alert", [alert.name for alert in ALERTS])
def test_every_alert_has_a_section_with_a_check_and_an_action(alert: str) -> None:
    section = sections()[alert]
    severity = next(each.severity for each in ALERTS if each.name == alert)
    assert section.strip().startswith(f"{severity.capitalize()}. ")
    assert "\nConfirm:" in section
    assert "```promql" in section
    assert "\nDo: " in section


def test_every_section_is_of_an_existing_alert() -> None:
    assert {title for title in sections() if title.startswith("Jwt")} == {alert.name for alert in ALERTS}


def test_the_link_of_an_alert_leads_to_its_section() -> None:
    links = re.findall(r"runbook_url: (\S+)", text())
    assert links == [f"{RUNBOOK}#{alert.name.lower()}" for alert in ALERTS]


def test_the_section_of_signed_tokens_asks_for_every_reason_of_its_alert_and_explains_it() -> None:
    section = sections()["JwtSignedTokensRefused"]
    assert f'error_type=~"{"|".join(SIGNED)}"' in section
    assert [reason for reason in SIGNED if f"`{reason}`" not in section.split("\nDo: ")[1]] == []


@pytest.mark.server
def test_every_query_is_promql(tmp_path: Path) -> None:
    """As a recording rule, which is how promtool reads one."""
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(QUERIES)]
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "runbook", "rules": rules}]}))
    assert promtool("check", "rules", str(path)) == ""


def test_every_query_selects_existing_series() -> None:
    existing = {name for metric in names.METRICS for name in series_names(metric)} | set(recordings())
    asked = {name for query in QUERIES for name in re.findall(r"(jwt_middleware[\w:]+)\{", query)}
    assert asked
    assert asked <= existing


def test_it_names_the_limits_of_observation() -> None:
    assert "nobody has shown yet" in sections()["What observation cannot prove"]
