"""What answers an old token: ours, and what an app writes by hand, a query for each, with the same signals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import jwt
import sqlalchemy as sa
import structlog
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from sqlalchemy.ext.asyncio import AsyncEngine

from jwt_middleware import SessionAuthority, SQLAlchemyClaims, Telemetry
from jwt_middleware.testing import old_token

from . import world
from .floods import Handle

metadata = sa.MetaData()
users = sa.Table("users", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("email", sa.String(200)))
EmailOf = Callable[[int], Awaitable[str | None]]


def authority(engine: AsyncEngine) -> SessionAuthority[Any]:
    telemetry = Telemetry(
        meter_provider=MeterProvider([InMemoryMetricReader()]), tracer_provider=TracerProvider(sampler=ALWAYS_OFF)
    )
    claims = SQLAlchemyClaims(engine, users, key=users.c.id, columns={"email": users.c.email})
    return world.authority(sources=[claims], store=None, telemetry=telemetry)


def old_tokens(given: SessionAuthority[Any], count: int) -> list[str]:
    return [old_token(given, {"userId": str(n), "companyId": "acme"}) for n in range(count)]


def ours(given: SessionAuthority[Any]) -> Handle:
    async def handle(token: str) -> None:
        outcome = await given.authenticate([(b"cookie", f"{world.COOKIE}={token}".encode())])
        if outcome.session is None or outcome.session.email == "Unknown":
            raise SystemExit("the fallback did not answer")

    return handle


def by_hand(email_of: EmailOf) -> Handle:
    """PyJWT, a query for each old token, and a count, a span and a log call beside it."""
    counter = MeterProvider([InMemoryMetricReader()]).get_meter("by hand").create_counter("fallbacks")
    tracer = TracerProvider(sampler=ALWAYS_OFF).get_tracer("by hand")
    log: Any = structlog.get_logger("by hand")

    async def handle(token: str) -> world.Session:
        claims = jwt.decode(token, world.SECRET, algorithms=["HS256"], leeway=world.LEEWAY)
        if "email" not in claims:
            with tracer.start_as_current_span("fallback"):
                claims["email"] = await email_of(int(claims["userId"]))
            counter.add(1, {"claim": "email", "outcome": "resolved"})
            log.info("fallback", claim="email")
        if claims["email"] is None:
            raise SystemExit("no such user")
        return world.Session(user_id=claims["userId"], company_id=claims["companyId"], email=claims["email"])

    return handle


def with_sqlalchemy(engine: AsyncEngine) -> EmailOf:
    """As SQLAlchemy's documentation reads a value; without a transaction, which would be two more round trips."""
    reading = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def email_of(user: int) -> str | None:
        async with reading.connect() as connection:
            found: str | None = await connection.scalar(sa.select(users.c.email).where(users.c.id == user))
            return found

    return email_of


def with_asyncpg(pool: Any) -> EmailOf:
    async def email_of(user: int) -> str | None:
        found: str | None = await pool.fetchval("SELECT email FROM users WHERE id = $1", user)
        return found

    return email_of
