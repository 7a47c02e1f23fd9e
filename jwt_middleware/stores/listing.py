"""Pages of sessions, and of users with their sessions counted: what an administrator reads, however many there are.

A page begins after the last row of the one before (keyset), so that the thousandth costs what the first did. Both
queries walk the index of ``user_id`` and ``last_activity_at`` and stop when the page is full.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from ..types import SessionCursor, moment
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
