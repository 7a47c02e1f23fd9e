"""The curves of the live page: what happened in each second of the last twentieth of the window, scrape by scrape."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from jwt_middleware import Reason, names

from .scrape import Scrape

_MOST: Final = 600
"""Points of two windows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Rates of one moment, a second; None where nothing was accepted: no data is not zero."""

    at: float
    today: float
    """Accepted requests with today's payload."""
    old_before: float
    """… with an older one, minted before the change: these drain."""
    old_after: float
    """… with an older one, minted after the change: there must be none."""
    fallback_rate: float | None
    """Share of the accepted requests that needed the fallback, 0 to 1."""
    expired: float
    revoked: float
    refused: float
    """Turned away for any other reason but a missing token."""
    needed: float
    """Requests that needed the fallback …"""
    queries: float
    """… and the queries that were sent for them."""


class Curves:
    """The points of a run, bounded; the newest is there always."""

    def __init__(self, window: float) -> None:
        self._step: Final = 2 * window / _MOST
        self._points: Final[deque[Point]] = deque(maxlen=_MOST)

    def add(self, now: Scrape, past: Scrape) -> None:
        """Take note of what happened between two scrapes."""
        if not self._points or now.at - self._points[-1].at >= self._step:
            self._points.append(point(now, past))

    def since(self, at: float) -> list[Point]:
        return [each for each in self._points if each.at > at]


def point(now: Scrape, past: Scrape) -> Point:
    """What happened between two scrapes, a second."""
    seconds = max(now.at - past.at, 0.001)

    def risen(metric: names.Metric, labels: dict[str, str]) -> float:
        return (now.total(metric, labels) - past.total(metric, labels)) / seconds

    def accepted(labels: dict[str, str]) -> float:
        return risen(names.REQUESTS, {names.RESULT: "accepted", **labels})

    def refused(labels: dict[str, str]) -> float:
        return risen(names.REQUESTS, {names.RESULT: "refused", **labels})

    of_all, needed = accepted({}), risen(names.FALLBACKS, {})
    after = accepted({names.MINTED: "after_change"})
    before = accepted({names.MINTED: "before_change"}) + accepted({names.MINTED: "unknown"})
    expired = refused({names.ERROR_TYPE: Reason.TOKEN_EXPIRED.value})
    revoked = refused({names.ERROR_TYPE: Reason.SESSION_REVOKED.value})
    missing = refused({names.ERROR_TYPE: Reason.TOKEN_MISSING.value})
    return Point(
        at=now.at,
        today=of_all - before - after,
        old_before=before,
        old_after=after,
        fallback_rate=needed / of_all if of_all else None,
        expired=expired,
        revoked=revoked,
        refused=refused({}) - expired - revoked - missing,
        needed=needed,
        queries=risen(names.LOOKUPS, {names.LOOKUP: "claims"}),
    )
