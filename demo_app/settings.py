"""One window, and everything that shrinks with it: a week of production in the minutes somebody will watch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

WEEK: Final = timedelta(days=7).total_seconds()
SHORTEST: Final = 10
"""Seconds; ``exp`` has whole seconds, and much less than this would show rounding instead of a migration."""
TWENTIETHS: Final = 20

_DURATION: Final = re.compile(r"([0-9]{1,9})(s|m|h|d)")
_UNITS: Final[Mapping[str, int]] = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DATABASES: Final = ("sqlite+aiosqlite", "postgresql+asyncpg")


def duration(text: str) -> int:
    """Seconds of ``45s``, ``3m``, ``1h`` or ``7d``.

    Raises:
        ValueError: Anything else; the message says what is possible.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None or int(found[1]) == 0:
        raise ValueError(f"{text!r} is no duration: write 45s, 3m, 1h or 7d")
    return int(found[1]) * _UNITS[found[2]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a run of the demo is made of; times in seconds.

    Raises:
        ValueError: A value that cannot work, in one line that says how to mend it.
    """

    window: int = 180
    """The life of a token: seven days in production."""
    release_after: float | None = None
    """When minting switches to version 2, from the start; None: a sixth of the window."""
    port: int = 8000
    """0 takes a free one."""
    database: str | None = None
    """A URL, or the path of a SQLite file; None: a temporary file."""
    users: int = 40
    rate: float = 20.0
    """Requests a second, of all users together."""
    log: Path | None = None
    """Where the JSON log goes; None: into the temporary directory."""

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
        return self.window / 6 if self.release_after is None else self.release_after

    @property
    def rollout(self) -> float:
        """An hour of the week; no less than a second, because ``iat`` has no fractions."""
        return max(1.0, self._shrunk(3_600))

    @property
    def day(self) -> float:
        """What the verdict calls recent."""
        return self.window / 7

    @property
    def lookback(self) -> float:
        """How long the evidence is watched: the window and a day."""
        return self.window + self.day

    @property
    def slot(self) -> float:
        """The stretch that must have a sample; a quarter of an hour in production, coarser here or nothing could."""
        return max(1.0, self.window / 60)

    @property
    def scrape_every(self) -> float:
        """Seconds between two scrapes: several a slot, and often enough for a live view."""
        return min(1.0, self.slot / 4)

    @property
    def claims_ttl(self) -> float:
        """How long a row is cached: a minute of the week is nothing here, so a twentieth of the window."""
        return min(60.0, self.window / 20)

    @property
    def absence_ttl(self) -> float:
        return min(5.0, self.window / 60)

    @property
    def max_staleness(self) -> float:
        """How old the answer to "is this session active?" may be."""
        return min(5.0, self.window / 60)

    @property
    def tick(self) -> float:
        """A twentieth of the window: one line of the headless run."""
        return self.window / TWENTIETHS

    @property
    def drained_by(self) -> float:
        """After the release, no fallback may fire later than this."""
        return self.rollout + 1.1 * self.window

    def _shrunk(self, seconds: float) -> float:
        return seconds * self.window / WEEK
