"""The migration of docs/sessions.md: a table of six columns becomes `user_sessions`, and its tokens stay valid."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from jwt_middleware import Adoption
from jwt_middleware.errors import Reason
from jwt_middleware.sqlalchemy import SQLAlchemySessionStore, metadata
from jwt_middleware.testing import old_token
from tests.support.world import authority_of, bearer

TABLES: dict[str, tuple[Any, Any, Any]] = {
    "integers": (sa.Integer(), sa.Integer(), sa.DateTime()),
    "uuids": (sa.Uuid(), sa.Uuid(), sa.DateTime(timezone=True)),
    "text": (sa.String(64), sa.String(64), sa.DateTime(timezone=True)),
}
"""Types of the id, the user's id and the times."""
SUBJECT = "5a7bf8a5-1f3e-4d5c-9d56-0a2c2f7d0f11"


def documented() -> dict[str, Any]:
    """The block that defines `adopt`, as the page has it."""
    page = (Path(__file__).parents[2] / "docs" / "sessions.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    scope: dict[str, Any] = {}
    exec(next(block for block in blocks if "async def adopt(" in block), scope)
    return scope


async def fill(engine: AsyncEngine, kind: str, tokens: dict[str, bool], subject: str) -> None:
    """A table of six columns with these tokens of one user, each active or not."""
    id_, user_id, time = TABLES[kind]
    table = sa.Table(
        "user_sessions",
        sa.MetaData(),
        sa.Column("id", id_, primary_key=True),
        sa.Column("user_id", user_id, index=True),
        sa.Column("session_token", sa.Text, nullable=False),
        sa.Column("expires_at", time, index=True),
        sa.Column("last_activity_at", time),
        sa.Column("is_active", sa.Boolean),
    )
    now = datetime.now(UTC) if time.timezone else datetime.now(UTC).replace(tzinfo=None)
    times = {"expires_at": now + timedelta(days=7), "last_activity_at": now - timedelta(minutes=1)}
    async with engine.begin() as connection:
        await connection.run_sync(table.metadata.create_all)
        for number, (token, active) in enumerate(tokens.items(), start=1):
            ids = {
                "id": number if kind == "integers" else id_.python_type(str(uuid4())),
                "user_id": user_id.python_type(subject),
            }
            await connection.execute(sa.insert(table).values(session_token=token, is_active=active, **ids, **times))


@pytest.mark.parametrize("kind", TABLES)
async def test_earlier_tokens_keep_their_rows(engine: AsyncEngine, kind: str) -> None:
    subject = "7" if kind == "integers" else SUBJECT
    if kind == "uuids" and engine.dialect.name == "sqlite":
        subject = subject.replace("-", "")  # as SQLite stores a UUID, and so as the app writes it into its tokens
    authority = authority_of(store=SQLAlchemySessionStore(engine), adoption=Adoption(sessions="marks"))
    alive, ended, third = (
        old_token(authority, {"userId": subject, "email": f"{n}@x.y"}, version=2, sid=None, auth_time=None)
        for n in range(3)
    )
    await fill(engine, kind, {alive: True, ended: False, third: True}, subject)
    await documented()["adopt"](engine)

    async def reason_of(token: str) -> Any:
        return (await authority.authenticate(bearer(token))).reason

    assert [await reason_of(token) for token in (alive, ended, third)] == [None, Reason.SESSION_REVOKED, None]
    listed = await authority.sessions_of(subject)
    assert len(listed) == 2
    assert await authority.revoke(listed[0].id)
    assert [await reason_of(token) for token in (alive, third)].count(Reason.SESSION_REVOKED) == 1
    await authority.revoke_user(subject)
    assert [await reason_of(token) for token in (alive, third)] == [Reason.SESSION_REVOKED] * 2
    await authority.aclose()


async def test_the_migrated_table_is_that_of_a_new_database(engine: AsyncEngine) -> None:
    def inspected(connection: sa.Connection) -> Any:
        inspector = sa.inspect(connection)
        return (
            sorted(inspector.get_table_names()),
            [
                (column["name"], str(column["type"]), column["nullable"])
                for column in inspector.get_columns("user_sessions")
            ],
            sorted(str(index["name"]) for index in inspector.get_indexes("user_sessions")),
            inspector.get_pk_constraint("user_sessions")["constrained_columns"],
        )

    await fill(engine, "integers", {"a.b.c": True}, "7")
    await documented()["adopt"](engine)
    async with engine.begin() as connection:
        migrated = await connection.run_sync(inspected)
        assert "a.b.c" not in str((await connection.execute(sa.text("SELECT * FROM user_sessions"))).all())
        await connection.run_sync(metadata.drop_all)
        await connection.run_sync(metadata.create_all)
        assert await connection.run_sync(inspected) == migrated
