"""What this process remembers of sessions: what the store answered, and what was revoked here. All of it bounded."""

from __future__ import annotations

import math
from typing import Final, Literal, NamedTuple

from ..errors import Reason
from ..lookup.cache import make_room
from ..types import SessionKey, Value

MOST_KNOWN: Final = 100_000
MOST_REVOKED: Final = 10_000
Scope = Literal["session", "user", "all"]


class CachedStatus(Value, frozen=True, kw_only=True, gc=False):
    """An answer of the store. One is kept for each session in use: it is small, and no garbage collector follows it."""

    user_id: str
    known: bool
    active: bool
    not_before: float | None
    sent_at: float
    """The monotonic moment its query left: it is that old."""
    generation: int
    """How much had been revoked here when the query can have left at the earliest."""

    def refuses(self, auth_time: float, *, listed: bool) -> Reason | None:
        """Why a session of that ``auth_time`` does not stand, or None."""
        if not self.known and listed:
            return Reason.SESSION_UNKNOWN
        if self.known and not self.active:
            return Reason.SESSION_REVOKED
        if self.not_before is not None and auth_time <= self.not_before:
            return Reason.SESSION_REVOKED
        return None


class StatusGenerations:
    """The newest answers by session, in two dictionaries: the older one is dropped whole, and nothing is searched.

    An answer is kept for at least ``use`` seconds, and less than twice that, while no more than half of ``MOST_KNOWN``
    come meanwhile. (To drop the oldest of one dictionary, each time, walks over all that were dropped before.)
    """

    def __init__(self, use: float) -> None:
        self._use: Final = use
        self._born = -math.inf
        self._both: tuple[dict[str | None, CachedStatus], dict[str | None, CachedStatus]] = ({}, {})

    def __len__(self) -> int:
        return sum(map(len, self._both))

    def get(self, session_id: str | None) -> CachedStatus | None:
        young, old = self._both
        return young.get(session_id) or old.get(session_id)

    def put(self, session_id: str | None, known: CachedStatus, now: float) -> None:
        young, old = self._both
        if len(young) >= MOST_KNOWN // 2 or now - self._born >= self._use:
            self._both, self._born = ({}, young), now
            young, old = self._both
        young[session_id] = known
        old.pop(session_id, None)

    def drop(self, session_id: str | None) -> None:
        for each in self._both:
            each.pop(session_id, None)


class StatusCache:
    """One answer for each session: one that lets it pass for as long as it is of use, one that ended it for good."""

    def __init__(self, use: float) -> None:
        self._passing: Final = StatusGenerations(use)
        self._ended: Final = StatusGenerations(math.inf)

    def __len__(self) -> int:
        return len(self._passing) + len(self._ended)

    def of(self, key: SessionKey) -> CachedStatus | None:
        known = self._passing.get(key.session_id) or self._ended.get(key.session_id)
        return known if known is not None and known.user_id == key.user_id else None

    def put(self, key: SessionKey, known: CachedStatus, *, passes: bool, now: float) -> None:
        into, other = (self._passing, self._ended) if passes else (self._ended, self._passing)
        into.put(key.session_id, known, now)
        other.drop(key.session_id)


class LocalRevocation(NamedTuple):
    """A revocation by this process."""

    generation: int
    at: float
    """Monotonic."""
    not_before: float
    """What this process takes for the mark while the store cannot be asked."""
    kept: str | None

    def ends(self, key: SessionKey, auth_time: float) -> bool:
        return auth_time <= self.not_before and (self.kept is None or self.kept != key.session_id)


class LocalRevocations:
    """What this process revoked: an older answer is not believed, and no outage revives it. Bounded."""

    def __init__(self) -> None:
        self.generation = 0
        self._floor = 0
        self._entries: Final[dict[tuple[Scope, str], LocalRevocation]] = {}

    def add(self, scope: Scope, subject: str, *, at: float, not_before: float, kept: str | None) -> None:
        self.generation += 1
        self._entries.pop((scope, subject), None)
        for forgotten in make_room(self._entries, MOST_REVOKED):
            self._floor = forgotten.generation  # whatever was known before it is asked for again
        self._entries[scope, subject] = LocalRevocation(self.generation, at, not_before, kept)

    def of(self, key: SessionKey) -> list[LocalRevocation]:
        """What may have ended that session."""
        names_of: list[tuple[Scope, str]] = [("session", key.session_id or ""), ("user", key.user_id), ("all", "")]
        return [self._entries[name] for name in names_of if name in self._entries]

    def allows(self, key: SessionKey, known: CachedStatus) -> bool:
        """Whether an answer was asked for after everything that was revoked here."""
        return known.generation >= max([self._floor, *(revoked.generation for revoked in self.of(key))])
