"""Histories, simulated in processes of their own and loaded as blocks; every scenario is a job of its name."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from demo_app.history.blocks import store
from demo_app.history.process import LEEWAY
from demo_app.history.scenarios import SCENARIOS
from demo_app.history.simulation import History, Plan
from demo_app.history.world import HOUR

SMALL: Final = Plan(users=200, instances=1, every=150)
SIZES: Final[Mapping[str, Plan]] = {
    "happy": Plan(users=1_000, instances=2),
    "forgotten-issuer": replace(SMALL, users=500),
    **{name: replace(SMALL, instances=2) for name in ("rollback", "overlapping", "restarts")},
}
"""Two instances where it matters that one is restarted after the other."""
PLANS: Final[Mapping[str, Plan]] = {
    name: replace(SIZES.get(name, SMALL), scenario=name, job=name) for name in SCENARIOS
}


@dataclass(frozen=True)
class Told:
    """A history without its samples, which are in the database now."""

    history: History

    def moment(self, hours: float) -> float:
        return self.history.start + hours * HOUR

    def hour(self, at: float) -> float:
        return (at - self.history.start) / HOUR

    def alive(self, version: int, at: float) -> int:
        """How many tokens of that version would be accepted, whoever minted them and whoever has seen them."""
        return sum(
            token.version == version and token.at <= at < token.expires_at + LEEWAY for token in self.history.minted
        )


def tell(scenarios: Iterable[str], database: Path) -> dict[str, Told]:
    """Simulate and load, two at a time."""
    names = list(scenarios)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        histories = pool.map(store, [PLANS[name] for name in names], [database] * len(names))
        return dict(zip(names, map(Told, histories), strict=True))
