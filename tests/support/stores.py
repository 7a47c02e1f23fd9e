"""Every store there is, opened for one test; and sessions written as `start` writes them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Coroutine, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar
from uuid import uuid4

from jwt_middleware import MemorySessionStore, SessionStore
from jwt_middleware.errors import Unavailable
from jwt_middleware.protocols import Clock, SystemClock
from jwt_middleware.sqlalchemy import SQLAlchemySessionStore
from jwt_middleware.types import SessionKey, SessionRecord, SessionStatus, moment
from tests.support.databases import engine_on

T = TypeVar("T")


@asynccontextmanager
async def opened(url: str, clock: Clock = SystemClock()) -> AsyncIterator[SessionStore]:
    """The store of a URL; `memory` is one too."""
    if url == "memory":
        yield MemorySessionStore(clock=clock)
        return
    async with engine_on(url) as engine:
        store = SQLAlchemySessionStore(engine, clock=clock)
        await store.create_all()
        yield store


def record(user_id: str = "7", *, began: float | None = None, **columns: Any) -> SessionRecord:
    start = datetime.now(UTC) if began is None else moment(began)
    values: dict[str, Any] = {
        "id": str(uuid4()),
        "user_id": user_id,
        "session_token": "0" * 64,
        "expires_at": start + timedelta(days=7),
        "last_activity_at": start,
        "created_at": start,
    }
    return SessionRecord(**{**values, **columns})


async def log_in(store: SessionStore, user_id: str = "7", **columns: Any) -> tuple[str, float]:
    """The session's id and its `auth_time`."""
    auth_time = await store.stamp(user_id)
    row = record(user_id, began=auth_time, **columns)
    await store.add(row)
    return row.id, auth_time


async def expired(store: SessionStore, ago: timedelta, **columns: Any) -> str:
    """The id of a session that expired that long ago."""
    now = datetime.now(UTC)
    row = record(began=(now - ago - timedelta(days=7)).timestamp(), expires_at=now - ago, **columns)
    if isinstance(store, MemorySessionStore):
        store._rows[row.id] = row  # `add` would also delete expired rows
    else:
        await store.add(row)
    return row.id


async def status_of(store: SessionStore, session_id: str | None, user_id: str = "7") -> SessionStatus:
    key = SessionKey(session_id=session_id, user_id=user_id)
    return (await store.statuses([key]))[key]


async def known(store: SessionStore, *ids: str) -> list[bool]:
    """Whether each session has its row."""
    return [(await status_of(store, id_)).known for id_ in ids]


async def stands(store: SessionStore, session: tuple[str, float], user_id: str = "7") -> bool:
    """Whether requests of that session pass."""
    status = await status_of(store, session[0], user_id)
    return status.known and status.active and (status.not_before is None or session[1] > status.not_before)


class FakeStore(MemorySessionStore):
    """A store in memory that counts its status queries, records its revocations, and fails where a test says so."""

    asked = 0
    down = False
    """Its status queries fail."""
    writes_fail: Literal["", "before", "after"] = ""
    """What it writes fails, before or after it is written."""

    def __init__(self, *, clock: Clock = SystemClock()) -> None:
        super().__init__(clock=clock)
        self.revoked: list[tuple[str, str | None]] = []

    async def statuses(self, keys: Collection[SessionKey]) -> Mapping[SessionKey, SessionStatus]:
        self.asked += 1
        if self.down:
            raise Unavailable("the database is down")
        return await super().statuses(keys)

    async def add(self, record: SessionRecord) -> None:
        await self._write(super().add(record))

    async def replace_token(self, key: SessionKey, **values: Any) -> bool:
        return await self._write(super().replace_token(key, **values))

    async def revoke(self, session_id: str, *, user_id: str | None = None) -> bool:
        self.revoked.append((session_id, user_id))
        return await self._write(super().revoke(session_id, user_id=user_id))

    async def revoke_token(self, record: SessionRecord) -> None:
        await self._write(super().revoke_token(record))

    async def revoke_user(self, user_id: str, *, keep: str | None = None) -> None:
        await self._write(super().revoke_user(user_id, keep=keep))

    async def revoke_all(self) -> None:
        await self._write(super().revoke_all())

    async def _write(self, writing: Coroutine[Any, Any, T]) -> T:
        if self.writes_fail == "before":
            writing.close()
            raise Unavailable("the database is down")
        written = await writing
        if self.writes_fail == "after":
            raise Unavailable("the database did not answer")
        return written
