"""Simulated days in a real Prometheus: run, load, and ask when alerts would have fired."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from dashboards.loading import record, rules
from dashboards.prometheus import Server, prometheus
from dashboards.simulation.process import LEEWAY
from dashboards.simulation.scenarios import DAY, RELEASE, SCENARIOS
from dashboards.simulation.simulator import Plan, Simulation, simulate_into
from dashboards.simulation.world import HOUR
from dashboards.verdict import STATES, VERDICT
from jwt_middleware import Verdict

SMALL: Final = Plan(users=200, instances=1, every=150)
TWO: Final = replace(SMALL, instances=2)
"""For scenarios in which one instance restarts after the other."""
SIZES: Final[Mapping[str, Plan]] = {
    "happy": Plan(users=1_000, instances=2),
    "forgotten-issuer": replace(SMALL, users=500),
    **dict.fromkeys(("rollback", "overlapping", "restarts"), TWO),
}
SUPERSEDED: Final = RELEASE + 1 + LEEWAY / HOUR
"""Hours from the start to the change, after an hour of rollout."""
SUNSET: Final = SUPERSEDED + 7 * DAY
JUDGED_EVERY: Final = 150
WORDS: Final = {state: verdict for verdict, state in STATES.items()}


@dataclass(frozen=True)
class Days:
    """One simulation; its samples are in the database under a job of the scenario's name."""

    simulation: Simulation

    def moment(self, hours: float) -> float:
        return self.simulation.start + hours * HOUR

    def hour(self, at: float) -> float:
        return (at - self.simulation.start) / HOUR

    def valid_tokens(self, version: int, at: float) -> int:
        """How many tokens of that version would be accepted, no matter which issuer minted them."""
        return sum(
            token.version == version and token.at <= at < token.expires_at + LEEWAY for token in self.simulation.minted
        )


@dataclass(frozen=True, kw_only=True)
class Firing:
    """One alert, from its first moment to its last."""

    alert: str
    job: str
    since: float
    until: float


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """Simulations by scenario, and a Prometheus that serves them."""

    days: Mapping[str, Days]
    server: Server
    start: float
    end: float

    def value(self, expr: str, at: float) -> float:
        [series] = self.server.instant(expr, at)
        return float(series["value"][1])

    def verdicts(self, scenario: str) -> dict[int, list[tuple[float, Verdict]]]:
        """The verdict on each version, at each hour that has one."""
        simulation = self.days[scenario].simulation
        query = f'{VERDICT}{{job="{scenario}"}}'
        return {
            int(series["metric"]["jwt_middleware_payload_version"]): [
                (float(at), WORDS[int(state)]) for at, state in series["values"]
            ]
            for series in self.server.range(query, start=simulation.start, end=simulation.end - HOUR, step=HOUR)
        }

    def firing(self) -> list[Firing]:
        """Every alert of every job, where its condition holds at each step for as long as its rule says."""
        return [
            Firing(alert=rule["alert"], job=series["metric"].get("job", ""), since=first + hold, until=last)
            for rule in rules("alert")
            for hold in [float(rule["for"].removesuffix("m")) * 60]
            for series in self.server.range(rule["expr"], start=self.start, end=self.end, step=JUDGED_EVERY)
            for first, last in _runs(series["values"])
            if last - first >= hold
        ]


def _runs(samples: Iterable[tuple[Any, str]]) -> list[tuple[float, float]]:
    """First and last moment of each run without a missing step."""
    runs: list[tuple[float, float]] = []
    for at in (float(moment) for moment, _ in samples):
        if runs and at - runs[-1][1] <= JUDGED_EVERY:
            runs[-1] = runs[-1][0], at
        else:
            runs.append((at, at))
    return runs


@contextmanager
def simulated(scenarios: Iterable[str], directory: Path, *, without: Iterable[str] = ()) -> Iterator[Simulated]:
    """Simulate, two at a time in processes of their own; load and record; serve."""
    database = directory / "tsdb"
    plans = {name: replace(SIZES.get(name, SMALL), scenario=name, job=name) for name in scenarios}
    assert plans.keys() <= SCENARIOS.keys()
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        simulations = pool.map(simulate_into, plans.values(), [database] * len(plans))
        days = dict(zip(plans, map(Days, simulations), strict=True))
    start = min(each.simulation.start for each in days.values())
    end = max(each.simulation.end for each in days.values())
    record(database, start=start, end=end, without=without)
    with prometheus(directory, data=database) as server:
        yield Simulated(days=days, server=server, start=start, end=end)
