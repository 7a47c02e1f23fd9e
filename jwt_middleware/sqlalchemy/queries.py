"""What keeps the tables current and small beside the requests: activity is noted, what is over is deleted in chunks.

Noting waits for no row that somebody else holds: a revocation can neither be held up by it nor deadlock with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from ..types import Purged, Retention, SessionCursor, moment
from .database import Database
from .tables import EVERYBODY, session_marks, user_sessions, uuid_of


def page_of_sessions(
    user_id: str, marks: Mapping[str, Any], *, now: datetime, limit: int | None, after: SessionCursor | None
) -> sa.Select[Any]:
    """One user's active sessions, the latest activity first; ``marks`` are the user's and everybody's."""
    table = user_sessions.c
    query = sa.select(user_sessions).where(table.user_id == user_id, table.is_active, table.expires_at > now)
    for mark in marks.values():
        began_later = table.created_at > moment(mark.not_before / 1e6)
        query = query.where(began_later if mark.kept is None else sa.or_(began_later, table.id == mark.kept))
    if after is not None:
        place = sa.tuple_(sa.literal(after.last_activity_at, table.last_activity_at.type), uuid_of(after.id))
        query = query.where(sa.tuple_(table.last_activity_at, table.id) < place)
    return query.order_by(table.last_activity_at.desc(), table.id.desc()).limit(limit)


def page_of_users(
    dialect: str, marks: Mapping[str, Any], *, now: datetime, limit: int, after: str | None
) -> sa.Select[Any]:
    """Users with active sessions, how many, and the latest activity; ``marks`` holds everybody's, if there is one."""
    table, own = user_sessions.c, session_marks.alias("own")
    unmarked = sa.or_(own.c.user_id.is_(None), own.c.kept == table.id, _began(dialect) > own.c.not_before)
    query = (
        sa.select(table.user_id, sa.func.count().label("sessions"), sa.func.max(table.last_activity_at).label("latest"))
        .select_from(user_sessions.outerjoin(own, own.c.user_id == table.user_id))
        .where(table.is_active, table.expires_at > now, table.user_id > (after or ""), unmarked)
    )
    if EVERYBODY in marks:
        query = query.where(table.created_at > moment(marks[EVERYBODY].not_before / 1e6))
    return query.group_by(table.user_id).order_by(table.user_id).limit(limit)


def _began(dialect: str) -> sa.ColumnElement[int]:
    """``created_at`` in microseconds since the epoch; SQLite keeps it as ``2026-11-25 10:00:00.123456``."""
    created_at = user_sessions.c.created_at
    if dialect == "postgresql":
        return sa.cast(sa.func.extract("epoch", created_at) * 1_000_000, sa.BigInteger)
    seconds = sa.cast(sa.func.strftime("%s", created_at), sa.BigInteger)
    return seconds * 1_000_000 + sa.cast(sa.func.substr(created_at, 21, 6), sa.BigInteger)


_ROW: Final = user_sessions.c
_ID: Final = _ROW.id.type
_TIME: Final = _ROW.last_activity_at.type
_NOTED: Final = (
    sa.func.unnest(
        sa.bindparam("ids", type_=postgresql.ARRAY(_ID)), sa.bindparam("moments", type_=postgresql.ARRAY(_TIME))
    )
    .table_valued(sa.column("id", _ID), sa.column("moment", _TIME), name="noted")
    .render_derived()
)
_FREE: Final = (
    sa.select(_ROW.id, _NOTED.c.moment)
    .where(_ROW.id == _NOTED.c.id, _ROW.is_active, _ROW.last_activity_at < _NOTED.c.moment)
    .with_for_update(key_share=True, skip_locked=True, of=user_sessions)
    .cte("free")
)
_TOUCH_MANY: Final = (
    sa.update(user_sessions).where(_ROW.id == _FREE.c.id, _ROW.is_active).values(last_activity_at=_FREE.c.moment)
)
_MOMENT: Final = sa.bindparam("moment", type_=_TIME)
_TOUCH_ONE: Final = (
    sa.update(user_sessions)
    .where(_ROW.id == sa.bindparam("noted"), _ROW.is_active, _ROW.last_activity_at < _MOMENT)
    .values(last_activity_at=_MOMENT)
)


async def touch(database: Database, moments: Mapping[str, datetime]) -> None:
    """Move the last activity of rows that are active forward, and change nothing else of them."""
    found = {id_: moment for text, moment in moments.items() if (id_ := uuid_of(text)) is not None}
    if not found:
        return
    async with database.begin() as connection:
        if database.dialect == "postgresql":
            await connection.execute(_TOUCH_MANY, {"ids": list(found), "moments": list(found.values())})
        else:
            await connection.execute(_TOUCH_ONE, [{"noted": id_, "moment": moment} for id_, moment in found.items()])


async def purge(database: Database, now: datetime, retention: Retention) -> Purged:
    """Delete what need not be kept any more."""
    may_go = sa.or_(_ROW.is_active, _ROW.expires_at < retention.revoked_before(now))
    expired = sa.and_(_ROW.expires_at < retention.expired_before(now), may_go)
    sessions = await _purge(database, user_sessions, _ROW.id, _ROW.expires_at, expired, retention.chunk)
    mark, before = session_marks.c, retention.marks_before(now)
    if before is None:
        return Purged(sessions, 0)
    marks = await _purge(database, session_marks, mark.user_id, mark.user_id, mark.not_before < before, retention.chunk)
    return Purged(sessions, marks)


async def _purge(
    database: Database, table: sa.Table, key: Any, order: Any, over: sa.ColumnElement[bool], chunk: int
) -> int:
    """A transaction for each chunk, and each begins where the one before ended: what stays is passed over once."""
    deleted, reached = 0, None
    while True:
        due = sa.select(key, order).where(over).order_by(order).limit(chunk)
        if reached is not None:
            due = due.where(order >= reached)
        async with database.begin() as connection:
            rows = (await connection.execute(due)).all()
            # what was moved in the meantime, as by a renewal, stays
            gone = sa.delete(table).where(key.in_([row[0] for row in rows]), over)
            deleted += (await connection.execute(gone)).rowcount if rows else 0
        if len(rows) < chunk:
            return deleted
        reached = rows[-1][1]
