"""A circuit breaker on the monotonic clock: it keeps queries from a failing database, with one half-open probe."""

from __future__ import annotations

from typing import Final

FAILURES: Final = 5
"""Consecutive failures that open it."""
FIRST_PAUSE: Final = 0.5
"""Seconds from its opening to the first probe."""
LONGEST_PAUSE: Final = 4.0
"""The pause doubles after each probe that fails, up to this: a recovery is seen within 5 seconds."""


class Breaker:
    """Closed: it lets every query through. Open: it lets one probe at a time through, each after a pause."""

    def __init__(self) -> None:
        self.failures = 0
        """Consecutive ones."""
        self.is_open = False
        self._pause = FIRST_PAUSE
        self._opened_at = 0.0
        self._probing = False

    def admits(self, now: float) -> bool:
        """True where a query could be sent now: a request may wait for one."""
        return not self.is_open or (not self._probing and now >= self._opened_at + self._pause)

    def try_acquire(self, now: float) -> bool:
        """True where a query may be sent now; if the breaker is open, that query is the probe."""
        admitted = self.admits(now)
        if self.is_open and admitted:
            self._probing = True
        return admitted

    def succeeded(self) -> None:
        """A query succeeded: close."""
        self.failures, self.is_open, self._pause, self._probing = 0, False, FIRST_PAUSE, False

    def failed(self, now: float, *, probe: bool = False) -> None:
        """A query failed. ``probe``: it was the probe, and not a query that was sent before the breaker opened."""
        self.failures += 1
        if not self.is_open:
            if self.failures >= FAILURES:
                self.is_open, self._opened_at = True, now
        elif probe:
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
            self._opened_at, self._probing = now, False
