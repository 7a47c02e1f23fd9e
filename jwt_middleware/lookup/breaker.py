"""A state machine on the monotonic clock that keeps queries from a failing database, and lets one through to see."""

from __future__ import annotations

from typing import Final

FAILURES: Final = 5
"""Consecutive failures that open it."""
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 4.0
"""Seconds between probes: doubled after each that fails, so that recovery is seen within 5 seconds."""


class Breaker:
    """Closed: everything passes. Open: nothing does, until a pause is over; then one probe at a time."""

    def __init__(self) -> None:
        self._failures = 0
        self._pause = FIRST_PAUSE
        self._opened_at: float | None = None
        self._probing = False

    @property
    def is_open(self) -> bool:
        return self._opened_at is not None

    def admits(self, now: float) -> bool:
        """Whether it makes sense to wait for a query."""
        return self._opened_at is None or (not self._probing and now >= self._opened_at + self._pause)

    def allows(self, now: float) -> bool:
        """Whether a query may be sent; an open breaker lets one through, the probe, and no other until that ended."""
        admitted = self.admits(now)
        if self.is_open and admitted:
            self._probing = True
        return admitted

    def succeeded(self) -> None:
        self._failures, self._pause, self._opened_at, self._probing = 0, FIRST_PAUSE, None, False

    def failed(self, now: float, *, probe: bool = False) -> None:
        """A query failed; ``probe``: the one that an open breaker let through, and no straggler of before."""
        self._failures += 1
        if self._opened_at is None:
            if self._failures >= FAILURES:
                self._opened_at = now
        elif probe:
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
            self._opened_at, self._probing = now, False
