"""What can be said about the migration from outside: figures and the verdict, from scrapes and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import time
from typing import Final

import httpx

from jwt_middleware import Coverage, Migration, Reason, Verdict, names

from .curves import Curves
from .scrape import Scrape
from .settings import TWENTIETHS, Settings

OLD: Final = 1
TODAY: Final = 2
_MOST_POINTS: Final = 600
"""Scrapes remembered of one window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The state of the migration at one moment; shares are 0 to 1, None where nothing was accepted."""

    at: float
    requests: int
    accepted: int
    per_second: float
    old_share: float | None
    fallbacks: int
    fallback_rate: float | None
    last_fallback: float | None
    """When the count of fallbacks was last seen to rise, seconds since the epoch."""
    expired: int
    refused: int
    """Turned away for any reason but an expired or a missing token."""
    planned_sunset: float | None
    latest_expiry: float | None
    """Of the old tokens that were seen in the whole lookback."""
    sunset: float | None
    """The later of the two."""
    queries: int
    """For claims: what the fallbacks cost."""
    verdict: Verdict


class Watch:
    """Scrapes, remembers a lookback of them, and computes."""

    def __init__(self, settings: Settings, http: httpx.AsyncClient) -> None:
        self.curves: Final = Curves(settings.window)
        self._settings: Final = settings
        self._http: Final = http
        self._history: Final[deque[Scrape]] = deque()
        self._slots: Final[set[int]] = set()
        self._last: Scrape | None = None
        self._last_fallback: float | None = None

    @property
    def last(self) -> Scrape | None:
        return self._last

    async def follow(self) -> None:
        """Scrape again and again; a scrape that fails is a gap."""
        while True:
            with contextlib.suppress(httpx.HTTPError):
                await self.look()
            await asyncio.sleep(self._settings.scrape_every)

    async def look(self) -> Scrape:
        """One scrape.

        Raises:
            httpx.HTTPError: No answer, or no good one.
        """
        response = await self._http.get("/metrics")
        response.raise_for_status()
        scrape = Scrape.parse(response.text, at=time())
        self.add(scrape)
        return scrape

    def add(self, scrape: Scrape) -> None:
        """Take note of a scrape; moments never go back."""
        before, self._last = self._last, scrape
        risen = scrape.total(names.FALLBACKS) - (before.total(names.FALLBACKS) if before else 0)
        if risen > 0:
            self._last_fallback = scrape.at
        self._slots.add(self._slot(scrape.at))
        if not self._history or scrape.at - self._history[-1].at >= self._settings.window / _MOST_POINTS:
            self._history.append(scrape)
        oldest = scrape.at - self._settings.lookback
        while self._history[0].at < oldest:
            self._history.popleft()
        self.curves.add(scrape, self._recently(scrape))
        self._slots.difference_update({slot for slot in self._slots if slot < self._slot(oldest)})

    def figures(self) -> Figures | None:
        """None before the first scrape."""
        now = self._last
        if now is None:
            return None
        past = self._recently(now)
        accepted = _accepted(now) - _accepted(past)
        migration = self._migration(now)
        expired = _refused(now, Reason.TOKEN_EXPIRED)
        missing = _refused(now, Reason.TOKEN_MISSING)
        sunset = migration.sunset(OLD)
        return Figures(
            at=now.at,
            requests=int(now.total(names.REQUESTS)),
            accepted=int(_accepted(now)),
            per_second=accepted / max(now.at - past.at, 0.001),
            old_share=(_accepted(now, OLD) - _accepted(past, OLD)) / accepted if accepted else None,
            fallbacks=int(now.total(names.FALLBACKS)),
            fallback_rate=(now.total(names.FALLBACKS) - past.total(names.FALLBACKS)) / accepted if accepted else None,
            last_fallback=self._last_fallback,
            expired=int(expired),
            refused=int(now.total(names.REQUESTS, {names.RESULT: "refused"}) - expired - missing),
            planned_sunset=_later(migration.superseded(OLD), migration.max_lifetime),
            latest_expiry=migration.last_expiry.get(OLD),
            sunset=None if sunset is None else sunset.timestamp(),
            queries=int(now.total(names.LOOKUPS, {names.LOOKUP: "claims"})),
            verdict=self._verdict(migration, now),
        )

    def _migration(self, now: Scrape) -> Migration:
        """The plan as the metrics tell it now, and the evidence of the whole lookback."""
        settings = self._settings
        superseded = now.newest(names.PAYLOAD_SUPERSEDED, {names.PAYLOAD_VERSION: OLD})
        planned = None if superseded is None else datetime.fromtimestamp(superseded - settings.rollout, UTC)
        migration = Migration(
            version=TODAY,
            effective_at={} if planned is None else {TODAY: planned},
            rollout=timedelta(seconds=settings.rollout),
            leeway=timedelta(0),
            max_lifetime=timedelta(seconds=now.newest(names.TOKEN_MAX_LIFETIME) or settings.window),
        )
        for scrape in (*self._history, now):
            minted = scrape.newest(names.PAYLOAD_LAST_MINTED, {names.PAYLOAD_VERSION: OLD})
            expiry = scrape.newest(names.PAYLOAD_LAST_EXPIRY, {names.PAYLOAD_VERSION: OLD})
            migration.saw(OLD, minted, expiry or 0.0)
        return migration

    def _verdict(self, migration: Migration, now: Scrape) -> Verdict:
        settings = self._settings
        first, last = self._slot(now.at - settings.lookback) + 1, self._slot(now.at)
        covered = sum(slot in self._slots for slot in range(first, last + 1)) / (last + 1 - first)
        recently = _accepted(now) - _accepted(self._at(now.at - settings.day))
        return migration.verdict(
            OLD,
            now=now.at,
            coverage=Coverage(slots=covered, accepted_recently=recently > 0),
            day=settings.day,
            minted_by_plan=now.newest(names.PAYLOAD_INFO, {names.PAYLOAD_MINTS: OLD}) is None,
        )

    def _recently(self, now: Scrape) -> Scrape:
        """What shares and rates are measured from."""
        return self._at(now.at - self._settings.window / TWENTIETHS)

    def _at(self, moment: float) -> Scrape:
        """The newest scrape that is no later; before the first one nothing was counted."""
        past = Scrape(at=self._history[0].at, samples={})
        for scrape in self._history:
            if scrape.at > moment:
                break
            past = scrape
        return past

    def _slot(self, moment: float) -> int:
        return int(moment // self._settings.slot)


def _later(moment: float | None, seconds: float) -> float | None:
    return None if moment is None else moment + seconds


def _accepted(scrape: Scrape, version: int | None = None) -> float:
    labels: dict[str, object] = {names.RESULT: "accepted"}
    return scrape.total(names.REQUESTS, labels if version is None else {**labels, names.PAYLOAD_VERSION: version})


def _refused(scrape: Scrape, reason: Reason) -> float:
    return scrape.total(names.REQUESTS, {names.RESULT: "refused", names.ERROR_TYPE: reason.value})
