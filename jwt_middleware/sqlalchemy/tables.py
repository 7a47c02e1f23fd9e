"""The tables of sessions and marks, for your migrations and queries, and how their rows become values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from ..types import Mark, SessionRecord

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
"""One row a user, and one with an empty user id for all users; ``not_before`` in microseconds since the epoch."""


def columns_of(record: SessionRecord) -> dict[str, Any]:
    names = [column.name for column in user_sessions.c if column.name != "id"]
    return {"id": UUID(record.id), **{name: getattr(record, name) for name in names}}


def record_of(row: Any) -> SessionRecord:
    values = {name: aware(value) for name, value in row._mapping.items()}  # noqa: SLF001 - SQLAlchemy's public name for it
    return SessionRecord(**{**values, "id": str(values["id"])})


def mark_of(row: Any) -> Mark:
    return Mark(row.not_before, None if row.kept is None else str(row.kept))


def aware(value: Any) -> Any:
    """SQLite drops the time zone of a time; the store writes UTC."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value
