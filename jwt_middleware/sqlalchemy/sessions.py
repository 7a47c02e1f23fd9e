"""Sessions in a table, on SQLite (aiosqlite) and PostgreSQL (asyncpg); you migrate the tables and may query them.

One mark (one row) revokes all sessions of a user, or of all users, that began no later, except one that it keeps. Marks
and session starts come from one clock: PostgreSQL's own; SQLite has none, so there it is the store's.
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
    is_marked,
    later_than,
    moment,
    status_of,
    uuid_of,
)
from . import queries
from .database import Database
from .tables import aware, columns_of, mark_of, metadata, record_of, session_marks, user_sessions

TIMEOUT: Final = 5.0
"""Seconds after which a transaction on PostgreSQL is cancelled; creating tables and purging may take longer."""
_INSERTS: Final[dict[str, Any]] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
_ROW: Final = user_sessions.c


class SQLAlchemySessionStore:
    """A ``SessionStore`` in a database.

    Args:
        engine: An async engine of SQLite or PostgreSQL; used from one event loop.
        clock: The clock of sessions on SQLite; PostgreSQL has its own.

    Raises:
        ConfigError: The engine is not async, or of another database.
    """

    def __init__(self, engine: AsyncEngine, *, clock: Clock = SystemClock()) -> None:
        self._database: Final = Database(engine)
        if self._database.dialect not in _INSERTS:
            raise ConfigError(
                f"engine must be of SQLite or PostgreSQL, got {self._database.dialect}; "
                "use create_async_engine('postgresql+asyncpg://…')"
            )
        self._insert: Final = _INSERTS[self._database.dialect]
        self._clock: Final = clock
        self.resource: Final[object] = engine

    async def create_all(self) -> None:
        """Create the tables that do not exist yet; larger apps create them in their migrations, from ``metadata``."""
        async with self._database.begin() as connection:
            await connection.run_sync(metadata.create_all)

    async def stamp(self, user_id: str) -> float:
        async with self._database.begin(TIMEOUT) as connection:
            marks = await self._marks(connection, [user_id])
            return later_than(marks.values(), await self._now(connection)) / 1e6

    async def add(self, record: SessionRecord) -> None:
        async with self._database.begin(TIMEOUT) as connection:
            await connection.execute(sa.insert(user_sessions).values(columns_of(record)))

    async def statuses(self, keys: Collection[SessionKey]) -> Mapping[SessionKey, SessionStatus]:
        ids = {key: uuid_of(key.session_id) for key in keys}
        rows, marks = await self._database.run_to_completion(
            self._rows_and_marks(
                [id_ for id_ in ids.values() if id_ is not None], {user_id for key in keys for user_id in key.user_ids}
            )
        )
        return {key: status_of(key, rows.get(id_), marks) for key, id_ in ids.items()}

    async def sessions_of(
        self, user_id: str, *, limit: int | None = None, after: SessionCursor | None = None
    ) -> Sequence[SessionRecord]:
        async with self._database.begin(TIMEOUT) as connection:
            now = moment(await self._now(connection) / 1e6)
            marks = await self._marks(connection, [user_id])
            query = queries.page_of_sessions(user_id, marks, now=now, limit=limit, after=after)
            return [record_of(row) for row in await connection.execute(query)]

    async def active_users(self, *, limit: int, after: str | None = None) -> Sequence[UserSessions]:
        async with self._database.begin(TIMEOUT) as connection:
            now = moment(await self._now(connection) / 1e6)
            marks = await self._marks(connection, [])
            query = queries.page_of_users(self._database.dialect, marks, now=now, limit=limit, after=after)
            return [
                UserSessions(user_id=row.user_id, sessions=row.sessions, last_activity_at=aware(row.latest))
                for row in await connection.execute(query)
            ]

    async def revoke(self, session_id: str, *, user_id: str | None = None) -> bool:
        update = sa.update(user_sessions).where(_ROW.id == uuid_of(session_id), _ROW.is_active)
        if user_id is not None:
            update = update.where(_ROW.user_id == user_id)
        async with self._database.begin(TIMEOUT) as connection:
            now = moment(await self._now(connection) / 1e6)
            revoked = await connection.execute(update.values(is_active=False, revoked_at=now))
            return bool(revoked.rowcount)

    async def replace_token(
        self, key: SessionKey, *, user_id: str, session_token: str, expires_at: datetime | None = None
    ) -> bool:
        values: dict[str, Any] = {"session_token": session_token, "user_id": user_id}
        if expires_at is not None:  # only forward: of two renewals at once, the earlier may be written last
            ends = sa.literal(expires_at, _ROW.expires_at.type)
            values["expires_at"] = sa.case((_ROW.expires_at < ends, ends), else_=_ROW.expires_at)
        update = sa.update(user_sessions).where(
            _ROW.id == uuid_of(key.session_id), _ROW.user_id.in_(key.user_ids), _ROW.is_active
        )
        async with self._database.begin(TIMEOUT) as connection:
            replaced = await connection.execute(update.values(values))
            return bool(replaced.rowcount)

    async def revoke_token(self, record: SessionRecord) -> None:
        insert = self._insert(user_sessions).values({**columns_of(record), "is_active": False})
        upsert = insert.on_conflict_do_update(
            index_elements=[_ROW.id],
            set_={"is_active": False, "revoked_at": insert.excluded.revoked_at},
            where=_ROW.is_active,
        )
        async with self._database.begin(TIMEOUT) as connection:
            await connection.execute(upsert)

    async def revoke_user(self, user_id: str, *, keep: str | None = None) -> None:
        kept = uuid_of(keep)
        async with self._database.begin(TIMEOUT) as connection:
            await self._lock_mark(connection, user_id)
            if kept is not None and not await self._is_active(connection, kept, user_id):
                kept = None
            marks = await self._marks(connection, [user_id])
            await self._set_mark(connection, user_id, later_than(marks.values(), await self._now(connection)), kept)

    async def revoke_all(self) -> None:
        async with self._database.begin(TIMEOUT) as connection:
            await self._lock_mark(connection, EVERYBODY)
            latest = (await connection.execute(sa.select(sa.func.max(session_marks.c.not_before)))).scalar_one()
            await self._set_mark(connection, EVERYBODY, max(await self._now(connection), latest + 1), None)

    async def touch(self, moments: Mapping[str, datetime]) -> None:
        await self._database.run_to_completion(queries.touch(self._database, moments))

    async def purge(self, retention: Retention = Retention()) -> Purged:
        async with self._database.begin() as connection:
            now = moment(await self._now(connection) / 1e6)
        return await queries.purge(self._database, now, retention)

    async def _rows_and_marks(
        self, ids: Collection[UUID], users: Collection[str]
    ) -> tuple[dict[UUID | None, Any], dict[str, Mark]]:
        query = sa.select(_ROW.id, _ROW.user_id, _ROW.is_active).where(_ROW.id.in_(ids))
        async with self._database.begin(TIMEOUT) as connection:
            rows = {row.id: row for row in await connection.execute(query)}
            return rows, await self._marks(connection, users)

    async def _is_active(self, connection: AsyncConnection, id_: UUID, user_id: str) -> bool:
        query = sa.select(user_sessions).where(_ROW.id == id_, _ROW.user_id == user_id, _ROW.is_active)
        row = (await connection.execute(query)).one_or_none()
        return row is not None and not is_marked(await self._marks(connection, [user_id]), record_of(row))

    async def _lock_mark(self, connection: AsyncConnection, user_id: str) -> None:
        """Lock the row of a mark until the transaction ends: no other one moves it or checks what it may keep.

        ``SELECT … FOR UPDATE`` would lock no row before the first mark; this inserts it, or updates it to what it is.
        """
        mark = session_marks.c
        insert = self._insert(session_marks).values(user_id=user_id, not_before=0)
        await connection.execute(
            insert.on_conflict_do_update(index_elements=[mark.user_id], set_={"not_before": mark.not_before})
        )

    async def _set_mark(self, connection: AsyncConnection, user_id: str, not_before: int, kept: UUID | None) -> None:
        update = sa.update(session_marks).where(session_marks.c.user_id == user_id)
        await connection.execute(update.values(not_before=not_before, kept=kept))

    async def _marks(self, connection: AsyncConnection, users: Collection[str]) -> dict[str, Mark]:
        """The marks on these users, and the mark on all users."""
        query = sa.select(session_marks).where(session_marks.c.user_id.in_([*users, EVERYBODY]))
        return {row.user_id: mark_of(row) for row in await connection.execute(query)}

    async def _now(self, connection: AsyncConnection) -> int:
        """The one clock, in microseconds since the epoch."""
        if self._database.dialect != "postgresql":
            return int(self._clock.now() * 1e6)
        seconds = sa.func.extract("epoch", sa.func.clock_timestamp())
        return int((await connection.execute(sa.select(sa.cast(seconds * 1_000_000, sa.BigInteger)))).scalar_one())
