"""A table as a claims source: one SELECT for all keys of a batch, on SQLite (aiosqlite) and PostgreSQL (asyncpg)."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from ..errors import ConfigError
from .database import Database

_DECIMAL: Final = re.compile(r"-?[1-9][0-9]{0,18}|0")


class SQLAlchemyClaims:
    """Claims of a table (or any selectable), by a key column.

    Args:
        engine: An async engine; used from one event loop.
        table: What the columns belong to.
        key: The column the keys are compared with; UUID, integer or text.
        columns: Wire name of a claim to its column.
        by: Wire name of the claim whose value is the key; None means the subject.
        require_row: Refuse a key without row, whatever defaults its claims have.

    Raises:
        ConfigError: Columns that the table does not have, or a key no text can spell.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        table: sa.FromClause,
        *,
        key: sa.ColumnElement[Any],
        columns: Mapping[str, sa.ColumnElement[Any]],
        by: str | None = None,
        require_row: bool = False,
    ) -> None:
        self._database: Final = Database(engine)
        if not isinstance(table, sa.FromClause):
            raise ConfigError("table is a table or a subquery: User.__table__ of an ORM class, select(…).subquery()")
        if not isinstance(columns, Mapping) or not columns:
            raise ConfigError('name the claims and their columns: columns={"email": users.c.email}')
        for column in (key, *columns.values()):
            if not isinstance(column, sa.ColumnElement):
                raise ConfigError(
                    "key and columns are columns, not names or attributes: users.c.email, User.__table__.c.email"
                )
            if isinstance(column, sa.Column) and column not in set(table.c):
                raise ConfigError(f"column {column.name!r} is not one of {getattr(table, 'name', 'the table')!r}")
        self._parse: Final = _parser(key.type, self._database.dialect)
        self.claims: Final = frozenset(columns)
        self._names: Final = tuple(columns)
        self.by: Final = by
        self.require_row: Final = require_row
        self.resource: Final[object] = engine
        self._select: Final = (
            sa.select(key, *columns.values()).select_from(table).where(key.in_(sa.bindparam("keys", expanding=True)))
        )

    async def fetch(self, keys: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
        """Rows by key; a key the column could not hold has none.

        Raises:
            Unavailable: The database could not answer.
        """
        spelled = {parsed: key for key in keys if (parsed := self._parse(key)) is not None}
        if not spelled:
            return {}
        rows = await self._database.to_its_end(self._rows(list(spelled)))
        return {spelled[row[0]]: dict(zip(self._names, row[1:], strict=True)) for row in rows if row[0] in spelled}

    async def _rows(self, keys: list[Any]) -> Sequence[Any]:
        async with self._database.begin() as connection:
            return (await connection.execute(self._select, {"keys": keys})).all()


def _parser(column_type: sa.types.TypeEngine[Any], dialect: str) -> Callable[[str], Any]:
    """How a key's text becomes a value of the column: canonical spellings in the column's range, else None."""
    if isinstance(column_type, sa.Uuid):
        return _uuid if column_type.as_uuid else lambda key: None if _uuid(key) is None else key
    if isinstance(column_type, sa.Integer):
        wide = dialect == "sqlite" or isinstance(column_type, sa.BigInteger)  # SQLite's integers have one width
        bits = 64 if wide else 16 if isinstance(column_type, sa.SmallInteger) else 32
        return lambda key: _integer(key, bits)
    if isinstance(column_type, sa.String) and not isinstance(column_type, sa.Enum):
        return lambda key: None if "\x00" in key else key
    raise ConfigError(
        f"a key of type {column_type!r} cannot be looked up by text: use an integer, UUID or string column"
    )


def _uuid(key: str) -> UUID | None:
    try:
        parsed = UUID(key)
    except ValueError:
        return None
    return parsed if str(parsed) == key else None


def _integer(key: str, bits: int) -> int | None:
    if not _DECIMAL.fullmatch(key):
        return None
    number = int(key)
    return number if -(1 << bits - 1) <= number < 1 << bits - 1 else None
