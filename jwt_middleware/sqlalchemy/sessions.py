"""Sessions in a table, on SQLite (aiosqlite) and PostgreSQL (asyncpg); the tables are yours to migrate and to query.

Everybody's or a user's sessions are revoked by a mark (one row, one moment): a session that began no later is revoked,
but the one it keeps. Marks and beginnings come from one clock, the database's; SQLite has no other than this machine's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ..errors import ConfigError
from ..protocols import Clock, SystemClock
from ..types import Purged, Retention, SessionCursor, SessionKey, SessionRecord, SessionStatus, UserSessions, moment
from . import queries
from .database import Database
from .queries import page_of_sessions, page_of_users
from .tables import (
    EVERYBODY,
    aware,
    columns_of,
    later_than,
    marked,
    metadata,
    not_before,
    record_of,
    session_marks,
    user_sessions,
    uuid_of,
)

__all__ = ["SQLAlchemySessionStore", "metadata", "session_marks", "user_sessions"]
LONGEST: Final = 5.0
"""Seconds of a transaction of PostgreSQL, whoever waits for it; making tables and purging may take longer."""
_INSERTS: Final[dict[str, Any]] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}


class SQLAlchemySessionStore:
    """A ``SessionStore`` in a database.

    Args:
        engine: An async engine of SQLite or PostgreSQL; used from one event loop.
        clock: SQLite's clock; PostgreSQL has its own.

    Raises:
        ConfigError: Another database.
    """

    def __init__(self, engine: AsyncEngine, *, clock: Clock = SystemClock()) -> None:
        self._database: Final = Database(engine)
        if self._database.dialect not in _INSERTS:
            raise ConfigError(f"the session store knows SQLite and PostgreSQL, not {self._database.dialect}")
        self._insert: Final = _INSERTS[self._database.dialect]
        self._clock: Final = clock
        self.resource: Final[object] = engine

    async def create_all(self) -> None:
        """Create the tables that do not exist yet; larger apps let their migrations do it, from ``metadata``."""
        async with self._database.begin() as connection:
            await connection.run_sync(metadata.create_all)

    async def stamp(self, user_id: str) -> float:
        async with self._database.begin(LONGEST) as connection:
            marks = await self._marks(connection, [user_id])
            return later_than(marks, await self._now(connection)) / 1e6

    async def add(self, record: SessionRecord) -> None:
        async with self._database.begin(LONGEST) as connection:
            await connection.execute(sa.insert(user_sessions).values(columns_of(record)))

    async def statuses(self, keys: Collection[SessionKey]) -> Mapping[SessionKey, SessionStatus]:
        ids = {key: uuid_of(key.session_id) for key in keys}
        users = {key.user_id for key in keys}
        rows, marks = await self._database.to_its_end(self._rows_and_marks(ids.values(), users))
        statuses = {}
        for key, id_ in ids.items():
            row = rows.get(id_)
            known = row is not None and row.user_id == key.user_id
            statuses[key] = SessionStatus(
                known=known,
                active=known and row is not None and row.is_active,
                not_before=not_before(marks, key.user_id, id_),
            )
        return statuses

    async def sessions_of(
        self, user_id: str, *, limit: int | None = None, after: SessionCursor | None = None
    ) -> Sequence[SessionRecord]:
        async with self._database.begin(LONGEST) as connection:
            now = moment(await self._now(connection) / 1e6)
            marks = await self._marks(connection, [user_id])
            query = page_of_sessions(user_id, marks, now=now, limit=limit, after=after)
            return [record_of(row) for row in await connection.execute(query)]

    async def active_users(self, *, limit: int, after: str | None = None) -> Sequence[UserSessions]:
        async with self._database.begin(LONGEST) as connection:
            now = moment(await self._now(connection) / 1e6)
            marks = await self._marks(connection, [])
            query = page_of_users(self._database.dialect, marks, now=now, limit=limit, after=after)
            return [
                UserSessions(user_id=row.user_id, sessions=row.sessions, last_activity_at=aware(row.latest))
                for row in await connection.execute(query)
            ]

    async def revoke(self, session_id: str, *, user_id: str | None = None) -> bool:
        table = user_sessions.c
        revoking = sa.update(user_sessions).where(table.id == uuid_of(session_id), table.is_active)
        if user_id is not None:
            revoking = revoking.where(table.user_id == user_id)
        async with self._database.begin(LONGEST) as connection:
            now = moment(await self._now(connection) / 1e6)
            revoked = await connection.execute(revoking.values(is_active=False, revoked_at=now))
            return bool(revoked.rowcount)

    async def replace_token(
        self, session_id: str, *, user_id: str, session_token: str, expires_at: datetime | None = None
    ) -> bool:
        table = user_sessions.c
        values: dict[str, Any] = {"session_token": session_token}
        if expires_at is not None:  # never earlier: of two renewals at once, the earlier may be written last
            ends = sa.literal(expires_at, table.expires_at.type)
            values["expires_at"] = sa.case((table.expires_at < ends, ends), else_=table.expires_at)
        replacing = sa.update(user_sessions).where(
            table.id == uuid_of(session_id), table.user_id == user_id, table.is_active
        )
        async with self._database.begin(LONGEST) as connection:
            replaced = await connection.execute(replacing.values(values))
            return bool(replaced.rowcount)

    async def revoke_token(self, record: SessionRecord) -> None:
        statement = self._insert(user_sessions).values({**columns_of(record), "is_active": False})
        async with self._database.begin(LONGEST) as connection:
            await connection.execute(
                statement.on_conflict_do_update(
                    index_elements=[user_sessions.c.id],
                    set_={"is_active": False, "revoked_at": statement.excluded.revoked_at},
                    where=user_sessions.c.is_active,
                )
            )

    async def revoke_user(self, user_id: str, *, keep: str | None = None) -> None:
        kept = uuid_of(keep)
        async with self._database.begin(LONGEST) as connection:
            await self._lock_mark(connection, user_id)
            if kept is not None and not await self._is_active(connection, kept, user_id):
                kept = None
            marks = await self._marks(connection, [user_id])
            await self._mark(connection, user_id, later_than(marks, await self._now(connection)), kept)

    async def revoke_all(self) -> None:
        async with self._database.begin(LONGEST) as connection:
            await self._lock_mark(connection, EVERYBODY)
            latest = (await connection.execute(sa.select(sa.func.max(session_marks.c.not_before)))).scalar_one()
            await self._mark(connection, EVERYBODY, max(await self._now(connection), latest + 1), None)

    async def _rows_and_marks(
        self, ids: Collection[UUID | None], users: Collection[str]
    ) -> tuple[dict[UUID | None, Any], dict[str, Any]]:
        table = user_sessions.c
        query = sa.select(table.id, table.user_id, table.is_active).where(
            table.id.in_([id_ for id_ in ids if id_ is not None])
        )
        async with self._database.begin(LONGEST) as connection:
            rows = {row.id: row for row in await connection.execute(query)}
            return rows, await self._marks(connection, users)

    async def touch(self, moments: Mapping[str, datetime]) -> None:
        await self._database.to_its_end(queries.touch(self._database, moments))

    async def purge(self, retention: Retention = Retention()) -> Purged:
        async with self._database.begin() as connection:
            now = moment(await self._now(connection) / 1e6)
        return await queries.purge(self._database, now, retention)

    async def _is_active(self, connection: AsyncConnection, id_: UUID, user_id: str) -> bool:
        table = user_sessions.c
        rows = await connection.execute(
            sa.select(user_sessions).where(table.id == id_, table.user_id == user_id, table.is_active)
        )
        row = rows.one_or_none()
        return row is not None and not marked(await self._marks(connection, [user_id]), id_, record_of(row))

    async def _lock_mark(self, connection: AsyncConnection, user_id: str) -> None:
        """From here to the end of the transaction nobody else moves this mark, nor checks what it may keep."""
        unmoved = self._insert(session_marks).values(user_id=user_id, not_before=0)
        await connection.execute(
            unmoved.on_conflict_do_update(
                index_elements=[session_marks.c.user_id], set_={"not_before": session_marks.c.not_before}
            )
        )

    async def _mark(self, connection: AsyncConnection, user_id: str, not_before: int, kept: UUID | None) -> None:
        mark = sa.update(session_marks).where(session_marks.c.user_id == user_id)
        await connection.execute(mark.values(not_before=not_before, kept=kept))

    async def _marks(self, connection: AsyncConnection, users: Collection[str]) -> dict[str, Any]:
        query = sa.select(session_marks).where(session_marks.c.user_id.in_([*users, EVERYBODY]))
        return {row.user_id: row for row in await connection.execute(query)}

    async def _now(self, connection: AsyncConnection) -> int:
        """The one clock, in microseconds."""
        if self._database.dialect != "postgresql":
            return int(self._clock.now() * 1e6)
        seconds = sa.func.extract("epoch", sa.func.clock_timestamp())
        return int((await connection.execute(sa.select(sa.cast(seconds * 1_000_000, sa.BigInteger)))).scalar_one())
