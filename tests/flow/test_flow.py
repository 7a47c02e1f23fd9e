"""The main job, case by case, through the whole stack on a real database: what each request gets, and what is reported.

A case states its request, its refusal or the session that the app sees, and what was filled from where. Events,
spans, counters and SQL statements follow from that, and there are no others. Nothing personal is in any of it.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import KW_ONLY, asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, cast

import pytest
import sqlalchemy as sa
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs

from jwt_middleware import Claim, LookupLimits, Reason, names
from jwt_middleware.sqlalchemy import SQLAlchemyClaims
from tests.support.asgi import scope_of
from tests.support.databases import database, emails, locked, queries_of
from tests.support.signals import Signals, delta, short
from tests.support.stores import opened
from tests.support.world import PATIENT, FakeClock, Session, World, bearer, cookie

USER, WITHOUT_EMAIL, DELETED = "424242001", "424242002", "424242003"
EMAIL, COMPANY, NAME = "canary@example.com", "canary-company", "Canary Ltd"
TABLES = {"email": "users", "companyName": "companies"}
COUNTERS = {short(metric.name) for metric in names.METRICS if metric.kind == "counter"}
companies = sa.Table("companies", sa.MetaData(), *(sa.Column(name, sa.String(50)) for name in ("id", "name")))


@dataclass(slots=True, kw_only=True)
class Lenient(Session):
    """Version 2 brought the email, version 3 the company's name; each has a default."""

    company_name: Annotated[str, Claim("companyName", since=3)] = "nameless"


@dataclass(slots=True, kw_only=True)
class Strict(Session):
    """The same without defaults for the claims of the database."""

    email: Annotated[str, Claim(since=2)]
    company_name: Annotated[str, Claim("companyName", since=3)]


class Flow(World):
    """A world of version 3 over real databases, behind a server span."""

    def __init__(self, cls: type[Session], signals: Signals, **settings: Any) -> None:
        now = datetime.now(UTC)
        planned = {2: now - timedelta(days=30), 3: now - timedelta(days=1)}
        telemetry = signals.telemetry()
        super().__init__(cls, schema={"version": 3}, effective_at=planned, telemetry=telemetry, **settings)
        self.signals = signals
        self.queries: list[Counter[str]] = []
        """Of each engine, by table."""
        app = self.guard(self.answer, public=["/healthz"])
        tracers = signals.tracer_provider
        self.app = OpenTelemetryMiddleware(app, tracer_provider=tracers, exclude_spans=["send", "receive"])

    async def log_in(self, user_id: str = USER, **claims: Any) -> tuple[str, str]:
        return await super().log_in(user_id, company_id=COMPANY, email=EMAIL, company_name=NAME, **claims)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            return await self.echo(scope, receive, send)
        self.echo.scopes.append(scope)
        await receive()
        await send({"type": "websocket.accept"})
        return await send({"type": "websocket.close"})


Request = Callable[[Flow], Awaitable[list[tuple[bytes, bytes]]]]
"""Makes the headers of a request."""


def old(version: int | None, *, user: str = USER, carrier: Any = cookie, **claims: Any) -> Request:
    """A token of an earlier release, minted two days ago."""

    envelope = {"exp": claims.pop("exp")} if "exp" in claims else {}

    async def request(world: Flow) -> list[tuple[bytes, bytes]]:
        payload = {"userId": user, "companyId": COMPANY, **claims}
        return list(carrier(await world.old(payload, version=version, **envelope)))

    return request


async def new(world: Flow) -> list[tuple[bytes, bytes]]:
    return cookie((await world.log_in())[0])


async def forged(world: Flow) -> list[tuple[bytes, bytes]]:
    token, _ = await world.log_in()
    return cookie(token[:-6] + ("AAAAAA" if not token.endswith("AAAAAA") else "BBBBBA"))


async def without_token(world: Flow) -> list[tuple[bytes, bytes]]:
    return []


@dataclass(frozen=True)
class Case:
    request: Request
    _: KW_ONLY
    version: int | None = 1
    """Of the payload; None: it is never read."""
    minted: str | None = "after_change"
    """When an old payload was minted: version 1 was to end 30 days ago, and version 2 yesterday."""
    filled: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Each claim that was missing: its source (``none``: it has no default either), and the outcome."""
    refused: Reason | None = None
    session: Mapping[str, Any] = field(default_factory=dict)
    """What the session has in place of the claims of :data:`USER`."""

    def answer(self, kind: str) -> list[tuple[str, int | None]]:
        """The messages to the server, with their status or code."""
        if kind == "http":
            return [("http.response.start", self.refused.status if self.refused else 200), ("http.response.body", None)]
        if self.refused:
            return [("websocket.close", 1013 if self.refused.status == 503 else 1008)]
        return [("websocket.accept", None), ("websocket.close", None)]

    @property
    def sees(self) -> dict[str, Any]:
        """The session that the app sees."""
        return {**asdict(Lenient(user_id=USER, company_id=COMPANY, email=EMAIL, company_name=NAME)), **self.session}

    @property
    def outcome(self) -> str:
        """Of the whole fallback."""
        return next((outcome for _, outcome in self.filled.values() if outcome != "resolved"), "resolved")

    @property
    def strict(self) -> bool:
        return any(source == "none" for source, _ in self.filled.values())

    @property
    def verified(self) -> bool:
        return self.refused not in (Reason.TOKEN_MISSING, Reason.SIGNATURE_INVALID)

    @property
    def checked(self) -> bool:
        """Whether the session is looked up."""
        return self.verified and self.refused is not Reason.TOKEN_EXPIRED

    @property
    def events(self) -> list[dict[str, Any]]:
        """What is logged; of each event the fields that tell the cases apart."""
        fell_back = {
            "event": "jwt_middleware.fallback",
            "log_level": "info" if (self.outcome, self.minted) == ("resolved", "before_change") else "warning",
            "outcome": self.outcome,
            "claims": list(self.filled),
            "sources": sorted({source for source, _ in self.filled.values()}),
            "minted": self.minted,
        }
        refused = {
            "event": "jwt_middleware.refused",
            "log_level": "warning" if self.refused is Reason.CLAIMS_UNAVAILABLE else "info",
            "reason": self.refused,
        }
        return [fell_back] * bool(self.filled) + [refused] * bool(self.refused)

    @property
    def spans(self) -> dict[str, int]:
        return {"lookup": self.checked + len(self.filled), "fallback": int(bool(self.filled))}

    @property
    def statements(self) -> Counter[str]:
        """The queries of each table; a database that is down sees none."""
        tables = [] if self.outcome == "error" else [TABLES[claim] for claim in self.filled]
        return Counter(tables + ["user_sessions", "session_marks"] * self.checked)

    @property
    def counts(self) -> dict[str, float]:
        """``requests(payload.version=3,result=accepted)`` and the like: every counter that moves."""
        version = "" if self.version is None else f"payload.version={self.version if self.version < 4 else 'newer'},"
        result = f"error.type={self.refused},{version}result=refused" if self.refused else f"{version}result=accepted"
        minted = f"minted={self.minted}," if self.version in (1, 2) and not self.refused else ""
        series: dict[str, float] = {f"requests({minted}{result})": 1}
        if self.verified:
            series["verifications(key.id=key-1)"] = 1
        if self.checked:
            series |= {"lookups(lookup=sessions,outcome=ok)": 1, "lookup.keys(lookup=sessions)": 1}
        if self.filled:
            lookup = self.outcome if self.outcome in ("error", "timeout") else "ok"
            series[f"lookups(lookup=claims,outcome={lookup})"] = len(self.filled)
            series["lookup.keys(lookup=claims)"] = len(self.filled)
            series[f"fallbacks(outcome={self.outcome},payload.version={self.version})"] = 1
        for claim, (source, outcome) in self.filled.items():
            series[f"fallback.claims(claim={claim},outcome={outcome},source={source})"] = 1
        return series


FOUND = ("database", "resolved")
UNKNOWN = {"email": "Unknown"}
LACKS_EMAIL = old(None, companyName=NAME)
WITHOUT_ROW, EMPTY_ROW = old(None, user=DELETED), old(None, user=WITHOUT_EMAIL, companyName=NAME)
OLD: dict[str, Any] = {"version": 2, "minted": "before_change", "filled": {"companyName": FOUND}}
CASES = {
    "new cookie": Case(new, version=3),
    "old cookie": Case(old(2, email=EMAIL), **OLD),
    "old Bearer": Case(old(2, email=EMAIL, carrier=bearer), **OLD),
    "two versions back": Case(old(None), filled={"email": FOUND, "companyName": FOUND}),
    "newer version": Case(old(4, email=EMAIL, companyName=NAME, theme="dark"), version=4),
    "user deleted, with defaults": Case(
        WITHOUT_ROW,
        filled={"email": ("default", "not_found"), "companyName": FOUND},
        session={"user_id": DELETED, **UNKNOWN},
    ),
    "user deleted, without defaults": Case(
        WITHOUT_ROW, filled={"email": ("none", "not_found"), "companyName": FOUND}, refused=Reason.SUBJECT_UNKNOWN
    ),
    "row without email, with a default": Case(
        EMPTY_ROW, filled={"email": ("default", "null")}, session={"user_id": WITHOUT_EMAIL, **UNKNOWN}
    ),
    "row without email, without a default": Case(
        EMPTY_ROW, filled={"email": ("none", "null")}, refused=Reason.CLAIMS_INCOMPLETE
    ),
    "database down, with a default": Case(LACKS_EMAIL, filled={"email": ("default", "error")}, session=UNKNOWN),
    "database down, without a default": Case(
        LACKS_EMAIL, filled={"email": ("none", "error")}, refused=Reason.CLAIMS_UNAVAILABLE
    ),
    "database slow, with a default": Case(LACKS_EMAIL, filled={"email": ("default", "timeout")}, session=UNKNOWN),
    "database slow, without a default": Case(
        LACKS_EMAIL, filled={"email": ("none", "timeout")}, refused=Reason.CLAIMS_UNAVAILABLE
    ),
    "expired": Case(old(2, email=EMAIL, exp=1_700_000_000), version=2, refused=Reason.TOKEN_EXPIRED),
    "forged": Case(forged, version=None, refused=Reason.SIGNATURE_INVALID),
    "no token": Case(without_token, version=None, refused=Reason.TOKEN_MISSING),
}


@asynccontextmanager
async def flow(url: str, case: Case) -> AsyncIterator[Flow]:
    """The world of a case: users and companies in one database, sessions in another."""
    slow, down = case.outcome == "timeout", case.outcome == "error"
    clock = FakeClock(wall=time.time())  # PostgreSQL has its own clock
    users = {int(USER): EMAIL, int(WITHOUT_EMAIL): None}
    async with database(url, users) as engine, opened(url.replace("test.db", "sessions.db"), clock) as store:
        async with engine.begin() as connection:
            await connection.run_sync(companies.metadata.create_all)
            await connection.execute(sa.insert(companies).values(id=COMPANY, name=NAME))
        # the same kind of database where there is none
        nowhere = {"database": "/nonexistent/directory/test.db"} if url.startswith("sqlite") else {"port": 1}
        unreachable = create_async_engine(sa.make_url(url).set(**nowhere))
        claims = unreachable if down else engine
        names_of = {"companyName": companies.c.name}
        world = Flow(
            Strict if case.strict else Lenient,
            Signals(),
            clock=clock,
            store=store,
            sources=[
                emails(claims),
                SQLAlchemyClaims(claims, companies, key=companies.c.id, columns=names_of, by="companyId"),
            ],
            lookups=LookupLimits(timeout=timedelta(seconds=1)) if slow else PATIENT,
        )
        world.queries = [queries_of(engine), queries_of(cast("AsyncEngine", store.resource))]
        try:
            async with locked(url, "users", "companies") if slow else nullcontext():
                yield world
        finally:
            await world.authority.aclose()
            await unreachable.dispose()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_request_leaves_what_its_case_says_and_nothing_else(case: Case, kind: str, database_url: str) -> None:
    messages: Iterator[Message] = iter([{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}])

    async def receive() -> Message:
        return next(messages)

    async with flow(database_url, case) as world:
        headers = await case.request(world)
        for queries in world.queries:
            queries.clear()
        before = world.signals.values()
        with capture_logs() as logs:
            sent = await world.send(scope_of("/", kind=kind, headers=headers), receive)
        after = world.signals.values()
        spans = world.signals.exporter.get_finished_spans()

    # The answer, and the session
    assert [(message["type"], message.get("status", message.get("code"))) for message in sent] == case.answer(kind)
    if kind == "http" and case.refused:
        title = {401: "Unauthorized", 503: "Service Unavailable"}[case.refused.status]
        assert json.loads(sent[1]["body"]) == {"type": "about:blank", "title": title, "status": case.refused.status}
    states = [scope["state"] for scope in world.echo.scopes]
    tokens = [(state["token"].version, [claim.claim for claim in state["token"].filled]) for state in states]
    assert [asdict(state["session"]) for state in states] == ([] if case.refused else [case.sees])
    assert tokens == ([] if case.refused else [(case.version, list(case.filled))])

    # Events, spans, counters and statements
    failed = [span for span in world.signals.spans("lookup") if "error.type" in (span.attributes or {})]
    assert [log["event"] for log in logs].count("jwt_middleware.lookup_failed") == len(failed)
    ours = [log for log in logs if log["event"] not in ("jwt_middleware.lookup_failed", "jwt_middleware.configured")]
    assert [{name: log[name] for name in event} for log, event in zip(ours, case.events, strict=True)] == case.events
    assert {name: len(world.signals.spans(name)) for name in case.spans} == case.spans
    moved = delta(before, after)
    assert {
        f"{name}({','.join(f'{key}={value}' for key, value in attributes)})": count
        for (name, attributes), count in moved.items()
        if name in COUNTERS
    } == case.counts
    assert sum(world.queries, Counter()) == case.statements

    # Nothing personal in any of it
    told = "\n".join(
        [json.dumps(list(logs), default=repr), *(s.to_json() for s in spans), *map(repr, after), repr(sent)]
    )
    personal = [USER, WITHOUT_EMAIL, DELETED, EMAIL, COMPANY, NAME, *(value.decode() for _, value in headers)]
    assert [canary for canary in personal if canary in told] == []


async def test_a_request_of_a_public_path_leaves_nothing_behind(database_url: str) -> None:
    async with flow(database_url, Case(forged)) as world:
        headers, before = await forged(world), world.signals.values()
        with capture_logs() as logs:
            start, _ = await world.send(scope_of("/healthz", headers=headers))
        assert (start["status"], [log["event"] for log in logs]) == (200, ["jwt_middleware.configured"])
        assert [name for name, _ in delta(before, world.signals.values()) if name in COUNTERS] == []
        assert (world.signals.spans("lookup"), world.signals.spans("fallback")) == ([], [])
