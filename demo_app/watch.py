"""The migration as seen from outside: scrapes of ``/metrics``, and the figures, curves and verdict from them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import time
from typing import Any, Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from dashboards.promql import label, metric_name
from jwt_middleware import Coverage, Migration, Reason, Verdict, names
from jwt_middleware.names import SCOPE, Metric

from .settings import TWENTIETHS, Settings

OLD: Final = 1
TODAY: Final = 2
_MOST_SCRAPES: Final = 600
"""Scrapes that the watch keeps of one window."""
_MOST_POINTS: Final = 600
"""Points that the curves keep of two windows."""
_SENTENCES: Final[Mapping[Verdict, str]] = {
    Verdict.NO_PLAN: "There is no plan for version 2, so the end cannot be predicted.",
    Verdict.SCHEDULED: "Every reader can read version 2 already; logins mint version 1 until the release.",
    Verdict.STILL_MINTED: "Some issuer still mints version 1: find and update it, or the fallback will never end.",
    Verdict.LATE_DRAINING: "Version 1 was minted after the release, later than planned; those tokens are expiring.",
    Verdict.DRAINING: "Old tokens are still valid, and need the fallback until the last of them has expired.",
    Verdict.DRAINED: "No valid token of version 1 is left.",
    Verdict.UNPROVEN: "No old token was seen, but the watch has gaps or no requests: absence is not zero.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrape:
    """The samples of one scrape."""

    at: float
    """Seconds since the epoch."""
    samples: Mapping[str, list[tuple[Mapping[str, str], float]]] = field(repr=False)

    @classmethod
    def parse(cls, text: str, *, at: float) -> Scrape:
        """Parse Prometheus's text format; metrics of other packages are ignored."""
        ours = "\n".join(line for line in text.splitlines() if line.startswith(f"{SCOPE}_"))
        samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
        for family in text_string_to_metric_families(ours + "\n"):
            for sample in family.samples:
                samples.setdefault(sample.name, []).append((sample.labels, float(sample.value)))
        return cls(at=at, samples=samples)

    def total(self, metric: Metric, labels: Mapping[str, Any] | None = None) -> float:
        """The sum of the series with these attributes (they may have more)."""
        return sum(self._values(metric, labels or {}))

    def newest(self, metric: Metric, labels: Mapping[str, Any] | None = None) -> float | None:
        """The greatest value of these series; None if there are none."""
        return max(self._values(metric, labels or {}), default=None)

    def _values(self, metric: Metric, labels: Mapping[str, Any]) -> list[float]:
        wanted = {label(name): str(value) for name, value in labels.items()}
        return [
            value
            for series, value in self.samples.get(metric_name(metric), [])
            if all(series.get(name) == wanted[name] for name in wanted)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Rates a second at one moment; None where no request was accepted: no data is not zero."""

    at: float
    today: float
    """Accepted requests with today's payload."""
    old_before: float
    """… with an older payload, minted before the change: these drain."""
    old_after: float
    """… with an older payload, minted after the change: there must be none."""
    fallback_rate: float | None
    """Share of the accepted requests that needed the fallback, 0 to 1."""
    expired: float
    revoked: float
    refused: float
    """Refused for any other reason, except a missing token."""
    needed: float
    """Requests that needed the fallback."""
    queries: float
    """Queries that were sent for them."""


class Curves:
    """The points of a run for the live page's charts; the oldest are dropped."""

    def __init__(self, window: float) -> None:
        self._step: Final = 2 * window / _MOST_POINTS
        self._points: Final[deque[Point]] = deque(maxlen=_MOST_POINTS)

    def add(self, now: Scrape, past: Scrape) -> None:
        """Add the point between two scrapes, unless the last one is too close."""
        if not self._points or now.at - self._points[-1].at >= self._step:
            self._points.append(point_between(now, past))

    def since(self, at: float) -> list[Point]:
        """The points after a moment."""
        return [point for point in self._points if point.at > at]


def point_between(now: Scrape, past: Scrape) -> Point:
    """The rates a second between two scrapes."""
    seconds = max(now.at - past.at, 0.001)

    def rate(metric: Metric, labels: dict[str, str]) -> float:
        return (now.total(metric, labels) - past.total(metric, labels)) / seconds

    def accepted(labels: dict[str, str]) -> float:
        return rate(names.REQUESTS, {names.RESULT: "accepted", **labels})

    def refused(labels: dict[str, str]) -> float:
        return rate(names.REQUESTS, {names.RESULT: "refused", **labels})

    total, needed = accepted({}), rate(names.FALLBACKS, {})
    after = accepted({names.MINTED: "after_change"})
    before = accepted({names.MINTED: "before_change"}) + accepted({names.MINTED: "unknown"})
    expired = refused({names.ERROR_TYPE: Reason.TOKEN_EXPIRED.value})
    revoked = refused({names.ERROR_TYPE: Reason.SESSION_REVOKED.value})
    missing = refused({names.ERROR_TYPE: Reason.TOKEN_MISSING.value})
    return Point(
        at=now.at,
        today=total - before - after,
        old_before=before,
        old_after=after,
        fallback_rate=needed / total if total else None,
        expired=expired,
        revoked=revoked,
        refused=refused({}) - expired - revoked - missing,
        needed=needed,
        queries=rate(names.LOOKUPS, {names.LOOKUP: "claims"}),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The state of the migration at one moment; shares are 0 to 1, None where no request was accepted."""

    at: float
    requests: int
    accepted: int
    per_second: float
    old_share: float | None
    fallbacks: int
    fallback_rate: float | None
    last_fallback: float | None
    """When the counter of fallbacks last rose, seconds since the epoch."""
    expired: int
    refused: int
    """Refused for any reason except an expired or a missing token."""
    planned_sunset: float | None
    latest_expiry: float | None
    """Latest expiry of all old tokens seen in the lookback."""
    sunset: float | None
    """The later of planned sunset and latest expiry."""
    queries: int
    """Queries for claims: the cost of the fallbacks."""
    verdict: Verdict


class Watch:
    """Scrapes regularly, keeps the scrapes of the lookback, and computes the figures."""

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
        """The newest scrape."""
        return self._last

    async def follow(self) -> None:
        """Scrape until cancelled; a scrape that fails leaves a gap."""
        while True:
            with contextlib.suppress(httpx.HTTPError):
                await self.scrape()
            await asyncio.sleep(self._settings.scrape_every)

    async def scrape(self) -> Scrape:
        """Scrape once.

        Raises:
            httpx.HTTPError: There is no response, or its status is an error.
        """
        response = await self._http.get("/metrics")
        response.raise_for_status()
        scrape = Scrape.parse(response.text, at=time())
        self.add(scrape)
        return scrape

    def add(self, scrape: Scrape) -> None:
        """Add a scrape, which is newer than all before."""
        before, self._last = self._last, scrape
        new_fallbacks = scrape.total(names.FALLBACKS) - (before.total(names.FALLBACKS) if before else 0)
        if new_fallbacks > 0:
            self._last_fallback = scrape.at
        self._slots.add(self._slot(scrape.at))
        if not self._history or scrape.at - self._history[-1].at >= self._settings.window / _MOST_SCRAPES:
            self._history.append(scrape)
        oldest = scrape.at - self._settings.lookback
        while self._history[0].at < oldest:
            self._history.popleft()
        self.curves.add(scrape, self._recently(scrape))
        self._slots.difference_update({slot for slot in self._slots if slot < self._slot(oldest)})

    def figures(self) -> Figures | None:
        """The current figures; None before the first scrape."""
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
        """The current plan, as the metrics say, and the evidence of the whole lookback."""
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
        """The scrape that shares and rates are measured from."""
        return self._at(now.at - self._settings.window / TWENTIETHS)

    def _at(self, moment: float) -> Scrape:
        """The newest scrape up to a moment; an empty one before the first."""
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


def sentence(verdict: Verdict) -> str:
    """What the verdict means, for a first-time reader."""
    return _SENTENCES[verdict]
