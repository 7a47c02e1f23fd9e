"""A table as a claims source: one SELECT for all keys of a batch, on SQLite (aiosqlite) and PostgreSQL (asyncpg).

A key is text from a token. It is parsed before the query, so that a bad key cannot fail the query for a whole batch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from ..errors import ConfigError
from ..types import uuid_of
from .database import Database

_DECIMAL: Final = re.compile(r"-?[1-9][0-9]{0,18}|0")


class SQLAlchemyClaims:
    """Claims from the columns of a table, a join or a subquery, selected by a key column.

    Args:
        engine: An async engine; used from one event loop.
        table: The table that the columns belong to.
        key: The column that the keys are compared with; of type UUID, integer or text.
        columns: The column of each claim, by the claim's wire name.
        by: Wire name of the claim whose value is the key; None means the subject.
        require_row: Refuse a key without a row, even if its claims have defaults.

    Raises:
        ConfigError: The table does not have such a column, or the key's type has no text form.
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
            raise ConfigError(
                f"table must be a table or a subquery, got {type(table).__name__}; "
                "use User.__table__ for an ORM class, select(…).subquery() for a query"
            )
        if not isinstance(columns, Mapping) or not columns:
            raise ConfigError(f'columns must map claims to columns, got {columns!r}; use {{"email": users.c.email}}')
        for column in (key, *columns.values()):
            _require_column(column, table)
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
        """The claims of each key that has a row; a key that the column cannot hold has none.

        Raises:
            Unavailable: The database failed.
        """
        texts = {parsed: key for key in keys if (parsed := self._parse(key)) is not None}
        if not texts:
            return {}
        rows = await self._database.run_to_completion(self._rows(list(texts)))
        # a database with a collation that ignores case may return a key that was not in the query
        return {texts[row[0]]: dict(zip(self._names, row[1:], strict=True)) for row in rows if row[0] in texts}

    async def _rows(self, keys: list[Any]) -> Sequence[Any]:
        async with self._database.begin() as connection:
            return (await connection.execute(self._select, {"keys": keys})).all()


def _require_column(column: object, table: sa.FromClause) -> None:
    if not isinstance(column, sa.ColumnElement):
        raise ConfigError(
            f"key and columns must be columns, got {type(column).__name__}; use users.c.email, or "
            "User.__table__.c.email for an ORM class"
        )
    if isinstance(column, sa.Column) and column not in set(table.c):
        name, columns = getattr(table, "name", "the table"), ", ".join(table.c.keys())
        raise ConfigError(f"column {column.name!r} is not one of {name!r}, which has {columns}")


def _parser(column_type: sa.types.TypeEngine[Any], dialect: str) -> Callable[[str], Any]:
    """A function from a key's text to a value of the column; None if the text is not canonical or out of range."""
    if isinstance(column_type, sa.Uuid):
        return uuid_of if column_type.as_uuid else lambda key: None if uuid_of(key) is None else key
    if isinstance(column_type, sa.Integer):
        wide = dialect == "sqlite" or isinstance(column_type, sa.BigInteger)  # SQLite has one integer type
        bits = 64 if wide else 16 if isinstance(column_type, sa.SmallInteger) else 32
        return lambda key: _integer(key, bits)
    if isinstance(column_type, sa.String) and not isinstance(column_type, sa.Enum):
        return lambda key: None if "\x00" in key else key  # PostgreSQL refuses a query with a NUL in its text
    raise ConfigError(f"key must be an integer, UUID or string column, got a column of type {column_type!r}")


def _integer(key: str, bits: int) -> int | None:
    if not _DECIMAL.fullmatch(key):
        return None
    number = int(key)
    return number if -(1 << bits - 1) <= number < 1 << bits - 1 else None
