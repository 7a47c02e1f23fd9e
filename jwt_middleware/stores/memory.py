"""Sessions in memory: for tests, and for apps of one process that may forget them at a restart."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ..ports import Clock, SystemClock
from ..types import SessionKey, SessionRecord, SessionStatus, moment

EVERYBODY: Final = ""
"""Whose mark counts for all; no subject is empty."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Sessions that began no later than this are revoked, but one; microseconds since the epoch."""

    not_before: int
    kept: str | None = None


class MemorySessionStore:
    """A ``SessionStore`` of one process."""

    def __init__(self, *, clock: Clock = SystemClock()) -> None:
        self._clock: Final = clock
        self._rows: Final[dict[str, SessionRecord]] = {}
        self._marks: Final[dict[str, Mark]] = {}
        self.resource: Final[object] = self

    async def stamp(self, user_id: str) -> float:
        return self._later_than([mark for key in (user_id, EVERYBODY) if (mark := self._marks.get(key))]) / 1e6

    async def add(self, record: SessionRecord) -> None:
        self._rows[record.id] = record

    async def statuses(self, keys: Collection[SessionKey]) -> Mapping[SessionKey, SessionStatus]:
        return {key: self._status(key) for key in keys}

    async def sessions_of(self, user_id: str) -> Sequence[SessionRecord]:
        now = moment(self._clock.now())
        rows = [
            row
            for row in self._rows.values()
            if row.user_id == user_id and row.is_active and row.expires_at > now and not self._marked(row)
        ]
        return sorted(rows, key=lambda row: (row.last_activity_at, row.created_at), reverse=True)

    async def revoke(self, session_id: str) -> bool:
        row = self._rows.get(session_id)
        if row is None or not row.is_active:
            return False
        self._rows[session_id] = replace(row, is_active=False, revoked_at=moment(self._clock.now()))
        return True

    async def revoke_token(self, record: SessionRecord) -> None:
        if record.id not in self._rows:
            self._rows[record.id] = replace(record, is_active=False)
        elif self._rows[record.id].is_active:
            self._rows[record.id] = replace(self._rows[record.id], is_active=False, revoked_at=record.revoked_at)

    async def revoke_user(self, user_id: str, *, keep: str | None = None) -> None:
        row = self._rows.get(keep or "")
        keeps = row is not None and row.user_id == user_id and row.is_active and not self._marked(row)
        marks = [mark for key in (user_id, EVERYBODY) if (mark := self._marks.get(key))]
        self._marks[user_id] = Mark(self._later_than(marks), keep if keeps else None)

    async def revoke_all(self) -> None:
        self._marks[EVERYBODY] = Mark(self._later_than(self._marks.values()))

    def _later_than(self, marks: Iterable[Mark]) -> int:
        """Now; later than these marks where the clock stands still or was set back: marks and logins alternate."""
        return max([int(self._clock.now() * 1e6), *(mark.not_before + 1 for mark in marks)])

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
