"""How long a lookup may take, how long its answer holds, and how many may wait for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from ..errors import ConfigError, refuse_numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupLimits:
    """Limits of the queries for claims and sessions; the two ``ttl`` are for claims only.

    Raises:
        ConfigError: A limit that nothing could keep.
    """

    timeout: timedelta = timedelta(milliseconds=250)
    """The longest a query may take; who waits for it is told then, whatever the query does."""
    ttl: timedelta = timedelta(seconds=60)
    """How long a row is served from the cache."""
    negative_ttl: timedelta = timedelta(seconds=5)
    """How long "there is no row" is."""
    max_waiting: int = 10_000
    """Requests that may wait at once; the next one is shed."""

    def __post_init__(self) -> None:
        refuse_numbers(timeout=self.timeout, ttl=self.ttl, negative_ttl=self.negative_ttl)
        if self.timeout <= timedelta(0):
            raise ConfigError("LookupLimits(timeout=…) must be positive")
        if self.ttl < timedelta(0) or self.negative_ttl < timedelta(0):
            raise ConfigError("LookupLimits: ttl and negative_ttl must not be negative; zero caches nothing")
        if self.max_waiting < 1:
            raise ConfigError("LookupLimits(max_waiting=…) must be at least 1")
