"""A history simulated straight into the database of a Prometheus."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dashboards.loading import load

from .openmetrics import write
from .simulation import History, Plan, simulate


def store(plan: Plan, database: Path) -> History:
    """Simulate and load; what comes back is without its samples, which are in the database now."""
    history = simulate(plan)
    text = database.with_name(f"{plan.job}.openmetrics")
    with text.open("w", encoding="utf-8") as out:
        write(out, [history.segments])
    load(text, database)
    text.unlink()
    return replace(history, segments={})
