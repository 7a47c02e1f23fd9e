"""How long the tables keep what is over: a row may go when no token needs its answer any more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from .errors import ConfigError, refuse_numbers

FOREVER: Final = timedelta(days=36_500)


class Purged(NamedTuple):
    """How many rows of each table were deleted."""

    sessions: int
    marks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What stays, and for how long; the store's clock decides.

    Raises:
        ConfigError: A negative time, one beyond a hundred years, or a chunk that is not between 1 and 10,000.
    """

    expired: timedelta = timedelta(days=1)
    """How long a session's row stays after it expired."""
    longest_token: timedelta | None = None
    """How long a token lives at most. A mark stays that long after it was set, and a revoked row that long after it
    expired: a token without ``sid`` may outlive its row. None: nobody knows, and marks stay for good."""
    chunk: int = 1_000
    """Rows that one transaction deletes."""

    def __post_init__(self) -> None:
        longest = timedelta(0) if self.longest_token is None else self.longest_token
        refuse_numbers(expired=self.expired, longest_token=longest)
        if not all(timedelta(0) <= time <= FOREVER for time in (self.expired, longest)):
            raise ConfigError("Retention: times must not be negative, and at most 36,500 days")
        if not 1 <= self.chunk <= 10_000:
            raise ConfigError("Retention: a chunk has 1 to 10,000 rows")

    def expired_before(self, now: datetime) -> datetime:
        """Rows that expired before this may go."""
        return now - self.expired

    def revoked_before(self, now: datetime) -> datetime:
        """Rows that were revoked may go where they expired before this."""
        return now - max(self.expired, self.longest_token or self.expired)

    def marks_before(self, now: datetime) -> int | None:
        """Marks that were set before this may go; microseconds since the epoch, as they are written."""
        return None if self.longest_token is None else int((now - self.longest_token).timestamp() * 1e6)
