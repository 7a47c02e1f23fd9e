"""The panels of the dashboards over a whole migration, from a real Prometheus, in the light and in the dark."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from dashboards.loading import record
from dashboards.prometheus import prometheus

from ..history.blocks import store
from ..history.simulation import Plan
from .asking import Shown, ask
from .drawing import draw
from .themes import DARK, LIGHT

PLAN: Final = Plan(days=10, users=10_000)
"""A day more than the history needs: what comes after the sunset is to be seen."""
NAMES: Final = {"light": "panels.png", "dark": "panels-dark.png"}


def take(directory: Path, plan: Plan = PLAN) -> None:
    """Live through the days of a plan, and draw them."""
    save(_lived_through(plan), directory)


def save(shown: Shown, directory: Path) -> None:
    """Both pictures."""
    draw(shown, LIGHT, directory / NAMES["light"])
    draw(shown, DARK, directory / NAMES["dark"])


def _lived_through(plan: Plan) -> Shown:
    with tempfile.TemporaryDirectory() as away:
        database = Path(away) / "tsdb"
        history = store(plan, database)
        record(database, start=history.start, end=history.end)
        with prometheus(Path(away), data=database) as server:
            return ask(server, start=history.start, end=history.end)
