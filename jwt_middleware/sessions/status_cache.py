"""What this process knows of sessions: the statuses the store gave, and its own revocations. All of it bounded."""

from __future__ import annotations

import math
from typing import Final, Literal, NamedTuple

from ..errors import Reason
from ..lookup.cache import make_room
from ..types import SessionKey, Value

MAX_STATUSES: Final = 100_000
MAX_REVOCATIONS: Final = 10_000
Scope = Literal["session", "user", "all"]


class CachedStatus(Value, frozen=True, kw_only=True, gc=False):
    """A status that the store gave; one for each session in use, hence small and untracked by the collector."""

    user_id: str
    token_user_id: str | None
    known: bool
    active: bool
    not_before: float | None
    sent_at: float
    """The monotonic moment its query left: the status is that old."""
    generation: int
    """How many revocations by this process certainly precede the query."""

    def is_of(self, key: SessionKey) -> bool:
        """The store was asked for these user ids: another spelling may have another row or mark."""
        return self.user_id == key.user_id and self.token_user_id == key.token_user_id

    def refuses(self, auth_time: float | None, *, listed: bool) -> Reason | None:
        """Why a session that began at ``auth_time`` is not active, or None. None as beginning precedes every mark."""
        if not self.known and listed:
            return Reason.SESSION_UNKNOWN
        if self.known and not self.active:
            return Reason.SESSION_REVOKED
        if self.not_before is not None and (auth_time is None or auth_time <= self.not_before):
            return Reason.SESSION_REVOKED
        return None


class StatusGenerations:
    """The newest status of each session, in a young and an old dictionary; the old one is dropped whole.

    A status is kept for at least ``use`` seconds and less than twice that, as long as fewer than half of
    :data:`MAX_STATUSES` arrive meanwhile. (To drop single entries from the front of one dictionary would search past
    all that were dropped before.)
    """

    def __init__(self, use: float) -> None:
        self._use: Final = use
        self._began = -math.inf
        self._young: dict[str | None, CachedStatus] = {}
        self._old: dict[str | None, CachedStatus] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, session_id: str | None) -> CachedStatus | None:
        return self._young.get(session_id) or self._old.get(session_id)

    def put(self, session_id: str | None, status: CachedStatus, now: float) -> None:
        if len(self._young) >= MAX_STATUSES // 2 or now - self._began >= self._use:
            self._young, self._old, self._began = {}, self._young, now
        self._young[session_id] = status
        self._old.pop(session_id, None)

    def drop(self, session_id: str | None) -> None:
        self._young.pop(session_id, None)
        self._old.pop(session_id, None)


class StatusCache:
    """One status for each session: of an active one for as long as it is of use, of an ended one for good."""

    def __init__(self, use: float) -> None:
        self._active: Final = StatusGenerations(use)
        self._ended: Final = StatusGenerations(math.inf)

    def __len__(self) -> int:
        return len(self._active) + len(self._ended)

    def get(self, key: SessionKey) -> CachedStatus | None:
        status = self._active.get(key.session_id) or self._ended.get(key.session_id)
        return status if status is not None and status.is_of(key) else None

    def put(self, key: SessionKey, status: CachedStatus, *, active: bool, now: float) -> None:
        """Keep a status, unless that of a later query is kept: an older query may return later."""
        earlier = self.get(key)
        if earlier is not None and earlier.sent_at > status.sent_at:
            return
        into, other = (self._active, self._ended) if active else (self._ended, self._active)
        into.put(key.session_id, status, now)
        other.drop(key.session_id)


class LocalRevocation(NamedTuple):
    """A revocation by this process."""

    generation: int
    at: float
    """Monotonic."""
    scope: Scope
    not_before: float
    """The mark, by this process's clock: it stands in while the store cannot be asked."""
    kept: str | None
    done: bool
    """False where the store failed: then nothing may have been revoked, and older statuses are doubtful."""

    def ends(self, key: SessionKey, auth_time: float | None) -> bool:
        """True if it ended that session for certain."""
        if not self.done or (self.kept is not None and self.kept == key.session_id):
            return False
        return self.scope == "session" or auth_time is None or auth_time <= self.not_before


class LocalRevocations:
    """What this process revoked: an older status does not count any more, and no outage revives the session."""

    def __init__(self) -> None:
        self.generation = 0
        self._floor = 0
        """The generation of the newest revocation that was dropped: statuses below it are fetched again."""
        self._entries: Final[dict[tuple[Scope, str], LocalRevocation]] = {}

    def add(self, scope: Scope, name: str, *, at: float, not_before: float, kept: str | None, done: bool) -> None:
        self.generation += 1
        self._entries.pop((scope, name), None)
        for dropped in make_room(self._entries, MAX_REVOCATIONS):
            self._floor = dropped.generation
        self._entries[scope, name] = LocalRevocation(self.generation, at, scope, not_before, kept, done)

    def concerning(self, key: SessionKey) -> list[LocalRevocation]:
        """The revocations that may have ended that session."""
        users: list[tuple[Scope, str]] = [("user", user_id) for user_id in key.user_ids]
        names: list[tuple[Scope, str]] = [("session", key.session_id or ""), *users, ("all", "")]
        return [self._entries[name] for name in names if name in self._entries]

    def precede(self, key: SessionKey, status: CachedStatus) -> bool:
        """True if the status was fetched after every revocation that may concern the session."""
        return status.generation >= max([self._floor, *(each.generation for each in self.concerning(key))])
