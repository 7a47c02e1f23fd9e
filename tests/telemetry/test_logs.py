"""One event for each fallback and each refusal, thinned where a flood would drown the log, silent about people."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from opentelemetry import trace
from structlog.testing import capture_logs

from jwt_middleware import (
    Adoption,
    ConfigError,
    Key,
    KeyRing,
    LookupFacts,
    MemorySessionStore,
    Reason,
    Revocation,
    SessionCookie,
    SessionSchema,
    Telemetry,
    names,
    source,
)
from jwt_middleware.authenticator import OutcomeRecorder, RequestFacts
from jwt_middleware.counters import Counters
from jwt_middleware.errors import Unavailable
from jwt_middleware.telemetry.logs import EventLog
from jwt_middleware.testing import old_token
from jwt_middleware.types import Outcome, SessionKey, SessionStatus
from tests.support.signals import Signals
from tests.support.world import EPOCH, SECRET, FakeClock, Session, authority_of

README = Path(__file__).parents[2] / "README.md"
FIELDS = {
    "event",
    "log_level",
    "claims",
    "payload_version",
    "payload_expected",
    "minted",
    "sources",
    "outcome",
    "token_age_s",
    "lookup_ms",
    "kid",
}


@source("email")
async def emails(keys: Collection[str]) -> dict[str, dict[str, Any]]:
    return {key: {"email": "canary@example.com"} for key in keys if key == "7"}


def bearer(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Bearer " + token.encode())]


def authority_at(clock: FakeClock, **settings: Any) -> Any:
    plan = {2: datetime.fromtimestamp(EPOCH - 86_400, UTC)}
    return authority_of(sources=[emails], clock=clock, effective_at=plan, **settings)


def fallback_event(authority: Any, subject: str = "7", age: timedelta = timedelta(days=2)) -> dict[str, Any]:
    token = old_token(authority, {"userId": subject}, age=age)
    with capture_logs() as logs:
        asyncio.run(authority.authenticate(bearer(token)))
    (event,) = [entry for entry in logs if entry["event"] == "jwt_middleware.fallback"]
    return dict(event)


def test_a_fallback_says_what_was_missing_and_where_it_came_from() -> None:
    event = fallback_event(authority_at(FakeClock()))
    assert set(event) == FIELDS
    assert event == {
        "event": "jwt_middleware.fallback",
        "log_level": "info",
        "claims": ["email"],
        "payload_version": "1",
        "payload_expected": 2,
        "minted": "before_change",
        "sources": ["database"],
        "outcome": "resolved",
        "token_age_s": 2 * 86_400,
        "lookup_ms": 0.0,
        "kid": "key-1",
    }


def test_one_that_was_minted_after_the_change_is_a_warning() -> None:
    event = fallback_event(authority_at(FakeClock()), age=timedelta(minutes=5))
    assert (event["log_level"], event["minted"]) == ("warning", "after_change")


def test_one_that_was_not_resolved_is_a_warning() -> None:
    event = fallback_event(authority_at(FakeClock()), subject="8")
    assert (event["log_level"], event["outcome"], event["sources"]) == ("warning", "not_found", ["default"])


def test_an_event_names_the_server_span_it_belongs_to() -> None:
    signals = Signals()
    authority = authority_at(FakeClock(), telemetry=signals.telemetry())
    with signals.tracer_provider.get_tracer("server").start_as_current_span("GET /") as server:
        event = fallback_event(authority)
    assert event["trace_id"] == trace.format_trace_id(server.get_span_context().trace_id)
    assert event["span_id"] == trace.format_span_id(server.get_span_context().span_id)


def test_the_readme_shows_an_event_as_it_is() -> None:
    sample = re.search(r"<!-- log -->\n```json\n(.*?)\n```", README.read_text(), re.DOTALL)
    assert sample is not None
    shown = json.loads(sample[1])
    assert set(shown) - {"trace_id", "span_id", "level"} == FIELDS - {"log_level"}
    actual = fallback_event(authority_at(FakeClock()))
    same = {"event", "claims", "payload_version", "payload_expected", "minted", "sources", "outcome", "kid"}
    assert {name: shown[name] for name in same} == {name: actual[name] for name in same}


def test_a_filtered_level_costs_no_event() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    made: list[Any] = []

    def note(logger: Any, name: str, event: Any) -> Any:
        made.append(event)
        raise structlog.DropEvent

    structlog.configure(processors=[note])
    authority = authority_at(FakeClock())
    asyncio.run(authority.authenticate(bearer(old_token(authority, {"userId": "7"}))))
    asyncio.run(authority.authenticate([]))
    authority.open()
    asyncio.run(authority_of(sources=[broken]).authenticate(bearer(old_token(authority, {"userId": "7"}))))
    EventLog(Counters(), FakeClock(), lambda _: None).finished(Outcome(result="accepted", stale=True))
    assert made == []


def test_a_logger_that_cannot_say_its_level_gets_the_event() -> None:
    class Plain(structlog.BoundLoggerBase):
        def info(self, event: str, **fields: Any) -> None:
            seen.append(event)

        warning = info

    seen: list[str] = []
    structlog.configure(wrapper_class=Plain)
    authority = authority_at(FakeClock())
    asyncio.run(authority.authenticate([]))
    assert seen == ["jwt_middleware.refused"]


def test_refusals_are_thinned_by_reason_and_the_rest_is_counted() -> None:
    signals, clock = Signals(), FakeClock()
    authority = authority_at(clock, telemetry=signals.telemetry())
    with capture_logs() as logs:
        for _ in range(25):
            asyncio.run(authority.authenticate([]))
        asyncio.run(authority.authenticate(bearer("forged")))
        clock.advance(1)
        asyncio.run(authority.authenticate([]))
    reasons = [entry["reason"] for entry in logs]
    assert reasons == ["token_missing"] * 10 + ["token_malformed", "token_missing"]
    assert signals.value("telemetry.dropped", event="refused", reason="rate_limited") == 15
    assert signals.value("requests", result="refused", error_type="token_missing") == 26


class Gone(MemorySessionStore):
    """A store that stops to answer."""

    gone = False

    async def statuses(self, keys: Collection[SessionKey]) -> Mapping[SessionKey, SessionStatus]:
        if self.gone:
            raise Unavailable("gone")
        return await super().statuses(keys)


async def test_a_pass_on_a_state_that_is_too_old_is_a_warning_and_thinned() -> None:
    signals, clock = Signals(), FakeClock()
    store = Gone(clock=clock)
    authority = authority_at(
        clock, store=store, revocation=Revocation(on_unavailable="allow"), telemetry=signals.telemetry()
    )
    token = bearer((await authority.issue(Session(user_id="7", email="x"))).token)
    with capture_logs() as logs:
        await authority.authenticate(token)
        store.gone = True
        clock.advance(4)
        await authority.authenticate(token)
    assert logs == []  # within the bound
    clock.advance(4)
    with capture_logs() as logs:
        for _ in range(15):
            assert (await authority.authenticate(token)).stale
    stale = {"event": "jwt_middleware.revocation_stale", "log_level": "warning"}
    failed = [log["error_type"] for log in logs if log["event"] == names.EVENT_LOOKUP_FAILED]
    assert set(failed) == {"jwt_middleware.errors.Unavailable"}
    assert [log for log in logs if log["event"] != names.EVENT_LOOKUP_FAILED] == [
        {**stale, "carrier": "bearer", "payload_version": "2", "kid": "key-1"}
    ] * 10
    assert signals.value("telemetry.dropped", event="revocation_stale", reason="rate_limited") == 5
    assert signals.value("revocation.stale") == 15
    store.gone = False
    clock.advance(4)
    with capture_logs() as logs:
        assert not (await authority.authenticate(token)).stale
    assert logs == []
    await authority.aclose()


def test_a_refusal_says_the_reason_and_nothing_about_the_token() -> None:
    authority = authority_at(FakeClock())
    with capture_logs() as logs:
        asyncio.run(authority.authenticate(bearer("canary")))
    assert logs == [
        {
            "event": "jwt_middleware.refused",
            "log_level": "info",
            "reason": "token_malformed",
            "status": 401,
            "carrier": "bearer",
            "payload_version": None,
            "kid": None,
        }
    ]


def test_a_refusal_names_the_claim_it_is_about_where_one_is_known() -> None:
    counters, clock = Counters(), FakeClock()
    decisions = OutcomeRecorder(
        SessionSchema(Session, version=2, subject="userId"), counters, EventLog(counters, clock, str)
    )
    with capture_logs() as logs:
        outcome = decisions.refuse(RequestFacts(claim="email"), Reason.PAYLOAD_INVALID, optional=False)
    assert outcome.claim == "email"
    assert [(log["reason"], log["claim"]) for log in logs] == [("payload_invalid", "email")]


@source("email")
async def broken(keys: Collection[str]) -> dict[str, dict[str, Any]]:
    raise LookupError("canary")


def test_a_query_that_failed_is_reported_with_the_class_of_what_it_raised_and_without_its_text() -> None:
    authority = authority_of(sources=[broken])
    token = old_token(authority, {"userId": "canary"})
    with capture_logs() as logs:
        asyncio.run(authority.authenticate(bearer(token)))
    (failed,) = [log for log in logs if log["event"] == names.EVENT_LOOKUP_FAILED]
    assert failed.pop("duration_ms") >= 0
    assert failed == {
        "event": "jwt_middleware.lookup_failed",
        "log_level": "warning",
        "lookup": "claims",
        "outcome": "error",
        "error_type": "LookupError",
        "keys": 1,
        "waiters": 1,
    }
    assert "canary" not in str(logs)


def test_failed_queries_are_thinned_apart_from_other_events_and_counted() -> None:
    signals = Signals()
    events = EventLog(counters := Counters(), FakeClock(), lambda _: None)
    signals.telemetry().attach(counters, events)
    facts = LookupFacts(lookup="sessions", outcome="timeout", keys=1, waiters=1, duration=0.25)
    with capture_logs() as logs:
        for _ in range(15):
            events.looked_up(None, facts)
        events.looked_up(None, replace(facts, outcome="ok"))
        events.finished(Outcome(result="accepted", stale=True))
    assert [log["event"] for log in logs] == [names.EVENT_LOOKUP_FAILED] * 10 + [names.EVENT_REVOCATION_STALE]
    assert logs[0]["error_type"] is None
    assert signals.value("telemetry.dropped", event="lookup_failed", reason="rate_limited") == 5


def test_a_start_is_reported_once() -> None:
    authority = authority_at(FakeClock())
    with capture_logs() as logs:
        authority.open()
        authority.open()
    assert logs == [
        {
            "event": "jwt_middleware.configured",
            "log_level": "info",
            "payload_version": 2,
            "payload_mints": 2,
            "window_s": 604_800,
            "keys": ["key-1"],
            "sourced": ["email"],
            "store": False,
        }
    ]


MARKS = Adoption(sessions="marks", iat_required=False)


@pytest.mark.parametrize(
    ("settings", "advised"),
    [
        ({"cookie": SessionCookie(also_read=["token"])}, True),
        ({"adoption": Adoption(iat_required=False)}, True),
        (
            {
                "keys": KeyRing(
                    [Key.hmac(SECRET), Key.hmac("short", allow_short=True, until=datetime(2100, 1, 1, tzinfo=UTC))]
                )
            },
            True,
        ),
        ({"cookie": SessionCookie(also_read=["token"]), "adoption": MARKS}, False),
        ({"cookie": SessionCookie(also_read=["token"]), "store": None}, False),
        ({}, False),
    ],
)
def test_a_start_that_will_log_out_whom_it_means_to_adopt_says_so(settings: dict[str, Any], advised: bool) -> None:
    clock = FakeClock()
    authority = authority_of(**{"clock": clock, "store": MemorySessionStore(clock=clock), **settings})
    with capture_logs() as logs:
        authority.open()
        outcome = asyncio.run(authority.authenticate(bearer(old_token(authority, {"userId": "7"}, sid=None))))
    assert logs[0]["event"] == "jwt_middleware.configured"
    assert logs[0]["log_level"] == ("warning" if advised else "info")
    assert ('Adoption(sessions="marks")' in logs[0].get("advice", "")) is advised
    assert not advised or outcome.reason is Reason.SESSION_UNKNOWN


def test_log_processors_that_raise_break_nothing_and_are_counted() -> None:
    def broken(logger: Any, name: str, event: Any) -> Any:
        raise RuntimeError("disk full")

    structlog.configure(processors=[broken])
    signals = Signals()
    authority = authority_at(FakeClock(), telemetry=signals.telemetry())
    authority.open()
    outcome = asyncio.run(authority.authenticate(bearer(old_token(authority, {"userId": "7"}))))
    assert outcome.result == "accepted"
    assert signals.value("telemetry.dropped", event="configured", reason="failed") == 1
    assert signals.value("telemetry.dropped", event="request", reason="failed") == 1


def test_a_pseudonym_stands_for_the_user_only_where_it_is_configured() -> None:
    clock = FakeClock()
    key = b"p" * 32
    first = fallback_event(authority_at(clock, telemetry=Telemetry(pseudonym_key=key)))["enduser.pseudo.id"]
    again = fallback_event(authority_at(clock, telemetry=Telemetry(pseudonym_key=key)))["enduser.pseudo.id"]
    other = fallback_event(authority_at(clock, telemetry=Telemetry(pseudonym_key=b"q" * 32)))["enduser.pseudo.id"]
    assert first == again != other
    assert re.fullmatch("[0-9a-f]{32}", first)


def test_a_pseudonym_key_that_can_be_guessed_is_refused_and_never_shown() -> None:
    with pytest.raises(ConfigError, match="32 bytes"):
        Telemetry(pseudonym_key=b"short")
    with pytest.raises(ConfigError, match="32 bytes"):
        Telemetry(pseudonym_key="p" * 64)  # type: ignore[arg-type]  # text is no key
    assert "pppp" not in repr(Telemetry(pseudonym_key=b"p" * 32))
