"""Loading simulated days into a Prometheus, by the commands of the README."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboards import loading, verdict
from dashboards.prometheus import prometheus
from dashboards.recording import recordings
from dashboards.simulation.__main__ import main as simulation
from jwt_middleware import Verdict

pytestmark = pytest.mark.server


def test_the_readme_s_commands_lead_to_every_recorded_series(tmp_path: Path) -> None:
    text, database = tmp_path / "days.om", tmp_path / "data"
    small = ["--days", "2", "--users", "60", "--instances", "1", "--every", "5m", "--start", "2026-11-02"]
    assert simulation([*small, "--out", str(text)]) == 0
    assert loading.main([str(text), str(database)]) == 0
    with prometheus(tmp_path, data=database) as server:
        end = 1_793_577_600 + 2 * 86_400 - 600
        recorded = {each["metric"]["__name__"] for each in server.instant('{__name__=~"jwt_middleware:.+"}', end)}
        [series] = server.instant(verdict.VERDICT, end)
    assert recorded == set(recordings())
    assert int(series["value"][1]) == verdict.STATES[Verdict.DRAINING]


def test_a_missing_argument_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert loading.main(["days.om"]) == 2
    assert capsys.readouterr().err == "usage: python -m dashboards.loading FILE DIRECTORY\n"


def test_a_malformed_file_is_refused_with_promtool_s_message(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("nonsense\n")
    with pytest.raises(RuntimeError, match="expected value after metric"):
        loading.main([str(tmp_path / "text"), str(tmp_path / "data")])
