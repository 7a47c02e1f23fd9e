"""The migration of docs/sessions.md: a table of six columns becomes ours, and its tokens live on."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from jwt_middleware import Adoption
from jwt_middleware.errors import Reason
from jwt_middleware.sqlalchemy import SQLAlchemySessionStore, metadata
from jwt_middleware.testing import old_token
from tests.support.world import authority_of

PAGE = Path(__file__).parents[2] / "docs" / "sessions.md"

Columns = tuple[Any, Any, Any]
"""Types of the id, the user's id and the times."""
TABLES: dict[str, Columns] = {
    "integers": (sa.Integer(), sa.Integer(), sa.DateTime()),
    "uuids": (sa.Uuid(), sa.Uuid(), sa.DateTime(timezone=True)),
    "text": (sa.String(64), sa.String(64), sa.DateTime(timezone=True)),
}
SUBJECT = "5a7bf8a5-1f3e-4d5c-9d56-0a2c2f7d0f11"


def documented() -> dict[str, Any]:
    """The block that defines `adopt`, as the page has it."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    scope: dict[str, Any] = {}
    exec(next(block for block in blocks if "async def adopt(" in block), scope)
    return scope


def six_columns(types: Columns) -> sa.Table:
    id_, user_id, moment = types
    return sa.Table(
        "user_sessions",
        sa.MetaData(),
        sa.Column("id", id_, primary_key=True),
        sa.Column("user_id", user_id, index=True),
        sa.Column("session_token", sa.Text, nullable=False),
        sa.Column("expires_at", moment, index=True),
        sa.Column("last_activity_at", moment),
        sa.Column("is_active", sa.Boolean),
    )


def of_type(column: Any, text: str, number: int) -> Any:
    if isinstance(column, sa.Integer):
        return number
    return sa.Uuid().python_type(text) if isinstance(column, sa.Uuid) else text


async def fill(engine: AsyncEngine, types: Columns, tokens: dict[str, bool], subject: str) -> None:
    table = six_columns(types)
    now = datetime.now(UTC) if types[2].timezone else datetime.now(UTC).replace(tzinfo=None)
    async with engine.begin() as connection:
        await connection.run_sync(table.metadata.create_all)
        rows = [
            {
                "id": of_type(types[0], str(uuid4()), number),
                "user_id": of_type(types[1], subject, 7),
                "session_token": token,
                "expires_at": now + timedelta(days=7),
                "last_activity_at": now - timedelta(minutes=1),
                "is_active": active,
            }
            for number, (token, active) in enumerate(tokens.items(), start=1)
        ]
        await connection.execute(sa.insert(table), rows)


@pytest.mark.parametrize("kind", TABLES)
async def test_tokens_of_before_keep_their_rows(database_url: str, kind: str) -> None:
    subject = "7" if kind == "integers" else SUBJECT
    if kind == "uuids" and database_url.startswith("sqlite"):
        subject = subject.replace("-", "")  # how SQLite spells them, and so how the tokens of such an app do

    engine = create_async_engine(database_url)
    try:
        store = SQLAlchemySessionStore(engine)
        authority = authority_of(store=store, adoption=Adoption(sessions="marks"))
        alive, ended, third = (
            old_token(authority, {"userId": subject, "email": f"{n}@x.y"}, version=2, sid=None, auth_time=None)
            for n in range(3)
        )
        await fill(engine, TABLES[kind], {alive: True, ended: False, third: True}, subject)
        await documented()["adopt"](engine)

        async def reason_of(token: str) -> Reason | None:
            reason: Reason | None = (
                await authority.authenticate([(b"authorization", b"Bearer " + token.encode())])
            ).reason
            return reason

        assert [await reason_of(token) for token in (alive, ended, third)] == [None, Reason.SESSION_REVOKED, None]
        listed = await authority.sessions_of(subject)
        assert len(listed) == 2
        assert await authority.revoke(listed[0].id)
        assert [await reason_of(token) for token in (alive, third)].count(Reason.SESSION_REVOKED) == 1
        await authority.revoke_user(subject)
        assert [await reason_of(token) for token in (alive, third)] == [Reason.SESSION_REVOKED] * 2
        await authority.aclose()
    finally:
        await engine.dispose()


async def test_the_migrated_table_is_the_one_of_a_fresh_database(database_url: str) -> None:
    async def shape(engine: AsyncEngine) -> Any:
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

        async with engine.connect() as connection:
            return await connection.run_sync(inspected)

    engine = create_async_engine(database_url)
    try:
        await fill(engine, TABLES["integers"], {"a.b.c": True}, "7")
        await documented()["adopt"](engine)
        migrated = await shape(engine)
        async with engine.begin() as connection:
            assert "a.b.c" not in str((await connection.execute(sa.text("SELECT * FROM user_sessions"))).all())
            await connection.run_sync(metadata.drop_all)
            await connection.run_sync(metadata.create_all)
        assert await shape(engine) == migrated
    finally:
        await engine.dispose()
