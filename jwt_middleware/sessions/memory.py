"""Sessions in memory: for tests, and for apps of one process whose users may have to log in again after a restart."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Final

from ..protocols import Clock, SystemClock
from ..types import (
    EVERYBODY,
    Mark,
    Purged,
    Retention,
    SessionCursor,
    SessionKey,
    SessionRecord,
    SessionStatus,
    UserSessions,
    is_marked,
    later_than,
    marks_on,
    moment,
    status_of,
)


class MemorySessionStore:
    """A ``SessionStore`` in one process; all its threads and event loops may use it.

    Each new session also deletes two that expired more than a day ago; marks stay until :meth:`purge`.
    """

    def __init__(self, *, clock: Clock = SystemClock()) -> None:
        self._clock: Final = clock
        self._rows: Final[dict[str, SessionRecord]] = {}
        self._marks: Final[dict[str, Mark]] = {}
        # held for a read and a write of a row together, never over an await
        self._lock: Final = threading.Lock()
        self.resource: Final[object] = self

    async def stamp(self, user_id: str) -> float:
        return later_than(marks_on(self._marks, user_id), self._now()) / 1e6

    async def add(self, record: SessionRecord) -> None:
        with self._lock:
            self._delete_expired(2)
            self._rows[record.id] = record

    async def statuses(self, keys: Collection[SessionKey]) -> Mapping[SessionKey, SessionStatus]:
        with self._lock:
            return {key: status_of(key, self._rows.get(key.session_id or ""), self._marks) for key in keys}

    async def sessions_of(
        self, user_id: str, *, limit: int | None = None, after: SessionCursor | None = None
    ) -> Sequence[SessionRecord]:
        rows = sorted((row for row in self._active() if row.user_id == user_id), key=_cursor, reverse=True)
        if after is not None:
            rows = [row for row in rows if _cursor(row) < (after.last_activity_at, after.id)]
        return rows[:limit]

    async def active_users(self, *, limit: int, after: str | None = None) -> Sequence[UserSessions]:
        active: dict[str, list[SessionRecord]] = {}
        for row in self._active():
            active.setdefault(row.user_id, []).append(row)
        return [
            UserSessions(
                user_id=user_id,
                sessions=len(active[user_id]),
                last_activity_at=max(row.last_activity_at for row in active[user_id]),
            )
            for user_id in sorted(active)
            if user_id > (after or "")
        ][:limit]

    async def revoke(self, session_id: str, *, user_id: str | None = None) -> bool:
        with self._lock:
            row = self._rows.get(session_id)
            if row is None or not row.is_active or user_id not in (None, row.user_id):
                return False
            self._rows[session_id] = replace(row, is_active=False, revoked_at=moment(self._clock.now()))
            return True

    async def replace_token(
        self, key: SessionKey, *, user_id: str, session_token: str, expires_at: datetime | None = None
    ) -> bool:
        with self._lock:
            row = self._rows.get(key.session_id or "")
            if row is None or not row.is_active or row.user_id not in key.user_ids:
                return False
            ends = max(row.expires_at, expires_at or row.expires_at)
            self._rows[row.id] = replace(row, user_id=user_id, session_token=session_token, expires_at=ends)
            return True

    async def revoke_token(self, record: SessionRecord) -> None:
        with self._lock:
            row = self._rows.get(record.id)
            if row is None:
                self._rows[record.id] = replace(record, is_active=False)
            elif row.is_active:
                self._rows[record.id] = replace(row, is_active=False, revoked_at=record.revoked_at)

    async def revoke_user(self, user_id: str, *, keep: str | None = None) -> None:
        with self._lock:
            row = self._rows.get(keep or "")
            keeps = row is not None and row.user_id == user_id and row.is_active and not is_marked(self._marks, row)
            at = later_than(marks_on(self._marks, user_id), self._now())
            self._marks[user_id] = Mark(at, keep if keeps else None)

    async def revoke_all(self) -> None:
        with self._lock:
            self._marks[EVERYBODY] = Mark(later_than(self._marks.values(), self._now()))

    async def touch(self, moments: Mapping[str, datetime]) -> None:
        with self._lock:
            for session_id, at in moments.items():
                row = self._rows.get(session_id)
                if row is not None and row.is_active and row.last_activity_at < at:
                    self._rows[session_id] = replace(row, last_activity_at=at)

    async def purge(self, retention: Retention = Retention()) -> Purged:
        before = retention.marks_before(moment(self._clock.now()))
        with self._lock:
            sessions = self._delete_expired(len(self._rows), retention)
            old = [user_id for user_id, mark in self._marks.items() if before is not None and mark.not_before < before]
            for user_id in old:
                del self._marks[user_id]
        return Purged(sessions, len(old))

    def _delete_expired(self, most: int, retention: Retention = Retention()) -> int:
        """Look at the first rows, ``most`` of them; delete those that may go, move the others to the end."""
        now, deleted = moment(self._clock.now()), 0
        for session_id in list(islice(self._rows, most)):
            row = self._rows.pop(session_id)
            if row.expires_at < (retention.expired_before(now) if row.is_active else retention.revoked_before(now)):
                deleted += 1
            else:
                self._rows[session_id] = row
        return deleted

    def _active(self) -> list[SessionRecord]:
        now = moment(self._clock.now())
        with self._lock:
            rows = list(self._rows.values())
        return [row for row in rows if row.is_active and row.expires_at > now and not is_marked(self._marks, row)]

    def _now(self) -> int:
        """Microseconds since the epoch."""
        return int(self._clock.now() * 1e6)


def _cursor(row: SessionRecord) -> tuple[datetime, str]:
    return row.last_activity_at, row.id
