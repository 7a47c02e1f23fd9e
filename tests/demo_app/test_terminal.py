"""The figures in a terminal."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from demo_app.terminal import clock, line, share, table
from demo_app.watch import Figures
from jwt_middleware import Verdict
from tests.support.world import EPOCH

FIGURES = Figures(
    at=EPOCH + 200,
    requests=12,
    accepted=11,
    per_second=2.0,
    old_share=0.0,
    fallbacks=4,
    fallback_rate=0.0,
    last_fallback=EPOCH + 150,
    expired=1,
    refused=0,
    planned_sunset=EPOCH + 180,
    latest_expiry=EPOCH + 178,
    sunset=EPOCH + 180,
    queries=2,
    verdict=Verdict.DRAINED,
)


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.0, "0 %"), (0.004, "< 1 %"), (0.374, "37 %"), (1.0, "100 %")]
)
def test_a_share_above_zero_is_never_shown_as_zero(value: float | None, text: str) -> None:
    assert share(value) == text


def test_a_line_has_the_figures_and_the_verdict() -> None:
    text = line(FIGURES)
    assert "requests 12  old 0 %  fallback 0 %  refused 0 (expired 1)" in text
    assert text.endswith("drained: the fallback can be deleted")
    assert clock(None) == "-"


def shown(verdict: Verdict) -> str:
    written = io.StringIO()
    Console(file=written, width=100).print(table(replace(FIGURES, verdict=verdict, fallback_rate=0.5), EPOCH))
    return written.getvalue()


def test_the_view_shows_every_figure() -> None:
    view = shown(Verdict.DRAINING)
    for name in ("release", "requests", "old share", "fallback rate", "refusals", "sunset", "verdict"):
        assert name in view
    assert "50 %  ████████████████████ " in view
    assert "can be deleted" not in view


def test_the_view_says_when_the_old_payload_is_gone() -> None:
    assert "The old payload is gone: the fallback can be deleted. Ctrl-C ends the demo." in shown(Verdict.DRAINED)
