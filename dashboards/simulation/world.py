"""What the simulated processes share: the clock, the keys, a directory of users, a table of sessions."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from random import Random
from typing import Any, Final, NamedTuple

from jwt_middleware import Key, KeyRing, MemorySessionStore, source
from jwt_middleware.protocols import ClaimsSource, Clock, SessionStore
from jwt_middleware.types import SessionKey, SessionStatus

from .scenarios import Scenario

HOUR: Final = 3_600.0
KID: Final = "demo"
FORMER_KID: Final = "demo-2025"
QUERY: Final = (-6.2, 0.7)
"""Mean and deviation of the logarithm of a query's seconds: most take 2 ms, a few 10 ms."""


class SimulatedClock:
    """Wall clock and monotonic clock in one; only the simulation moves it."""

    def __init__(self, at: float) -> None:
        self._at = at

    def now(self) -> float:
        return self._at

    def monotonic(self) -> float:
        return self._at

    def reach(self, at: float) -> None:
        """Move forward to a moment, never back: if an event took longer than planned, the next one is late."""
        self._at = max(self._at, at)

    def spend(self, seconds: float) -> None:
        """Move forward by a duration."""
        self._at += seconds


class SlowStore(MemorySessionStore):
    """A table of sessions whose queries take (simulated) time."""

    def __init__(self, clock: SimulatedClock, random: Random) -> None:
        super().__init__(clock=clock)
        self._simulated: Final = clock
        self._random: Final = random

    async def statuses(self, keys: Collection[SessionKey]) -> Mapping[SessionKey, SessionStatus]:
        self._simulated.spend(self._random.lognormvariate(*QUERY))
        return await super().statuses(keys)


class World(NamedTuple):
    """The shared parts."""

    scenario: Scenario
    start: float
    """Seconds since the epoch: hour 0 of the scenario."""
    clock: Clock
    keys: KeyRing
    sources: tuple[ClaimsSource, ...]
    """The first provides the claim that version 2 added, the second that of version 3."""
    store: SessionStore

    def moment(self, hours: float) -> float:
        """Seconds since the epoch."""
        return self.start + hours * HOUR


def world_of(scenario: Scenario, start: float, clock: SimulatedClock, random: Random) -> World:
    """The world at the start of the simulation."""
    return World(
        scenario=scenario,
        start=start,
        clock=clock,
        keys=_keys(datetime.fromtimestamp(start + scenario.window * HOUR, UTC)),
        sources=_directory(clock, random),
        store=SlowStore(clock, random),
    )


def _keys(former_ends: datetime) -> KeyRing:
    """The key that signs, and the one before it: no token of that is alive any more."""
    return KeyRing(
        [
            Key.hmac(secrets.token_urlsafe(64), kid=KID),
            Key.hmac(secrets.token_urlsafe(64), kid=FORMER_KID, verify_only=True, until=former_ends),
        ]
    )


def email_of(user: object) -> str:
    """The address of a simulated user."""
    return f"user{user}@example.com"


def _directory(clock: SimulatedClock, random: Random) -> tuple[ClaimsSource, ...]:
    @source("email", require_row=True)
    async def emails(users: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
        clock.spend(random.lognormvariate(*QUERY))
        return {user: {"email": email_of(user)} for user in users}

    @source("locale")
    async def locales(users: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
        clock.spend(random.lognormvariate(*QUERY))
        return {user: {"locale": "de"} for user in users}

    return emails, locales
