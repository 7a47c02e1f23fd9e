"""A table as a claims source, on both databases: keys of every type, values of every type, one statement a batch."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, mapped_column

from jwt_middleware import Claim
from jwt_middleware.errors import ConfigError, Unavailable, class_of
from jwt_middleware.sqlalchemy import SQLAlchemyClaims
from jwt_middleware.testing import old_token
from tests.support.databases import engine_on, statements_of
from tests.support.world import authority_of, bearer

UUID_KEY = "5a7bf8a5-1f3e-4d5c-9d56-0a2c2f7d0f11"


class Plan(enum.Enum):
    FREE = "free"
    PRO = "pro"


@asynccontextmanager
async def database(url: str, table: sa.Table, *rows: Mapping[str, Any]) -> AsyncIterator[tuple[AsyncEngine, list[str]]]:
    """An engine on a database with that table; and the statements that it sends."""
    async with engine_on(url) as engine:
        async with engine.begin() as connection:
            await connection.run_sync(table.metadata.create_all)
            for row in rows:
                await connection.execute(sa.insert(table).values(row))
        yield engine, statements_of(engine)


def claims_of(engine: AsyncEngine, table: sa.Table, **columns: Any) -> SQLAlchemyClaims:
    return SQLAlchemyClaims(engine, table, key=table.c.id, columns=columns or {"email": table.c.email})


def users(key: Any, name: str = "users") -> sa.Table:
    return sa.Table(name, sa.MetaData(), sa.Column("id", key, primary_key=True), sa.Column("email", sa.String(99)))


TABLE = users(sa.Integer())


class TestQueries:
    async def test_a_key_is_found_by_its_canonical_text_and_fails_no_batch(self, database_url: str) -> None:
        """Types of key columns, a stored key, its text, and texts that are not that key."""
        no_uuid = [
            "7",
            "",
            "\0",
            UUID_KEY.upper(),
            UUID_KEY.replace("-", ""),
            f"{{{UUID_KEY}}}",
            f"urn:uuid:{UUID_KEY}",
        ]
        no_ten = ["1_0", "010", "+10", " 10", "10 ", "10.0", "1e1", "-0", "", "x", "１０"]  # noqa: RUF001 - digits that int() reads
        keys: list[tuple[Any, Any, str, list[str]]] = [
            (sa.Uuid(), UUID(UUID_KEY), UUID_KEY, no_uuid),
            (sa.Uuid(as_uuid=False), UUID_KEY, UUID_KEY, [UUID_KEY.upper(), "7"]),
            (sa.Integer(), 10, "10", [*no_ten, str(2**31), str(-(2**31) - 1)]),
            (sa.Integer(), -5, "-5", ["--5", "−5", str(2**63), str(2**64), "9" * 400]),  # noqa: RUF001 - a minus sign that is none
            (sa.SmallInteger(), 7, "7", [str(2**15), str(-(2**15) - 1), str(2**31)]),
            (sa.BigInteger(), 2**63 - 1, str(2**63 - 1), [str(2**63), str(-(2**63) - 1)]),
            (sa.String(50), "Ada", "Ada", ["ada", "Ada ", "A\x00da", "x" * 255, "';--"]),
            (sa.Text(), "ü", "ü", ["u"]),
        ]
        for number, (key_type, stored, text, others) in enumerate(keys):
            table = users(key_type, f"users{number}")
            async with database(database_url, table, {"id": stored, "email": "a@b.c"}) as (engine, sent):
                source = claims_of(engine, table)
                assert await source.fetch([*others, text]) == {text: {"email": "a@b.c"}}, table.c.id
                assert len(sent) == 1
                assert await source.fetch(others) == {}, table.c.id

    async def test_keys_that_the_column_cannot_hold_send_no_query(self, database_url: str) -> None:
        table = users(sa.Integer())

        async with database(database_url, table) as (engine, sent):
            assert await claims_of(engine, table).fetch(["x", "1_0"]) == {}
            assert sent == []

    async def test_a_thousand_users_are_one_statement(self, database_url: str) -> None:
        table = users(sa.Integer())

        rows = [{"id": number, "email": f"{number}@x.y"} for number in range(3)]
        async with database(database_url, table, *rows) as (engine, sent):
            claims = await claims_of(engine, table).fetch([str(number) for number in range(1_000)])
            assert claims == {str(row["id"]): {"email": row["email"]} for row in rows}
            assert len(sent) == 1

    async def test_a_join_is_a_table(self, database_url: str) -> None:
        schema = sa.MetaData()
        people = sa.Table(
            "people", schema, sa.Column("id", sa.Integer, primary_key=True), sa.Column("company", sa.Integer)
        )
        companies = sa.Table(
            "companies", schema, sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text)
        )

        async with database(database_url, people, {"id": 1, "company": 5}) as (engine, _):
            async with engine.begin() as connection:
                await connection.execute(sa.insert(companies).values(id=5, name="acme"))
            source = SQLAlchemyClaims(
                engine,
                people.join(companies, people.c.company == companies.c.id),
                key=people.c.id,
                columns={"company": sa.func.upper(companies.c.name)},
            )
            assert await source.fetch(["1", "2"]) == {"1": {"company": "ACME"}}


class TestValues:
    async def test_values_of_every_type_become_those_of_the_claims(self, database_url: str) -> None:
        @dataclass(frozen=True, slots=True, kw_only=True)
        class Session:
            user_id: Annotated[str, Claim("userId")]
            company: Annotated[str, Claim(since=2)]
            number: Annotated[str, Claim(since=2)]
            plan: Annotated[str, Claim(since=2)]
            plan_too: Annotated[Plan, Claim(since=2)]
            company_too: Annotated[UUID, Claim(since=2)]
            joined: Annotated[datetime, Claim(since=2)]
            size: Annotated[int, Claim(since=2)]
            absent: Annotated[str | None, Claim(since=2)]
            tags: Annotated[list[str], Claim(since=2)]

        table = sa.Table(
            "users",
            sa.MetaData(),
            sa.Column("id", sa.Uuid, primary_key=True),
            sa.Column("company", sa.Uuid),
            sa.Column("number", sa.Integer),
            sa.Column("plan", sa.Enum(Plan, name="plan")),
            sa.Column("joined", sa.DateTime(timezone=True)),
            sa.Column("size", sa.Integer),
            sa.Column("absent", sa.Text),
            sa.Column("tags", sa.JSON),
        )
        joined = datetime(2026, 3, 1, 12, tzinfo=UTC)
        row = {
            "id": UUID(UUID_KEY),
            "company": UUID(UUID_KEY),
            "number": 42,
            "plan": Plan.PRO,
            "joined": joined,
            "size": 3,
            "absent": None,
            "tags": ["a", "b"],
        }

        async with database(database_url, table, row) as (engine, sent):
            columns: dict[str, Any] = {name: table.c[name] for name in row if name not in ("id", "joined")}
            columns |= {"plan_too": table.c.plan, "company_too": table.c.company, "joined": table.c.joined}
            if engine.dialect.name == "sqlite":  # which forgets the timezone
                columns["joined"] = sa.literal(joined, sa.DateTime(timezone=True))
            authority = authority_of(Session, sources=[claims_of(engine, table, **columns)])
            outcome = await authority.authenticate(bearer(old_token(authority, {"userId": UUID_KEY}, version=1)))
            assert {claim.claim: claim.outcome.value for claim in outcome.token.filled} == dict.fromkeys(
                columns, "resolved"
            )
            session = outcome.session
            assert (session.company, session.number, session.plan) == (UUID_KEY, "42", "pro")
            assert (session.plan_too, session.company_too) == (Plan.PRO, UUID(UUID_KEY))
            assert (session.size, session.absent, session.tags) == (3, None, ["a", "b"])
            assert session.joined.replace(tzinfo=UTC) == joined
            assert len(sent) == 1
            await authority.aclose()


class TestErrors:
    async def test_errors_of_the_database_are_not_repeated(self, engine: AsyncEngine) -> None:
        with pytest.raises(Unavailable) as failed:  # there is no such table
            await claims_of(engine, users(sa.String(50))).fetch(["ada@example.com"])
        assert str(failed.value) == "the database could not answer: is it reachable, and do its tables exist?"
        assert failed.value.__suppress_context__
        assert class_of(failed.value) in ("sqlalchemy.exc.OperationalError", "sqlalchemy.exc.ProgrammingError")

    def test_mistakes_are_found_at_construction(self) -> None:
        class Base(DeclarativeBase):
            """What an app's own classes derive from."""

        class User(Base):
            __tablename__ = "people"
            id = mapped_column(sa.Integer, primary_key=True)
            email = mapped_column(sa.Text)

        mistakes: list[tuple[dict[str, Any], str]] = [
            ({"columns": {}}, r'columns must map claims to columns, got {}; use {"email": users.c.email}'),
            ({"columns": {"email": "email"}}, "key and columns must be columns, got str; use users.c.email"),
            (
                {"columns": {"email": User.email}},
                r"got InstrumentedAttribute; use .* User.__table__.c.email for an ORM",
            ),
            ({"columns": [TABLE.c.email]}, r"columns must map claims to columns, got \["),
            (
                {"table": User},
                r"table must be a table .* got DeclarativeAttributeIntercept; use User.__table__ for an ORM",
            ),
            ({"table": "users"}, "table must be a table or a subquery, got str"),
            ({"table": sa.select(TABLE)}, r"got Select; .* select\(…\).subquery\(\) for a query"),
            ({"key": "id"}, "key and columns must be columns, got str"),
            ({"key": users(sa.Integer()).c.id}, "column 'id' is not one of 'users', which has id, email"),
            ({"key": sa.cast(TABLE.c.id, sa.Numeric())}, "must be an integer, UUID or string column, got .* Numeric"),
            ({"key": sa.cast(TABLE.c.id, sa.Enum(Plan))}, "must be an integer, UUID or string column, got .* Enum"),
            ({"engine": sa.create_engine("sqlite://")}, "engine must be an AsyncEngine, got Engine"),
        ]
        engine = create_async_engine("sqlite+aiosqlite://")
        valid = {"engine": engine, "table": TABLE, "key": TABLE.c.id, "columns": {"email": TABLE.c.email}}
        for settings, message in mistakes:
            with pytest.raises(ConfigError, match=message):
                SQLAlchemyClaims(**{**valid, **settings})

    def test_the_settings_are_readable(self) -> None:
        engine = create_async_engine("sqlite+aiosqlite://")
        source = SQLAlchemyClaims(
            engine, TABLE, key=TABLE.c.id, columns={"email": TABLE.c.email}, by="companyId", require_row=True
        )
        assert source.claims == {"email"}
        assert (source.by, source.require_row) == ("companyId", True)
        assert source.resource is engine

    async def test_a_value_that_is_not_of_the_claims_type_is_invalid(self, database_url: str) -> None:
        table = sa.Table(
            "users", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("email", sa.Numeric(9, 2))
        )

        @dataclass(frozen=True, slots=True, kw_only=True)
        class Sized:
            user_id: Annotated[str, Claim("userId")]
            email: Annotated[list[str], Claim(since=2)]

        async with database(database_url, table, {"id": 1, "email": Decimal("1.50")}) as (engine, _):
            authority = authority_of(Sized, sources=[claims_of(engine, table)])
            outcome = await authority.authenticate(bearer(old_token(authority, {"userId": "1"}, version=1)))
            assert outcome.reason == "claims_incomplete"
            assert [claim.outcome.value for claim in outcome.fallback.claims] == ["invalid"]
            await authority.aclose()
