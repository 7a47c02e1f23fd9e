"""Decides when an older payload version is gone: the plan, the evidence, and the verdict. Pure arithmetic, no I/O.

The plan says when every issuer mints a version. The evidence is the newest ``iat`` and the latest ``exp`` that this
process minted or verified of each version: the first shows a fault (an issuer still mints the old version), the second
the end. Times are seconds since the epoch, except the sunset, which is a datetime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from ..errors import ConfigError
from ..types import Minted, moment


class Verdict(StrEnum):
    """The state of one older payload version: the first in this order that holds."""

    NO_PLAN = "no plan"
    SCHEDULED = "scheduled"
    STILL_MINTED = "still minted"
    LATE_DRAINING = "late, draining"
    DRAINING = "draining"
    DRAINED = "drained: the fallback can be deleted"
    UNPROVEN = "unproven"


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How complete the evidence is; absence of data is not zero."""

    slots: float
    """Share, 0 to 1, of the lookback's slots (15 minutes for a window of 7 days) that have samples."""
    accepted_recently: bool
    """A request was accepted within the last day (a seventh of the window)."""


class Migration:
    """The plan and the evidence of one authority.

    Args:
        version: Today's payload version.
        effective_at: The moment from which every issuer mints a version, ``{2: datetime}``, aware datetimes.
        rollout: How long old issuers may mint the version before after that.
        leeway: The clock skew allowed between machines.
        max_lifetime: The longest lifetime of an accepted token.

    Raises:
        ConfigError: A version does not exist, or a datetime is naive.
    """

    def __init__(
        self,
        *,
        version: int,
        effective_at: Mapping[int, datetime],
        rollout: timedelta,
        leeway: timedelta,
        max_lifetime: timedelta,
    ) -> None:
        for planned, at in effective_at.items():
            if type(planned) is not int or not 1 < planned <= version:
                raise ConfigError(
                    f"effective_at={{{planned!r}: …}} is not a version after the first: use 2 to {version}"
                )
            if not isinstance(at, datetime) or at.tzinfo is None:
                raise ConfigError(f"effective_at[{planned}] must be an aware datetime, got {at!r}: add tzinfo=UTC")
        self.version: Final = version
        self.leeway: Final = leeway.total_seconds()
        self.max_lifetime: Final = max_lifetime.total_seconds()
        self._effective_at = {planned: at.timestamp() for planned, at in effective_at.items()}
        self._grace = rollout.total_seconds() + self.leeway
        self.last_minted: Final[dict[int, float]] = {}
        """Newest ``iat`` of each payload version."""
        self.last_expiry: Final[dict[int, float]] = {}
        """Latest ``exp`` of each payload version."""
        self._superseded = {old: self._superseded_at(old) for old in range(1, version)}

    def effective_at(self, old: int) -> float | None:
        """The planned moment of the earliest version after ``old``; None without a plan."""
        return min((at for planned, at in self._effective_at.items() if planned > old), default=None)

    def superseded(self, old: int) -> float | None:
        """From this moment on no issuer may mint ``old``; None without a plan."""
        return self._superseded.get(old)

    def minted(self, version: int, issued_at: float | None) -> Minted:
        """Whether an older payload was minted before or after the change that replaced it."""
        superseded = self._superseded.get(version)
        if superseded is None or issued_at is None:
            return "unknown"
        return "after_change" if issued_at > superseded else "before_change"

    def saw(self, version: int, issued_at: float | None, expires_at: float) -> None:
        """Note a token that this process minted or verified."""
        if version > self.version:
            return
        if issued_at is not None and issued_at > self.last_minted.get(version, 0.0):
            self.last_minted[version] = issued_at
        if expires_at > self.last_expiry.get(version, 0.0):
            self.last_expiry[version] = expires_at

    def sunset(self, old: int) -> datetime | None:
        """After this moment no valid token of ``old`` exists: by the plan, but not before the latest ``exp``.

        So a rollback, a forgotten worker or a late release moves it. None without a plan.
        """
        superseded = self._superseded.get(old)
        if superseded is None:
            return None
        return moment(max(superseded + self.max_lifetime, self.last_expiry.get(old, 0.0) + self.leeway))

    def verdict(
        self, old: int, *, now: float, coverage: Coverage, day: float = 86_400.0, minted_by_plan: bool = True
    ) -> Verdict:
        """Judge an older version by the evidence of this process; the dashboards judge by that of all instances.

        Args:
            old: The payload version that ends.
            now: Seconds since the epoch.
            coverage: How complete the evidence is.
            day: How far back is recent, in seconds.
            minted_by_plan: False if an instance is configured to mint ``old`` after the planned moment.
        """
        superseded, planned = self._superseded.get(old), self.effective_at(old)
        if superseded is None or planned is None:
            return Verdict.NO_PLAN
        if now < planned:
            return Verdict.SCHEDULED
        newest = self.last_minted.get(old, 0.0)
        late = newest > superseded
        if (late and newest > now - day) or (now > superseded and not minted_by_plan):
            return Verdict.STILL_MINTED
        alive = now < self.last_expiry.get(old, 0.0) + self.leeway
        if alive or now < superseded + self.max_lifetime:
            return Verdict.LATE_DRAINING if late and alive else Verdict.DRAINING
        if coverage.slots > 0.95 and coverage.accepted_recently:
            return Verdict.DRAINED
        return Verdict.UNPROVEN

    def _superseded_at(self, old: int) -> float | None:
        planned = self.effective_at(old)
        return None if planned is None else planned + self._grace
