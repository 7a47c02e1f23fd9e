"""The tables themselves, and what a row of them means: for the store, for your migrations, and for your own queries."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from ..types import SessionRecord

EVERYBODY: Final = ""
"""Whose mark counts for all; no subject is empty."""
metadata: Final = sa.MetaData()
user_sessions: Final = sa.Table(
    "user_sessions",
    metadata,
    sa.Column("id", sa.Uuid(), primary_key=True),
    sa.Column("user_id", sa.String(255), nullable=False),
    sa.Column("session_token", sa.String(64), nullable=False),
    sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False, index=True),
    sa.Column("last_activity_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("is_active", sa.Boolean(), nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("revoked_at", sa.DateTime(timezone=True)),
    sa.Column("label", sa.String(100)),
    sa.Index("ix_user_sessions_user_id_last_activity_at", "user_id", "last_activity_at"),
)
"""One row a session; ``id`` is the token's ``sid``, ``session_token`` the SHA-256 of its newest token."""
session_marks: Final = sa.Table(
    "session_marks",
    metadata,
    sa.Column("user_id", sa.String(255), primary_key=True),
    sa.Column("not_before", sa.BigInteger(), nullable=False),
    sa.Column("kept", sa.Uuid()),
)
"""One row a user, and one of the empty user id for everybody; ``not_before`` in microseconds since the epoch."""


def later_than(marks: Mapping[str, Any], now: int) -> int:
    """Now; later than these marks where the clock stands still or was set back: marks and logins alternate."""
    return max([now, *(int(mark.not_before) + 1 for mark in marks.values())])


def not_before(marks: Mapping[str, Any], user_id: str, id_: UUID | None) -> float | None:
    found = [marks[key] for key in (user_id, EVERYBODY) if key in marks]
    applying = [mark.not_before for mark in found if mark.kept is None or mark.kept != id_]
    return max(applying) / 1e6 if applying else None


def marked(marks: Mapping[str, Any], id_: UUID, record: SessionRecord) -> bool:
    latest = not_before(marks, record.user_id, id_)
    return latest is not None and record.created_at.timestamp() <= latest


def uuid_of(text: str | None) -> UUID | None:
    """The canonical spelling only."""
    try:
        parsed = UUID(text or "")
    except ValueError:
        return None
    return parsed if str(parsed) == text else None


def columns_of(record: SessionRecord) -> dict[str, Any]:
    names = [column.name for column in user_sessions.c if column.name != "id"]
    return {"id": UUID(record.id), **{name: getattr(record, name) for name in names}}


def record_of(row: Any) -> SessionRecord:
    values = {name: aware(value) for name, value in row._mapping.items()}  # noqa: SLF001 - SQLAlchemy's public name for it
    return SessionRecord(**{**values, "id": str(values["id"])})


def aware(value: Any) -> Any:
    """SQLite forgets the timezone; what was written is UTC."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value
