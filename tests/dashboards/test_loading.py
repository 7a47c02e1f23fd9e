"""A history of one's own, in a Prometheus of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboards import loading, verdict
from dashboards.prometheus import prometheus
from dashboards.recording import recordings
from demo_app.__main__ import main as demo
from jwt_middleware import Verdict


def test_what_the_readme_says_of_a_history_leads_to_every_recorded_series(tmp_path: Path) -> None:
    text, database = tmp_path / "history.om", tmp_path / "data"
    small = ["--days", "2", "--users", "60", "--instances", "1", "--every", "5m", "--start", "2026-11-02"]
    assert demo(["history", *small, "--out", str(text)]) == 0
    assert loading.main([str(text), str(database)]) == 0
    with prometheus(tmp_path, data=database) as server:
        end = 1_793_577_600 + 2 * 86_400 - 600
        found = {series["metric"]["__name__"] for series in server.instant('{__name__=~"jwt_middleware:.+"}', end)}
        [said] = server.instant(verdict.VERDICT, end)
    assert found == set(recordings())
    assert int(said["value"][1]) == verdict.STATES[Verdict.DRAINING]


def test_a_missing_argument_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert loading.main(["history.om"]) == 2
    assert capsys.readouterr().err == "usage: python -m dashboards.loading FILE DIRECTORY\n"


def test_a_file_that_is_no_openmetrics_is_refused_in_promtool_s_words(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("nonsense\n")
    with pytest.raises(RuntimeError, match="expected value after metric"):
        loading.main([str(tmp_path / "text"), str(tmp_path / "data")])
