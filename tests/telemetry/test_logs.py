"""Log events: one for each fallback and refusal, limited by rate, and silent about the user and the token."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import structlog
from opentelemetry import trace
from structlog.testing import capture_logs

from jwt_middleware import (
    ConfigError,
    Envelope,
    LookupFacts,
    Revocation,
    Telemetry,
    names,
)
from jwt_middleware.counters import Counters
from jwt_middleware.telemetry.logs import EventLog
from jwt_middleware.testing import old_token
from jwt_middleware.types import Outcome, moment
from tests.support.asgi import foreign_token
from tests.support.processes import ROOT
from tests.support.signals import Signals
from tests.support.stores import FakeStore
from tests.support.world import DAY, EPOCH, SECRET, FakeClock, World, bearer

FIELDS = {"event", "log_level", "claims", "payload_version", "payload_expected", "minted", "sources"}
FIELDS |= {"outcome", "token_age_s", "lookup_ms", "kid"}


def planned(**settings: Any) -> World:
    """A world without a store, in which version 2 was planned for yesterday."""
    return World(**{"store": None, "effective_at": {2: moment(EPOCH - DAY)}, **settings})


async def fallback_event(world: World, user_id: str = "1", age: timedelta = timedelta(days=2)) -> dict[str, Any]:
    token = old_token(world.authority, {"userId": user_id}, age=age)
    with capture_logs() as logs:
        await world.authority.authenticate(bearer(token))
    (event,) = [entry for entry in logs if entry["event"] == names.EVENT_FALLBACK]
    return dict(event)


class TestFallback:
    async def test_a_fallback_names_the_missing_claims_and_their_source(self) -> None:
        event = await fallback_event(planned())
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
            "token_age_s": 2 * DAY,
            "lookup_ms": 0.0,
            "kid": "key-1",
        }

    async def test_a_fallback_of_a_token_minted_after_the_change_is_a_warning(self) -> None:
        event = await fallback_event(planned(), age=timedelta(minutes=5))
        assert (event["log_level"], event["minted"]) == ("warning", "after_change")

    async def test_an_unresolved_fallback_is_a_warning(self) -> None:
        event = await fallback_event(planned(), "8")
        assert (event["log_level"], event["outcome"], event["sources"]) == ("warning", "not_found", ["default"])

    async def test_an_event_names_its_server_span(self) -> None:
        signals = Signals()
        world = planned(telemetry=signals.telemetry())
        with signals.tracer_provider.get_tracer("server").start_as_current_span("GET /") as server:
            event = await fallback_event(world)
        assert event["trace_id"] == trace.format_trace_id(server.get_span_context().trace_id)
        assert event["span_id"] == trace.format_span_id(server.get_span_context().span_id)

    async def test_the_readme_shows_a_real_event(self) -> None:
        sample = re.search(r"<!-- log -->\n```json\n(.*?)\n```", (ROOT / "README.md").read_text(), re.DOTALL)
        assert sample is not None
        shown = json.loads(sample[1])
        assert set(shown) - {"trace_id", "span_id", "level"} == FIELDS - {"log_level"}
        actual = await fallback_event(planned())
        same = FIELDS - {"log_level", "token_age_s", "lookup_ms"}
        assert {name: shown[name] for name in same} == {name: actual[name] for name in same}


class TestRefused:
    async def test_refusals_are_limited_by_reason_and_the_rest_is_counted(self) -> None:
        signals = Signals()
        world = planned(telemetry=signals.telemetry())
        with capture_logs() as logs:
            for _ in range(25):
                await world.authority.authenticate([])
            await world.authority.authenticate(bearer("forged"))
            world.clock.advance(1)
            await world.authority.authenticate([])
        assert [entry["reason"] for entry in logs] == ["token_missing"] * 10 + ["token_malformed", "token_missing"]
        assert signals.value("telemetry.dropped", event="refused", reason="rate_limited") == 15
        assert signals.value("requests", result="refused", error_type="token_missing") == 26

    async def test_requests_accepted_on_a_stale_status_are_limited_warnings(self) -> None:
        signals, store = Signals(), FakeStore(clock=(clock := FakeClock()))
        allow = Revocation(on_unavailable="allow")
        world = planned(clock=clock, store=store, revocation=allow, telemetry=signals.telemetry())
        token = bearer((await world.log_in(email="x"))[0])
        with capture_logs() as logs:
            await world.authority.authenticate(token)
            store.down = True
            clock.advance(4)
            await world.authority.authenticate(token)
        assert logs == []  # the status is younger than max_staleness
        clock.advance(4)
        with capture_logs() as logs:
            for _ in range(15):
                assert (await world.authority.authenticate(token)).stale
        stale = {"event": "jwt_middleware.revocation_stale", "log_level": "warning"}
        failed = [log["error_type"] for log in logs if log["event"] == names.EVENT_LOOKUP_FAILED]
        assert set(failed) == {"jwt_middleware.errors.Unavailable"}
        assert [log for log in logs if log["event"] != names.EVENT_LOOKUP_FAILED] == [
            {**stale, "carrier": "bearer", "payload_version": "2", "kid": "key-1"}
        ] * 10
        assert signals.value("telemetry.dropped", event="revocation_stale", reason="rate_limited") == 5
        assert signals.value("revocation.stale") == 15
        store.down = False
        clock.advance(4)
        with capture_logs() as logs:
            assert not (await world.authority.authenticate(token)).stale
        assert logs == []
        await world.authority.aclose()

    async def test_a_refusal_names_the_reason_and_nothing_about_the_token(self) -> None:
        with capture_logs() as logs:
            await planned().authority.authenticate(bearer("canary"))
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

    async def test_a_refusal_names_the_claim_that_caused_it(self) -> None:
        world = planned()
        token = old_token(world.authority, {"userId": "1", "email": 5}, version=2)
        with capture_logs() as logs:
            outcome = await world.authority.authenticate(bearer(token))
        assert outcome.claim == "email"
        assert [(log["reason"], log["claim"]) for log in logs] == [("payload_invalid", "email")]


class TestLookupFailed:
    async def test_a_failed_query_names_the_class_of_its_error_without_the_text(self) -> None:
        world = planned()
        world.users.down = True
        with capture_logs() as logs:
            await world.authority.authenticate(bearer(old_token(world.authority, {"userId": "canary"})))
        (failed,) = [log for log in logs if log["event"] == names.EVENT_LOOKUP_FAILED]
        assert failed.pop("duration_ms") >= 0
        assert failed == {
            "event": "jwt_middleware.lookup_failed",
            "log_level": "warning",
            "lookup": "claims",
            "outcome": "error",
            "error_type": "OSError",
            "keys": 1,
            "waiters": 1,
        }
        assert "canary" not in str(logs)
        assert "down" not in str(logs)

    def test_failed_queries_are_limited_apart_from_other_events_and_counted(self) -> None:
        signals = Signals()
        events = EventLog(counters := Counters(), FakeClock(), None)
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


class TestConfigured:
    def test_a_start_is_reported_once(self) -> None:
        authority = planned(audience="app").authority
        with capture_logs() as logs:
            authority.parts.open()
            authority.parts.open()
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
                "also_accept": [],
            }
        ]

    async def test_a_start_advises_an_audience_and_names_lines_to_delete(self, subtests: pytest.Subtests) -> None:
        over = Envelope.before(moment(EPOCH - 8 * DAY), store=None)
        alive = Envelope.before(moment(EPOCH - 6 * DAY), store=None)
        cases: list[tuple[dict[str, Any], list[str]]] = [
            ({}, ["set audience="]),
            ({"issuer": "https://id.example"}, []),
            ({"audience": "app", "also_accept": [alive]}, []),
            ({"audience": "app", "also_accept": [alive, over]}, ["delete the line before-2026-11-17"]),
            ({"also_accept": [over]}, ["delete the line before-2026-11-17", "set audience="]),
        ]
        for settings, advice in cases:
            with subtests.test(settings=settings), capture_logs() as logs:
                World(**settings).authority.parts.open()
            assert logs[0]["log_level"] == ("warning" if advice else "info")
            given = logs[0].get("advice", [])
            assert len(given) == len(advice)
            assert all(text.startswith(start) for text, start in zip(given, advice, strict=True)), given


class TestNotAdmitted:
    async def test_the_line_that_would_admit_a_token_is_named_once_a_minute(self) -> None:
        world = World(audience="app")
        token = await World(store=None).token()
        with capture_logs() as logs:
            for _ in range(3):
                assert await world.reason(token) == "audience_mismatch"
            world.clock.advance(60)
            assert await world.reason(token) == "audience_mismatch"
        events = [event for event in logs if event["event"] == names.EVENT_NOT_ADMITTED]
        assert len(events) == 2
        assert events[0]["log_level"] == "warning"
        assert events[0]["advice"] == "Envelope.before(datetime(2026, 12, 2, tzinfo=UTC), audience=None, store=None)"

    async def test_a_token_of_another_kind_gets_no_line(self) -> None:
        for claims, line in (
            ({}, "Envelope.foreign(before=datetime(2026, 12, 2, tzinfo=UTC))"),
            ({"exp": EPOCH + 30 * DAY}, ", window=timedelta(days=30)"),
            ({"type": "refresh"}, "none:"),
        ):
            token = foreign_token(SECRET.encode(), {"userId": "1", "iat": EPOCH, "exp": EPOCH + 60, **claims})
            with capture_logs() as logs:
                assert await World(store=None).reason(token) == "token_foreign"
            advice = next(event["advice"] for event in logs if event["event"] == names.EVENT_NOT_ADMITTED)
            assert line in advice or advice.startswith(line)


class TestLogger:
    async def test_a_filtered_level_costs_no_event(self) -> None:
        events: list[Any] = []

        def record(logger: Any, name: str, event: Any) -> Any:
            events.append(event)
            raise structlog.DropEvent

        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR), processors=[record])
        world = planned()
        token = bearer(old_token(world.authority, {"userId": "1"}))
        await world.authority.authenticate(token)
        await world.authority.authenticate([])
        world.authority.parts.open()
        broken = planned()
        broken.users.down = True
        await broken.authority.authenticate(token)
        EventLog(Counters(), FakeClock(), None).finished(Outcome(result="accepted", stale=True))
        assert events == []

    async def test_a_logger_without_levels_gets_the_event(self) -> None:
        class Plain(structlog.BoundLoggerBase):
            def info(self, event: str, **fields: Any) -> None:
                events.append(event)

            warning = info

        events: list[str] = []
        structlog.configure(wrapper_class=Plain)
        await planned().authority.authenticate([])
        assert events == ["jwt_middleware.refused"]

    async def test_log_processors_that_raise_break_nothing_and_are_counted(self) -> None:
        def broken(logger: Any, name: str, event: Any) -> Any:
            raise RuntimeError("disk full")

        structlog.configure(processors=[broken])
        signals = Signals()
        world = planned(telemetry=signals.telemetry())
        world.authority.parts.open()
        assert await world.reason(old_token(world.authority, {"userId": "1"})) is None
        assert signals.value("telemetry.dropped", event="configured", reason="failed") == 1
        assert signals.value("telemetry.dropped", event="request", reason="failed") == 1


class TestPseudonym:
    async def test_a_pseudonym_stands_for_the_user_if_its_key_is_configured(self) -> None:
        telemetries = [Telemetry(pseudonym_key=key * 32) for key in (b"p", b"p", b"q")]
        events = [await fallback_event(planned(telemetry=telemetry)) for telemetry in telemetries]
        first, again, other = (event["enduser.pseudo.id"] for event in events)
        assert first == again != other
        assert re.fullmatch("[0-9a-f]{32}", first)

    def test_a_pseudonym_key_that_can_be_guessed_is_refused_and_never_shown(self) -> None:
        with pytest.raises(ConfigError, match="pseudonym_key must be at least 32 bytes, got 5 bytes; use secrets"):
            Telemetry(pseudonym_key=b"short")
        with pytest.raises(ConfigError, match="pseudonym_key must be at least 32 bytes, got str; use secrets"):
            Telemetry(pseudonym_key="p" * 64)  # type: ignore[arg-type]  # text is not a key
        assert "pppp" not in repr(Telemetry(pseudonym_key=b"p" * 32))
