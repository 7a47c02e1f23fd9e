"""Sessions in memory: for tests, and for apps of one process that may forget them at a restart."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
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
    moment,
)


class MemorySessionStore:
    """A ``SessionStore`` of one process, whichever of its threads and event loops use it.

    It forgets by itself what expired more than a day ago, but no marks.
    """

    def __init__(self, *, clock: Clock = SystemClock()) -> None:
        self._clock: Final = clock
        self._rows: Final[dict[str, SessionRecord]] = {}
        self._marks: Final[dict[str, Mark]] = {}
        self._changing: Final = threading.Lock()
        """Held for moments, in which nothing is suspended: what one thread does to a row, no other undoes."""
        self.resource: Final[object] = self

    async def stamp(self, user_id: str) -> float:
        return self._later_than([mark for key in (user_id, EVERYBODY) if (mark := self._marks.get(key))]) / 1e6

    async def add(self, record: SessionRecord) -> None:
        with self._changing:
            self._forget(2)
            self._rows[record.id] = record

    async def statuses(self, keys: Collection[SessionKey]) -> Mapping[SessionKey, SessionStatus]:
        with self._changing:
            return {key: self._status(key) for key in keys}

    async def sessions_of(
        self, user_id: str, *, limit: int | None = None, after: SessionCursor | None = None
    ) -> Sequence[SessionRecord]:
        rows = sorted((row for row in self._active() if row.user_id == user_id), key=_place, reverse=True)
        if after is not None:
            rows = [row for row in rows if _place(row) < (after.last_activity_at, after.id)]
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
        with self._changing:
            row = self._rows.get(session_id)
            if row is None or not row.is_active or user_id not in (None, row.user_id):
                return False
            self._rows[session_id] = replace(row, is_active=False, revoked_at=moment(self._clock.now()))
            return True

    async def replace_token(
        self, session_id: str, *, user_id: str, session_token: str, expires_at: datetime | None = None
    ) -> bool:
        with self._changing:
            row = self._rows.get(session_id)
            if row is None or not row.is_active or row.user_id != user_id:
                return False
            ends = max(row.expires_at, expires_at or row.expires_at)
            self._rows[session_id] = replace(row, session_token=session_token, expires_at=ends)
            return True

    async def revoke_token(self, record: SessionRecord) -> None:
        with self._changing:
            row = self._rows.get(record.id)
            if row is None:
                self._rows[record.id] = replace(record, is_active=False)
            elif row.is_active:
                self._rows[record.id] = replace(row, is_active=False, revoked_at=record.revoked_at)

    async def revoke_user(self, user_id: str, *, keep: str | None = None) -> None:
        with self._changing:
            row = self._rows.get(keep or "")
            keeps = row is not None and row.user_id == user_id and row.is_active and not self._marked(row)
            marks = [mark for key in (user_id, EVERYBODY) if (mark := self._marks.get(key))]
            self._marks[user_id] = Mark(self._later_than(marks), keep if keeps else None)

    async def revoke_all(self) -> None:
        with self._changing:
            self._marks[EVERYBODY] = Mark(self._later_than(self._marks.values()))

    async def touch(self, moments: Mapping[str, datetime]) -> None:
        with self._changing:
            for session_id, at in moments.items():
                row = self._rows.get(session_id)
                if row is not None and row.is_active and row.last_activity_at < at:
                    self._rows[session_id] = replace(row, last_activity_at=at)

    async def purge(self, retention: Retention = Retention()) -> Purged:
        now = moment(self._clock.now())
        marks_before = retention.marks_before(now)
        with self._changing:
            sessions = self._forget(len(self._rows), retention)
            old = [
                user_id
                for user_id, mark in self._marks.items()
                if marks_before is not None and mark.not_before < marks_before
            ]
            for user_id in old:
                del self._marks[user_id]
        return Purged(sessions, len(old))

    def _forget(self, most: int, retention: Retention = Retention()) -> int:
        """Look at some rows, each in its turn, and forget those that may go; how many."""
        now, gone = moment(self._clock.now()), 0
        for session_id in list(islice(self._rows, most)):
            row = self._rows.pop(session_id)
            if row.expires_at < (retention.expired_before(now) if row.is_active else retention.revoked_before(now)):
                gone += 1
            else:
                self._rows[session_id] = row
        return gone

    def _later_than(self, marks: Iterable[Mark]) -> int:
        """Now; later than these marks where the clock stands still or was set back: marks and logins alternate."""
        return max([int(self._clock.now() * 1e6), *(mark.not_before + 1 for mark in marks)])

    def _active(self) -> list[SessionRecord]:
        now = moment(self._clock.now())
        with self._changing:
            rows = list(self._rows.values())
        return [row for row in rows if row.is_active and row.expires_at > now and not self._marked(row)]

    def _marked(self, row: SessionRecord) -> bool:
        not_before = self._not_before(row.id, row.user_id)
        return not_before is not None and row.created_at.timestamp() <= not_before

    def _not_before(self, session_id: str | None, user_id: str) -> float | None:
        marks = [self._marks.get(user_id), self._marks.get(EVERYBODY)]
        applying = [mark.not_before for mark in marks if mark and (mark.kept is None or mark.kept != session_id)]
        return max(applying) / 1e6 if applying else None

    def _status(self, key: SessionKey) -> SessionStatus:
        row = self._rows.get(key.session_id or "")
        known = row is not None and row.user_id == key.user_id
        return SessionStatus(
            known=known,
            active=known and row is not None and row.is_active,
            not_before=self._not_before(key.session_id, key.user_id),
        )


def _place(row: SessionRecord) -> tuple[datetime, str]:
    return row.last_activity_at, row.id
