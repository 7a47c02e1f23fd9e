"""The simulator: a queue of events, a clock that jumps from one to the next, and the real code that handles each.

It is deterministic: the same plan gives the same samples. Identifiers and signatures differ, and are in no sample.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Final

import structlog

from ..loading import load
from .openmetrics import UP, Segment, Segments, Series, write
from .process import Process
from .scenarios import BEFORE, SCENARIOS, Deploy
from .site import Minted, Site, visits
from .world import HOUR, SimulatedClock, World, world_of

MONDAY: Final = datetime(2026, 11, 2, tzinfo=UTC)
ROLLING: Final = 300.0
"""Seconds between the restarts of two instances."""
_VERIFY_EVERY: Final = 3 * HOUR
_NO_TOKEN_EVERY: Final = 600.0
_FORGED_TOKEN_EVERY: Final = 2_400.0

Event = Callable[..., Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to simulate.

    Raises:
        ValueError: A value is out of range; one line that says which range.
    """

    scenario: str = "happy"
    days: float | None = None
    """None: as many as the scenario takes."""
    users: int = 2_000
    instances: int = 3
    every: int = 120
    """Seconds between two scrapes of one instance."""
    seed: int = 1
    start: datetime = MONDAY
    job: str = "demo"

    def __post_init__(self) -> None:
        if self.scenario not in SCENARIOS:
            raise ValueError(f"--scenario must be one of {', '.join(SCENARIOS)}")
        if not 0 < self.length <= 31:
            raise ValueError("--days must be above 0 and at most 31")
        if not 1 <= self.users <= 100_000:
            raise ValueError("--users must be between 1 and 100000")
        if not 1 <= self.instances <= 10:
            raise ValueError("--instances must be between 1 and 10")
        if not 15 <= self.every <= 300:
            raise ValueError("--every must be between 15s and 5m")

    @property
    def length(self) -> float:
        """Days."""
        return SCENARIOS[self.scenario].days if self.days is None else self.days


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """The samples that were scraped, and what no scrape shows: every token."""

    plan: Plan
    start: float
    end: float
    """Start and end in seconds since the epoch."""
    segments: Segments = field(repr=False)
    minted: tuple[Minted, ...] = field(repr=False)
    """Every token that was minted."""
    requests: int


def simulate(plan: Plan) -> Simulation:
    """Run a simulation. Blocks, and silences structlog meanwhile."""
    with _without_logs():
        return asyncio.run(_Simulator(plan).run())


def simulate_into(plan: Plan, database: Path) -> Simulation:
    """Run a simulation and load its samples into the database of a Prometheus; the result has none of them."""
    simulation = simulate(plan)
    text = database.with_name(f"{plan.job}.openmetrics")
    with text.open("w", encoding="utf-8") as out:
        write(out, [simulation.segments])
    load(text, database)
    text.unlink()
    return replace(simulation, segments={})


class _Simulator:
    """The queue of events; :class:`Site` handles them."""

    def __init__(self, plan: Plan) -> None:
        self._plan: Final = plan
        self._random: Final = Random(plan.seed)
        self._start: Final = plan.start.timestamp()
        self._end: Final = self._start + plan.length * 24 * HOUR
        scenario = SCENARIOS[plan.scenario]
        self._earlier: Final = max(scenario.window, (scenario.issuer and scenario.issuer.lifetime) or 0) * HOUR
        """Seconds before the start in which every user has logged in."""
        self._clock: Final = SimulatedClock(self._start - self._earlier)
        self._world: Final[World] = world_of(scenario, self._start, self._clock, Random(plan.seed + 1))
        first = next(deploy for deploy in scenario.deploys if deploy.at == BEFORE)
        self._site: Final = Site(self._world, self._random, users=plan.users, instances=plan.instances, deploy=first)
        self._numbers: Final = count()
        self._heap: Final[list[tuple[float, int, Event, tuple[Any, ...]]]] = []
        self._processes: Final[list[list[Process]]] = [[process] for process in self._site.processes]

    async def run(self) -> Simulation:
        self._schedule_everything()
        while self._heap and self._heap[0][0] < self._end:
            at, _, event, arguments = heappop(self._heap)
            self._clock.reach(at)
            await event(*arguments)
        await self._site.aclose()
        return Simulation(
            plan=self._plan,
            start=self._start,
            end=self._end,
            segments=self._segments(),
            minted=tuple(self._site.minted),
            requests=self._site.requests,
        )

    def _schedule_everything(self) -> None:
        plan, scenario, moment = self._plan, self._world.scenario, self._world.moment
        for user in range(plan.users):
            self._schedule(self._start - self._random.random() * self._earlier, self._site.log_in, user)
        for hours, user in visits(self._random, plan.users, min(plan.length, scenario.quiet_after / 24)):
            self._schedule(moment(hours), self._arrive, user, self._random.randint(1, 6))
        for instance in range(plan.instances):
            self._schedule(self._start + instance * (plan.every // plan.instances), self._scrape, instance)
            for deploy in scenario.deploys:
                if deploy.at != BEFORE:
                    self._schedule(moment(deploy.at) + instance * ROLLING, self._restart, instance, deploy)
            for hours in scenario.restarts:
                self._schedule(moment(hours) + instance * ROLLING, self._restart, instance, None)
        self._schedule(self._start, self._repeat, self._site.without_token, _NO_TOKEN_EVERY)
        self._schedule(self._start, self._repeat, self._site.with_a_forged_token, _FORGED_TOKEN_EVERY)

    def _schedule(self, at: float, event: Event, *arguments: Any) -> None:
        heappush(self._heap, (at, next(self._numbers), event, arguments))

    async def _arrive(self, user: int, pages: int) -> None:
        await self._site.arrive(user)
        self._schedule_next_page(user, pages - 1)

    async def _turn_page(self, user: int, pages: int) -> None:
        if pages == 0:
            await self._site.leave(user)
            return
        await self._site.turn_page(user)
        self._schedule_next_page(user, pages - 1)

    def _schedule_next_page(self, user: int, pages: int) -> None:
        self._schedule(self._clock.now() + self._random.uniform(4, 15), self._turn_page, user, pages)

    async def _repeat(self, event: Event, pause: float) -> None:
        if self._clock.now() < self._world.moment(self._world.scenario.quiet_after):
            await event()
            self._schedule(self._clock.now() + pause, self._repeat, event, pause)

    async def _restart(self, instance: int, deploy: Deploy | None) -> None:
        self._processes[instance].append(await self._site.restart(instance, deploy))

    async def _scrape(self, instance: int) -> None:
        """Scrape once, except in a gap; every three hours one of the instances is compared with the SDK, in turn."""
        await asyncio.sleep(0)  # background tasks of the middleware run now
        now = self._clock.now()
        self._schedule(now + self._plan.every, self._scrape, instance)
        gap = self._world.scenario.gap
        if gap is not None and self._world.moment(gap[0]) <= now < self._world.moment(gap[1]):
            return
        process = self._site.processes[instance]
        process.scrape(now)
        turn, within = divmod(now - self._start, _VERIFY_EVERY)
        if within < self._plan.every and turn % self._plan.instances == instance:
            process.verify()

    def _segments(self) -> Segments:
        segments: dict[Series, list[Segment]] = {}
        for number, processes in enumerate(self._processes):
            labels = (("job", self._plan.job), ("instance", f"app-{number + 1}:8000"))
            for process in processes:
                times = [f"{at:.16g}" for at in process.times]
                segments.setdefault(UP.labelled(labels), []).append(Segment(times, [1.0] * len(times)))
                for series, values in process.series():
                    segments.setdefault(series.labelled(labels), []).append(Segment(times, values))
        return segments


@contextmanager
def _without_logs() -> Iterator[None]:
    """Half a million requests would write as many log events."""
    configured = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**configured)
