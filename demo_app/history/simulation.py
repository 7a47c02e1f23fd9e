"""The days themselves: one event after the other, the clock set to each, everything they cause done by the real code.

Deterministic: the same settings give the same figures. Identifiers and signatures differ, and are in no figure.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, Final

import structlog

from .openmetrics import UP, Segment, Segments
from .people import visits
from .process import Process
from .readings import Series
from .scenarios import BEFORE, SCENARIOS, Deploy
from .site import Minted, Site
from .world import HOUR, SimulatedClock, World, world_of

MONDAY: Final = datetime(2026, 11, 2, tzinfo=UTC)
ROLLING: Final = 300.0
"""Seconds between the restarts of two instances."""
_VERIFIED: Final = 3 * HOUR
_STRANGERS: Final = 600.0
_FORGERS: Final = 2_400.0

Act = Callable[..., Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to simulate.

    Raises:
        ValueError: A value that cannot work, in one line that says how to mend it.
    """

    scenario: str = "happy"
    days: float | None = None
    """None: as many as the scenario needs to end."""
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
class History:
    """What was scraped, and what nobody scrapes: the truth."""

    plan: Plan
    start: float
    end: float
    """Seconds since the epoch."""
    segments: Segments = field(repr=False)
    minted: tuple[Minted, ...] = field(repr=False)
    """Every token there ever was."""
    requests: int


def simulate(plan: Plan) -> History:
    """Let those days happen. Blocks, and sets structlog for that time."""
    with _silently():
        return asyncio.run(_Simulation(plan).run())


class _Simulation:
    """Events in a heap; what they do to the site is in :mod:`demo_app.history.site`."""

    def __init__(self, plan: Plan) -> None:
        self._plan: Final = plan
        self._random: Final = Random(plan.seed)
        self._start: Final = plan.start.timestamp()
        self._end: Final = self._start + plan.length * 24 * HOUR
        scenario = SCENARIOS[plan.scenario]
        self._earlier: Final = max(scenario.window, (scenario.issuer and scenario.issuer.lifetime) or 0) * HOUR
        """Seconds: everybody logged in at some time of those."""
        self._clock: Final = SimulatedClock(self._start - self._earlier)
        self._world: Final[World] = world_of(scenario, self._start, self._clock, Random(plan.seed + 1))
        first = next(deploy for deploy in scenario.deploys if deploy.at == BEFORE)
        self._site: Final = Site(self._world, self._random, users=plan.users, instances=plan.instances, deploy=first)
        self._numbers: Final = count()
        self._heap: Final[list[tuple[float, int, Act, tuple[Any, ...]]]] = []
        self._processes: Final[list[list[Process]]] = [[process] for process in self._site.processes]

    async def run(self) -> History:
        self._plan_everything()
        while self._heap and self._heap[0][0] < self._end:
            at, _, act, arguments = heappop(self._heap)
            self._clock.reach(at)
            await act(*arguments)
        await self._site.aclose()
        return History(
            plan=self._plan,
            start=self._start,
            end=self._end,
            segments=self._segments(),
            minted=tuple(self._site.minted),
            requests=self._site.requests,
        )

    def _plan_everything(self) -> None:
        plan, scenario, moment = self._plan, self._world.scenario, self._world.moment
        for person in range(plan.users):
            self._at(self._start - self._random.random() * self._earlier, self._site.log_in, person)
        for hours, person in visits(self._random, plan.users, min(plan.length, scenario.quiet_after / 24)):
            self._at(moment(hours), self._arrive, person, self._random.randint(1, 6))
        for instance in range(plan.instances):
            self._at(self._start + instance * (plan.every // plan.instances), self._scrape, instance)
            for deploy in scenario.deploys:
                if deploy.at != BEFORE:
                    self._at(moment(deploy.at) + instance * ROLLING, self._restart, instance, deploy)
            for hours in scenario.restarts:
                self._at(moment(hours) + instance * ROLLING, self._restart, instance, None)
        self._at(self._start, self._stranger, self._site.without_token, _STRANGERS)
        self._at(self._start, self._stranger, self._site.with_a_forged_token, _FORGERS)

    def _at(self, at: float, act: Act, *arguments: Any) -> None:
        heappush(self._heap, (at, next(self._numbers), act, arguments))

    async def _arrive(self, person: int, pages: int) -> None:
        await self._site.arrive(person)
        self._soon(person, pages - 1)

    async def _turn_page(self, person: int, pages: int) -> None:
        if pages == 0:
            await self._site.leave(person)
            return
        await self._site.turn_page(person)
        self._soon(person, pages - 1)

    def _soon(self, person: int, pages: int) -> None:
        self._at(self._clock.now() + self._random.uniform(4, 15), self._turn_page, person, pages)

    async def _stranger(self, act: Act, pause: float) -> None:
        if self._clock.now() < self._world.moment(self._world.scenario.quiet_after):
            await act()
            self._at(self._clock.now() + pause, self._stranger, act, pause)

    async def _restart(self, instance: int, deploy: Deploy | None) -> None:
        self._processes[instance].append(await self._site.restart(instance, deploy))

    async def _scrape(self, instance: int) -> None:
        """One scrape; now and then, of one instance after the other, it is held against what the SDK says."""
        await asyncio.sleep(0)  # what goes on in the background has its turn
        now = self._clock.now()
        self._at(now + self._plan.every, self._scrape, instance)
        gap = self._world.scenario.gap
        if gap is not None and self._world.moment(gap[0]) <= now < self._world.moment(gap[1]):
            return
        process = self._site.processes[instance]
        process.scrape(now)
        turn, within = divmod(now - self._start, _VERIFIED)
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
def _silently() -> Iterator[None]:
    """The log of half a million requests is of no use to anybody."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)
