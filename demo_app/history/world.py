"""What the processes of a history share: the clock, keys, a directory of people, a table of sessions."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from random import Random
from typing import Any, Final, NamedTuple

from jwt_middleware import Key, KeyRing, MemorySessionStore, source
from jwt_middleware.protocols import ClaimsSource, Clock, SessionStore
from jwt_middleware.types import SessionKey, SessionStatus

from ..database import email_of
from .scenarios import Scenario

HOUR: Final = 3_600.0
KID: Final = "demo"
QUERY: Final = (-6.2, 0.7)
"""The logarithm of the seconds of a query, mean and deviation: 2 ms, a few of them 10."""


class SimulatedClock:
    """Both clocks are one, and move only by what happens."""

    def __init__(self, at: float) -> None:
        self._at = at

    def now(self) -> float:
        return self._at

    def monotonic(self) -> float:
        return self._at

    def reach(self, at: float) -> None:
        """Never back: what took longer than planned makes the next thing late."""
        self._at = max(self._at, at)

    def spend(self, seconds: float) -> None:
        self._at += seconds


class SlowStore(MemorySessionStore):
    """The table of sessions, and the time a query of it takes."""

    def __init__(self, clock: SimulatedClock, random: Random) -> None:
        super().__init__(clock=clock)
        self._simulated: Final = clock
        self._random: Final = random

    async def statuses(self, keys: Collection[SessionKey]) -> Mapping[SessionKey, SessionStatus]:
        self._simulated.spend(self._random.lognormvariate(*QUERY))
        return await super().statuses(keys)


class World(NamedTuple):
    """What all processes share."""

    scenario: Scenario
    start: float
    """Seconds since the epoch: where the scenario's hours begin."""
    clock: Clock
    keys: KeyRing
    sources: tuple[ClaimsSource, ...]
    """The first for what version 2 of the payload added, the second for version 3."""
    store: SessionStore

    def moment(self, hours: float) -> float:
        return self.start + hours * HOUR


def world_of(scenario: Scenario, start: float, clock: SimulatedClock, random: Random) -> World:
    """A world at its beginning."""
    return World(
        scenario=scenario,
        start=start,
        clock=clock,
        keys=KeyRing([Key.hmac(secrets.token_urlsafe(64), kid=KID)]),
        sources=_directory(clock, random),
        store=SlowStore(clock, random),
    )


def _directory(clock: SimulatedClock, random: Random) -> tuple[ClaimsSource, ...]:
    @source("email", require_row=True)
    async def emails(people: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
        clock.spend(random.lognormvariate(*QUERY))
        return {person: {"email": email_of(int(person))} for person in people}

    @source("locale")
    async def locales(people: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
        clock.spend(random.lognormvariate(*QUERY))
        return {person: {"locale": "de"} for person in people}

    return emails, locales
