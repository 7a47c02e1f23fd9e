"""The main job, case by case, through the whole stack on a real database: what each request gets, and what is told.

Every case states its status, its body, the session the app saw, the log events, the spans, every counter that moved
and the SQL statements. Nothing personal is in any of it.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from structlog.testing import capture_logs

from jwt_middleware import names
from tests.flow.world import COMPANY, DELETED, EMAIL, NAME, USER, WITHOUT_EMAIL, World, told, world
from tests.support.signals import delta, short

COUNTERS = {short(metric.name) for metric in names.METRICS if metric.kind == "counter"}
FULL = {"user": str(USER), "role": "user", "permissions": ["read"], "email": EMAIL, "company": NAME}
UNAUTHORIZED = {"type": "about:blank", "title": "Unauthorized", "status": 401}
UNAVAILABLE = {"type": "about:blank", "title": "Service Unavailable", "status": 503}
ROW_CHECKED = {"user_sessions": 1, "session_marks": 1}
Headers = Callable[[World], Awaitable[dict[str, str]]]


def counted(**series: float) -> dict[str, float]:
    """`requests(result=accepted,payload.version=3)` and the like, the session's check and the signature included."""
    return {
        "verifications(key.id=key-1)": 1,
        "lookups(lookup=sessions,outcome=ok)": 1,
        "lookup.keys(lookup=sessions)": 1,
        **series,
    }


def claims_query(outcome: str = "ok", queries: int = 1) -> dict[str, float]:
    return {f"lookups(lookup=claims,outcome={outcome})": queries, "lookup.keys(lookup=claims)": queries}


def accepted(version: int, minted: str | None = None) -> str:
    return f"requests({f'minted={minted},' if minted else ''}payload.version={version},result=accepted)"


def refused(reason: str, version: str | None = None) -> str:
    return f"requests(error.type={reason},{f'payload.version={version},' if version else ''}result=refused)"


def filled(claim: str, source: str, outcome: str) -> str:
    return f"fallback.claims(claim={claim},outcome={outcome},source={source})"


def fell_back(version: int, outcome: str = "resolved") -> str:
    return f"fallbacks(outcome={outcome},payload.version={version})"


@dataclass(frozen=True, kw_only=True)
class Case:
    headers: Headers
    status: int = 200
    body: object = field(default_factory=lambda: {"ok": True})
    session: dict[str, Any] | None = None
    events: dict[str, Any] | None = None
    """The fields of the one event that tell the cases apart; None: none."""
    spans: dict[str, int] = field(default_factory=dict)
    """Of this package, besides the server's."""
    counts: dict[str, float] = field(default_factory=dict)
    statements: dict[str, int] = field(default_factory=dict)
    path: str = "/me"
    strict: bool = False
    down: bool = False
    slow: bool = False


def cookie_of(version: int | None, **claims: Any) -> Headers:
    async def headers(world: World) -> dict[str, str]:
        return world.cookie(await world.token(version=version, **claims))

    return headers


async def today(world: World) -> dict[str, str]:
    return world.cookie(await world.today())


async def old_bearer(world: World) -> dict[str, str]:
    return {"authorization": f"Bearer {await world.token(version=2, email=EMAIL)}"}


async def forged(world: World) -> dict[str, str]:
    token = await world.today()
    return world.cookie(token[:-6] + ("AAAAAA" if not token.endswith("AAAAAA") else "BBBBBA"))


async def nothing(world: World) -> dict[str, str]:
    return {}


def fallback_event(outcome: str = "resolved", level: str = "info", **facts: Any) -> dict[str, Any]:
    return {"event": "jwt_middleware.fallback", "log_level": level, "outcome": outcome, **facts}


def refused_event(reason: str, level: str = "info") -> dict[str, Any]:
    return {"event": "jwt_middleware.refused", "log_level": level, "reason": reason}


CASES = {
    "new cookie": Case(
        headers=today,
        session={**FULL, "version": 3, "filled": []},
        counts=counted(**{accepted(3): 1}),
        spans={"lookup": 1},
        statements=ROW_CHECKED,
    ),
    "old cookie": Case(
        headers=cookie_of(2, email=EMAIL),
        session={**FULL, "version": 2, "filled": ["companyName"]},
        events=fallback_event(claims=["companyName"], sources=["database"], minted="before_change"),
        spans={"lookup": 2, "fallback": 1},
        counts=counted(
            **claims_query(),
            **{
                accepted(2, "before_change"): 1,
                fell_back(2): 1,
                filled("companyName", "database", "resolved"): 1,
            },
        ),
        statements={**ROW_CHECKED, "companies": 1},
    ),
    "old Bearer": Case(
        headers=old_bearer,
        session={**FULL, "version": 2, "filled": ["companyName"]},
        events=fallback_event(claims=["companyName"], sources=["database"]),
        spans={"lookup": 2, "fallback": 1},
        counts=counted(
            **claims_query(),
            **{
                accepted(2, "before_change"): 1,
                fell_back(2): 1,
                filled("companyName", "database", "resolved"): 1,
            },
        ),
        statements={**ROW_CHECKED, "companies": 1},
    ),
    "two versions back": Case(
        headers=cookie_of(None),
        session={**FULL, "version": 1, "filled": ["email", "companyName"]},
        # version 1 was to end 30 days ago, and this token is two days old
        events=fallback_event(level="warning", claims=["email", "companyName"], minted="after_change"),
        spans={"lookup": 3, "fallback": 1},
        counts=counted(
            **claims_query(queries=2),
            **{
                accepted(1, "after_change"): 1,
                fell_back(1): 1,
                filled("email", "database", "resolved"): 1,
                filled("companyName", "database", "resolved"): 1,
            },
        ),
        statements={**ROW_CHECKED, "users": 1, "companies": 1},
    ),
    "newer version": Case(
        headers=cookie_of(4, email=EMAIL, companyName=NAME, theme="dark"),
        session={**FULL, "version": 4, "filled": []},
        spans={"lookup": 1},
        counts=counted(**{"requests(payload.version=newer,result=accepted)": 1}),
        statements=ROW_CHECKED,
    ),
    "user deleted, with defaults": Case(
        headers=cookie_of(None, user=DELETED),
        session={**FULL, "user": str(DELETED), "email": "Unknown", "version": 1, "filled": ["email", "companyName"]},
        events=fallback_event("not_found", "warning", sources=["database", "default"]),
        spans={"lookup": 3, "fallback": 1},
        counts=counted(
            **claims_query(queries=2),
            **{
                accepted(1, "after_change"): 1,
                fell_back(1, "not_found"): 1,
                filled("email", "default", "not_found"): 1,
                filled("companyName", "database", "resolved"): 1,
            },
        ),
        statements={**ROW_CHECKED, "users": 1, "companies": 1},
    ),
    "user deleted, without defaults": Case(
        headers=cookie_of(None, user=DELETED),
        strict=True,
        status=401,
        body=UNAUTHORIZED,
        events=refused_event("subject_unknown"),
        spans={"lookup": 3, "fallback": 1},
        counts=counted(
            **claims_query(queries=2),
            **{
                refused("subject_unknown", "1"): 1,
                fell_back(1, "not_found"): 1,
                filled("email", "none", "not_found"): 1,
                filled("companyName", "database", "resolved"): 1,
            },
        ),
        statements={**ROW_CHECKED, "users": 1, "companies": 1},
    ),
    "row without email, with a default": Case(
        headers=cookie_of(None, user=WITHOUT_EMAIL, companyName=NAME),
        session={**FULL, "user": str(WITHOUT_EMAIL), "email": "Unknown", "version": 1, "filled": ["email"]},
        events=fallback_event("null", "warning", sources=["default"]),
        spans={"lookup": 2, "fallback": 1},
        counts=counted(
            **claims_query(),
            **{
                accepted(1, "after_change"): 1,
                fell_back(1, "null"): 1,
                filled("email", "default", "null"): 1,
            },
        ),
        statements={**ROW_CHECKED, "users": 1},
    ),
    "row without email, without a default": Case(
        headers=cookie_of(None, user=WITHOUT_EMAIL, companyName=NAME),
        strict=True,
        status=401,
        body=UNAUTHORIZED,
        events=refused_event("claims_incomplete"),
        spans={"lookup": 2, "fallback": 1},
        counts=counted(
            **claims_query(),
            **{
                refused("claims_incomplete", "1"): 1,
                fell_back(1, "null"): 1,
                filled("email", "none", "null"): 1,
            },
        ),
        statements={**ROW_CHECKED, "users": 1},
    ),
    "database down, with a default": Case(
        headers=cookie_of(None, companyName=NAME),
        down=True,
        session={**FULL, "email": "Unknown", "version": 1, "filled": ["email"]},
        events=fallback_event("error", "warning", sources=["default"]),
        spans={"lookup": 2, "fallback": 1},
        counts=counted(
            **claims_query("error"),
            **{
                accepted(1, "after_change"): 1,
                fell_back(1, "error"): 1,
                filled("email", "default", "error"): 1,
            },
        ),
        statements=ROW_CHECKED,
    ),
    "database down, without a default": Case(
        headers=cookie_of(None, companyName=NAME),
        down=True,
        strict=True,
        status=503,
        body=UNAVAILABLE,
        events=refused_event("claims_unavailable", "warning"),
        spans={"lookup": 2, "fallback": 1},
        counts=counted(
            **claims_query("error"),
            **{
                refused("claims_unavailable", "1"): 1,
                fell_back(1, "error"): 1,
                filled("email", "none", "error"): 1,
            },
        ),
        statements=ROW_CHECKED,
    ),
    "database slow, with a default": Case(
        headers=cookie_of(None, companyName=NAME),
        slow=True,
        session={**FULL, "email": "Unknown", "version": 1, "filled": ["email"]},
        events=fallback_event("timeout", "warning", sources=["default"]),
        spans={"lookup": 2, "fallback": 1},
        counts=counted(
            **claims_query("timeout"),
            **{
                accepted(1, "after_change"): 1,
                fell_back(1, "timeout"): 1,
                filled("email", "default", "timeout"): 1,
            },
        ),
        statements={**ROW_CHECKED, "users": 1},
    ),
    "database slow, without a default": Case(
        headers=cookie_of(None, companyName=NAME),
        slow=True,
        strict=True,
        status=503,
        body=UNAVAILABLE,
        events=refused_event("claims_unavailable", "warning"),
        spans={"lookup": 2, "fallback": 1},
        counts=counted(
            **claims_query("timeout"),
            **{
                refused("claims_unavailable", "1"): 1,
                fell_back(1, "timeout"): 1,
                filled("email", "none", "timeout"): 1,
            },
        ),
        statements={**ROW_CHECKED, "users": 1},
    ),
    "expired": Case(
        headers=cookie_of(2, email=EMAIL, exp=1_700_000_000),
        status=401,
        body=UNAUTHORIZED,
        events=refused_event("token_expired"),
        counts={"verifications(key.id=key-1)": 1, refused("token_expired", "2"): 1},
    ),
    "forged": Case(
        headers=forged,
        status=401,
        body=UNAUTHORIZED,
        events=refused_event("signature_invalid"),
        counts={refused("signature_invalid"): 1},
    ),
    "no token": Case(
        headers=nothing,
        status=401,
        body=UNAUTHORIZED,
        events=refused_event("token_missing"),
        counts={refused("token_missing"): 1},
    ),
    "public path": Case(headers=forged, path="/healthz", body="healthy"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_http(case: Case, database_url: str) -> None:
    async with world(database_url, strict=case.strict, down=case.down) as around:
        headers = await case.headers(around)
        around.forget_statements()
        before = around.signals.values()
        with capture_logs() as logs:
            if case.slow:
                async with around.slow():
                    response = await around.get(case.path, headers)
            else:
                response = await around.get(case.path, headers)
        assert response.status_code == case.status
        assert decoded(response.text) == case.body
        assert around.seen == ([] if case.session is None else [case.session])
        expect(around, case, logs, before)
        expect_nothing_personal(around, logs, response.text, headers)


@pytest.mark.parametrize("name", ["new cookie", "old cookie", "database down, with a default"])
async def test_a_websocket_gets_the_same_session(name: str, database_url: str) -> None:
    case = CASES[name]

    async with world(database_url, down=case.down) as around:
        headers = await case.headers(around)
        around.forget_statements()
        before = around.signals.values()
        with capture_logs() as logs:
            sent = await around.websocket(headers)
        assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]
        assert around.seen == [case.session]
        expect(around, case, logs, before)


@pytest.mark.parametrize("name", ["expired", "forged", "no token"])
async def test_a_websocket_without_a_session_is_closed_before_it_is_accepted(name: str, database_url: str) -> None:
    case = CASES[name]

    async with world(database_url) as around:
        headers = await case.headers(around)
        around.forget_statements()
        before = around.signals.values()
        with capture_logs() as logs:
            sent = await around.websocket(headers)
        assert [(message["type"], message["code"]) for message in sent] == [("websocket.close", 1008)]
        assert around.seen == []
        expect(around, case, logs, before)


def decoded(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def expect(around: World, case: Case, logs: list[Any], before: dict[Any, float]) -> None:
    """Events, spans, counters and statements are those of the case, and there are no others."""
    failed = [log for log in logs if log["event"] == "jwt_middleware.lookup_failed"]
    told_about = [log for log in logs if log not in failed and log["event"] != "jwt_middleware.configured"]
    fell = [log for log in told_about if log["event"] == "jwt_middleware.fallback"]
    if case.events is None:
        assert told_about == []
    else:
        last = told_about[-1]
        assert {key: last[key] for key in case.events} == case.events
        assert len(fell) == case.spans.get("fallback", 0)
        assert len(told_about) == len(fell) + (case.status != 200)
    unanswered = [span for span in around.signals.spans("lookup") if "error.type" in (span.attributes or {})]
    assert len(failed) == len(unanswered)
    assert {name: len(found) for name in ("lookup", "fallback") if (found := around.signals.spans(name))} == case.spans
    moved = delta(before, around.signals.values())
    assert {
        f"{name}({','.join(f'{key}={value}' for key, value in attributes)})": count
        for (name, attributes), count in moved.items()
        if name in COUNTERS
    } == case.counts
    assert dict(around.statements) == case.statements


def expect_nothing_personal(around: World, logs: list[Any], response: str, headers: dict[str, str]) -> None:
    everything = told(around, list(logs), response)
    canaries = {EMAIL, NAME, COMPANY, str(USER), str(WITHOUT_EMAIL), str(DELETED), *headers.values()}
    assert [canary for canary in canaries if canary in everything] == []
