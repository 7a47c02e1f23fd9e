"""The queries of the session store that are more than a line: pages of sessions and users, activity, purging.

Activity skips rows that another transaction has locked: it delays no revocation, and cannot deadlock with one. Purging
deletes in chunks, each in its own transaction, so that no lock is held for long.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from ..types import EVERYBODY, Marks, Purged, Retention, SessionCursor, moment, uuid_of
from .database import Database
from .tables import session_marks, user_sessions

_ROW: Final = user_sessions.c
_ID: Final = _ROW.id.type
_TIME: Final = _ROW.last_activity_at.type


def page_of_sessions(
    user_id: str, marks: Marks, *, now: datetime, limit: int | None, after: SessionCursor | None
) -> sa.Select[Any]:
    """One user's active sessions, the latest activity first; ``marks`` are those on that user."""
    query = sa.select(user_sessions).where(_ROW.user_id == user_id, _ROW.is_active, _ROW.expires_at > now)
    for mark in marks.values():
        began_later = _ROW.created_at > moment(mark.not_before / 1e6)
        query = query.where(began_later if mark.kept is None else sa.or_(began_later, _ROW.id == uuid_of(mark.kept)))
    if after is not None:
        # a comparison of tuples, which PostgreSQL reads from the index
        cursor = sa.tuple_(sa.literal(after.last_activity_at, _TIME), uuid_of(after.id))
        query = query.where(sa.tuple_(_ROW.last_activity_at, _ROW.id) < cursor)
    return query.order_by(_ROW.last_activity_at.desc(), _ROW.id.desc()).limit(limit)


def page_of_users(dialect: str, marks: Marks, *, now: datetime, limit: int, after: str | None) -> sa.Select[Any]:
    """Users with active sessions, how many, and the latest activity; ``marks`` holds the mark on all users, if set."""
    own = session_marks.alias("own")
    unmarked = sa.or_(own.c.user_id.is_(None), own.c.kept == _ROW.id, _created_at(dialect) > own.c.not_before)
    query = (
        sa.select(_ROW.user_id, sa.func.count().label("sessions"), sa.func.max(_ROW.last_activity_at).label("latest"))
        .select_from(user_sessions.outerjoin(own, own.c.user_id == _ROW.user_id))
        .where(_ROW.is_active, _ROW.expires_at > now, _ROW.user_id > (after or ""), unmarked)
    )
    if EVERYBODY in marks:
        query = query.where(_ROW.created_at > moment(marks[EVERYBODY].not_before / 1e6))
    return query.group_by(_ROW.user_id).order_by(_ROW.user_id).limit(limit)


def _created_at(dialect: str) -> sa.ColumnElement[int]:
    """``created_at`` in microseconds since the epoch; SQLite stores it as ``2026-11-25 10:00:00.123456``."""
    if dialect == "postgresql":
        return sa.cast(sa.func.extract("epoch", _ROW.created_at) * 1_000_000, sa.BigInteger)
    seconds = sa.cast(sa.func.strftime("%s", _ROW.created_at), sa.BigInteger)
    return seconds * 1_000_000 + sa.cast(sa.func.substr(_ROW.created_at, 21, 6), sa.BigInteger)


_USED: Final = (
    sa.func.unnest(
        sa.bindparam("ids", type_=postgresql.ARRAY(_ID)), sa.bindparam("moments", type_=postgresql.ARRAY(_TIME))
    )
    .table_valued(sa.column("id", _ID), sa.column("moment", _TIME), name="used")
    .render_derived()
)
_UNLOCKED: Final = (
    sa.select(_ROW.id, _USED.c.moment)
    .where(_ROW.id == _USED.c.id, _ROW.is_active, _ROW.last_activity_at < _USED.c.moment)
    .with_for_update(key_share=True, skip_locked=True, of=user_sessions)
    .cte("unlocked")
)
_TOUCH_MANY: Final = (
    sa.update(user_sessions)
    .where(_ROW.id == _UNLOCKED.c.id, _ROW.is_active)
    .values(last_activity_at=_UNLOCKED.c.moment)
)
_MOMENT: Final = sa.bindparam("moment", type_=_TIME)
_TOUCH_ONE: Final = (
    sa.update(user_sessions)
    .where(_ROW.id == sa.bindparam("session_id"), _ROW.is_active, _ROW.last_activity_at < _MOMENT)
    .values(last_activity_at=_MOMENT)
)


async def touch(database: Database, moments: Mapping[str, datetime]) -> None:
    """Move the last activity of active rows forward, and change nothing else of them."""
    times = {id_: moment for session_id, moment in moments.items() if (id_ := uuid_of(session_id)) is not None}
    if not times:
        return
    async with database.begin() as connection:
        if database.dialect == "postgresql":
            await connection.execute(_TOUCH_MANY, {"ids": list(times), "moments": list(times.values())})
        else:
            await connection.execute(_TOUCH_ONE, [{"session_id": id_, "moment": at} for id_, at in times.items()])


async def purge(database: Database, now: datetime, retention: Retention) -> Purged:
    """Delete the rows and the marks that ``retention`` does not keep."""
    may_go = sa.or_(_ROW.is_active, _ROW.expires_at < retention.revoked_before(now))
    expired = sa.and_(_ROW.expires_at < retention.expired_before(now), may_go)
    sessions = await _delete_in_chunks(database, _ROW.id, _ROW.expires_at, expired, retention.chunk)
    mark, before = session_marks.c, retention.marks_before(now)
    if before is None:
        return Purged(sessions, 0)
    old = mark.not_before < before
    return Purged(sessions, await _delete_in_chunks(database, mark.user_id, mark.user_id, old, retention.chunk))


async def _delete_in_chunks(
    database: Database, key: sa.Column[Any], order: sa.Column[Any], condition: sa.ColumnElement[bool], chunk: int
) -> int:
    """Delete the rows that meet the condition; each chunk begins where the last one ended, so no row is read twice."""
    deleted, reached = 0, None
    while True:
        select = sa.select(key, order).where(condition).order_by(order).limit(chunk)
        if reached is not None:
            select = select.where(order >= reached)
        async with database.begin() as connection:
            rows = (await connection.execute(select)).all()
            # the condition again: a row that a renewal has changed since the SELECT stays
            delete = sa.delete(key.table).where(key.in_([row[0] for row in rows]), condition)
            deleted += (await connection.execute(delete)).rowcount if rows else 0
        if len(rows) < chunk:
            return deleted
        reached = rows[-1][1]
