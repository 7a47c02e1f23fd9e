"""The app's own tables (users, companies, saves) and queries, on SQLite or PostgreSQL."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from .passwords import hashed

metadata: Final = sa.MetaData()

companies: Final = sa.Table(
    "demo_companies",
    metadata,
    sa.Column("id", sa.String(50), primary_key=True),
    sa.Column("name", sa.String(100), nullable=False),
)
users: Final = sa.Table(
    "demo_users",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("company_id", sa.ForeignKey(companies.c.id), nullable=False),
    sa.Column("email", sa.String(255), nullable=False, unique=True),
    sa.Column("role", sa.String(20), nullable=False),
    sa.Column("password", sa.String(200), nullable=False),
)
saves: Final = sa.Table(
    "demo_saves",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("company_id", sa.String(50), nullable=False),
    sa.Column("saved_by", sa.String(255), nullable=False),
    sa.Column("saved_at", sa.DateTime(timezone=True), nullable=False),
)

_COMPANIES: Final = {"acme": "Acme Ltd", "globex": "Globex GmbH", "initech": "Initech Inc"}
_EVERY_TENTH: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A row of ``demo_users``."""

    id: int
    company_id: str
    email: str
    role: str
    password: str = field(repr=False)
    """The hash of the password."""


def email_of(number: int) -> str:
    """The address of the demo's n-th user."""
    return f"user{number}@example.com"


def role_of(number: int) -> str:
    """The role of the demo's n-th user: the first and every tenth after it are administrators."""
    return "admin" if number % _EVERY_TENTH == 1 else "user"


def url_of(database: str | None, directory: Path) -> str:
    """The URL for ``--database``; by default a SQLite file in ``directory``."""
    if database is None:
        return f"sqlite+aiosqlite:///{directory / 'demo.db'}"
    return database if "://" in database else f"sqlite+aiosqlite:///{database}"


class Database:
    """The queries of the app. The claims source and the session store use the same engine."""

    def __init__(self, url: str) -> None:
        pool = (
            {"pool_size": 1, "max_overflow": 0} if url.startswith("sqlite") else {}
        )  # SQLite has one writer at a time
        self.engine: Final[AsyncEngine] = create_async_engine(url, **pool)
        if self.engine.dialect.name == "sqlite":
            sa.event.listen(self.engine.sync_engine, "connect", _set_pragmas)

    async def prepare(self, count: int, password: str) -> None:
        """Create the tables and ``count`` users with one password; rows of an earlier run are deleted."""
        stored = await asyncio.to_thread(hashed, password)
        rows = [
            {
                "id": number,
                "company_id": list(_COMPANIES)[number % len(_COMPANIES)],
                "email": email_of(number),
                "role": role_of(number),
                "password": stored,
            }
            for number in range(1, count + 1)
        ]
        async with self.engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
            for table in (saves, users, companies):
                await connection.execute(sa.delete(table))
            await connection.execute(
                sa.insert(companies), [{"id": id_, "name": name} for id_, name in _COMPANIES.items()]
            )
            await connection.execute(sa.insert(users), rows)

    async def user(self, email: str) -> User | None:
        """The user with this address."""
        async with self.engine.connect() as connection:
            row = (await connection.execute(sa.select(users).where(users.c.email == email))).one_or_none()
        return None if row is None else User(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it

    async def save(self, *, company_id: str, saved_by: str) -> int:
        """Insert one consolidation; returns its id."""
        row = {"company_id": company_id, "saved_by": saved_by, "saved_at": datetime.now(UTC)}
        async with self.engine.begin() as connection:
            return int((await connection.execute(sa.insert(saves).values(row).returning(saves.c.id))).scalar_one())

    async def saved(self) -> tuple[int, int]:
        """The number of consolidations, and of those whose ``saved_by`` is no user's address."""
        by_user = sa.exists().where(users.c.email == saves.c.saved_by)
        query = sa.select(sa.func.count(), sa.func.count().filter(~by_user)).select_from(saves)
        async with self.engine.connect() as connection:
            row = (await connection.execute(query)).one()
        return int(row[0]), int(row[1])

    async def ping(self) -> None:
        """Run a query; raises the driver's error if the database does not answer."""
        async with self.engine.connect() as connection:
            await connection.execute(sa.select(1))

    async def aclose(self) -> None:
        await self.engine.dispose()


def _set_pragmas(connection: Any, _: object) -> None:
    """Use SQLite's write-ahead log, and do not sync it with every transaction: this is a demo."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
