"""The settings of a run: the window, and every other time, which shrinks with it from a week to minutes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

WEEK: Final = timedelta(days=7).total_seconds()
SHORTEST: Final = 10
"""Seconds. ``exp`` has whole seconds: a shorter window would show rounding instead of a migration."""
TWENTIETHS: Final = 20

_DATABASES: Final = ("sqlite+aiosqlite", "postgresql+asyncpg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one run; times in seconds.

    Raises:
        ValueError: A value is out of range; one line that says which range.
    """

    window: int = 180
    """The life of a token: seven days in production."""
    release_after: float | None = None
    """Seconds from the start until logins mint version 2; None: a sixth of the window."""
    port: int = 8000
    """0 takes a free port."""
    database: str | None = None
    """A URL, or the path of a SQLite file; None: a temporary file."""
    users: int = 40
    rate: float = 20.0
    """Requests a second, all users together."""
    log: Path | None = None
    """The file of the JSON log; None: a temporary one."""

    def __post_init__(self) -> None:
        if not SHORTEST <= self.window <= WEEK:
            raise ValueError(f"--window must be between {SHORTEST}s and 7d")
        if self.release_after is not None and not 0 < self.release_after <= self.window:
            raise ValueError("--release-after must be longer than 0s and no longer than the window")
        if not 0 <= self.port <= 65_535:
            raise ValueError("--port must be between 0 and 65535; 0 takes a free one")
        if not 1 <= self.users <= 10_000:
            raise ValueError("--users must be between 1 and 10000")
        if not 0 < self.rate <= 1_000:
            raise ValueError("--rate must be above 0 and at most 1000 requests a second")
        if self.database is not None and "://" in self.database and not self.database.startswith(_DATABASES):
            raise ValueError("--database must be a path, sqlite+aiosqlite:///… or postgresql+asyncpg://…")

    @property
    def until_release(self) -> float:
        """Seconds from the start to the release."""
        return self.window / 6 if self.release_after is None else self.release_after

    @property
    def rollout(self) -> float:
        """An hour of the week, and at least a second, because ``iat`` has no fractions."""
        return max(1.0, self._shrunk(3_600))

    @property
    def day(self) -> float:
        """A day of the week; the verdict calls it recent."""
        return self.window / 7

    @property
    def lookback(self) -> float:
        """The time for which the watch keeps evidence: the window and a day."""
        return self.window + self.day

    @property
    def slot(self) -> float:
        """The interval that must have a sample: a quarter of an hour in production, relatively longer here."""
        return max(1.0, self.window / 60)

    @property
    def scrape_every(self) -> float:
        """Seconds between two scrapes: four a slot, at least one a second."""
        return min(1.0, self.slot / 4)

    @property
    def claims_ttl(self) -> float:
        """The time for which a row is cached: a twentieth of the window, because a minute of the week is too short."""
        return min(60.0, self.window / 20)

    @property
    def absence_ttl(self) -> float:
        """The time for which a missing row is cached."""
        return min(5.0, self.window / 60)

    @property
    def max_staleness(self) -> float:
        """The greatest age of a cached session status."""
        return min(5.0, self.window / 60)

    @property
    def tick(self) -> float:
        """A twentieth of the window: the headless run prints a line each."""
        return self.window / TWENTIETHS

    @property
    def drained_by(self) -> float:
        """Seconds after the release at which the last fallback must have fired."""
        return self.rollout + 1.1 * self.window

    def _shrunk(self, seconds: float) -> float:
        return seconds * self.window / WEEK
