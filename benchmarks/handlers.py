"""Handlers of old tokens: ours, and what an app writes by hand, with one query for each token and the same signals.

All check the same: signature, ``exp`` and ``iat`` with the leeway, required claims, a lifetime of at most the window;
none checks revocation. A refused token raises one of :data:`REFUSALS`.
"""

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

from jwt_middleware import SessionAuthority, Telemetry
from jwt_middleware.sqlalchemy import SQLAlchemyClaims
from jwt_middleware.testing import old_token

from . import world
from .floods import Handle
from .peers import bad, shown
from .tokens import OLD
from .world import Headers

metadata = sa.MetaData()
users = sa.Table("users", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("email", sa.String(200)))
EmailOf = Callable[[int], Awaitable[str | None]]
Make = Callable[[], Handle]
"""Makes a contender with empty caches."""
REFUSALS = (PermissionError, jwt.PyJWTError)


def contenders(engine: AsyncEngine, pool: Any = None) -> dict[str, Make]:
    """The contenders by name; with asyncpg if there is a pool."""
    made = {
        "ours": lambda: ours(authority(engine)),
        "a query each, SQLAlchemy": lambda: by_hand(with_sqlalchemy(engine)),
    }
    return made if pool is None else made | {"a query each, asyncpg": lambda: by_hand(with_asyncpg(pool))}


async def prove(name: str, handle: Handle) -> None:
    """Check that the handler fills the email of an old token and refuses bad tokens; end the run otherwise."""
    claims = {**OLD, **{name: world.claims()[name] for name in ("iat", "exp", "sid", "auth_time")}}
    session = await handle(_token_of(shown(claims, _header)))
    if session != world.user():
        raise SystemExit(f"{name} made {session} of an old token")
    for wrong, headers in bad(claims, _header).items():
        if wrong == "revoked":
            continue
        try:
            await handle(_token_of(headers))
        except REFUSALS:
            continue
        raise SystemExit(f"{name} accepted a token that is {wrong}")


def _header(token: str) -> Headers:
    return [(b"token", token.encode())]


def _token_of(headers: Headers) -> str:
    return headers[0][1].decode()


def authority(engine: AsyncEngine) -> SessionAuthority[Any]:
    telemetry = Telemetry(
        meter_provider=MeterProvider([InMemoryMetricReader()]), tracer_provider=TracerProvider(sampler=ALWAYS_OFF)
    )
    claims = SQLAlchemyClaims(engine, users, key=users.c.id, columns={"email": users.c.email})
    return world.authority(sources=[claims], store=None, telemetry=telemetry)


def old_tokens(given: SessionAuthority[Any], count: int) -> list[str]:
    return [old_token(given, {"userId": str(n), "companyId": "acme"}, sid="benchmark") for n in range(count)]


def ours(given: SessionAuthority[Any]) -> Handle:
    async def handle(token: str) -> world.Session:
        outcome = await given.authenticate([(b"cookie", f"{world.COOKIE}={token}".encode())])
        if outcome.session is None:
            raise PermissionError(outcome.reason)
        session: world.Session = outcome.session
        return session

    return handle


def by_hand(email_of: EmailOf) -> Handle:
    """PyJWT, a query for each old token, and a counter, a span and a log call."""
    counter = MeterProvider([InMemoryMetricReader()]).get_meter("by hand").create_counter("fallbacks")
    tracer = TracerProvider(sampler=ALWAYS_OFF).get_tracer("by hand")
    log: Any = structlog.get_logger("by hand")
    algorithms = ["HS256"]
    options: Any = {"require": world.REQUIRED}

    async def handle(token: str) -> world.Session:
        claims = jwt.decode(token, world.SECRET, algorithms=algorithms, leeway=world.LEEWAY, options=options)
        if claims["exp"] - claims["iat"] > world.WINDOW + world.LEEWAY:
            raise jwt.InvalidTokenError
        if "email" not in claims:
            with tracer.start_as_current_span("fallback"):
                claims["email"] = await email_of(int(claims["userId"]))
            counter.add(1, {"claim": "email", "outcome": "resolved"})
            log.info("fallback", claim="email")
        return world.Session(
            user_id=claims["userId"],
            company_id=claims["companyId"],
            role=claims.get("role", "user"),
            email=claims["email"],
            environment=claims.get("environment", "production"),
        )

    return handle


def with_sqlalchemy(engine: AsyncEngine) -> EmailOf:
    """A prepared statement, without a transaction, which would cost two more round trips."""
    reading = engine.execution_options(isolation_level="AUTOCOMMIT")
    select = sa.select(users.c.email).where(users.c.id == sa.bindparam("user"))

    async def email_of(user: int) -> str | None:
        async with reading.connect() as connection:
            found: str | None = await connection.scalar(select, {"user": user})
            return found

    return email_of


def with_asyncpg(pool: Any) -> EmailOf:
    async def email_of(user: int) -> str | None:
        found: str | None = await pool.fetchval("SELECT email FROM users WHERE id = $1", user)
        return found

    return email_of
