from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from demo_app.live import table
from jwt_middleware import Verdict
from tests.demo_app.test_account import FIGURES
from tests.support.world import EPOCH


def shown(verdict: Verdict) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(table(replace(FIGURES, verdict=verdict, fallback_rate=0.5), EPOCH))
    written = console.file
    assert isinstance(written, io.StringIO)
    return written.getvalue()


def test_the_view_shows_every_figure() -> None:
    view = shown(Verdict.DRAINING)
    for name in ("release", "requests", "old share", "fallback rate", "refusals", "sunset", "verdict"):
        assert name in view
    assert "50 %  ████████████████████ " in view
    assert "can be deleted" not in view


def test_the_view_says_when_the_old_payload_is_gone() -> None:
    assert "The old payload is gone: the fallback can be deleted. Ctrl-C ends the demo." in shown(Verdict.DRAINED)
