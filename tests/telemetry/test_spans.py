"""One span for each fallback, one for each query, linked both ways; counts do not depend on the sampler."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import timedelta
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, TraceIdRatioBased
from opentelemetry.trace import StatusCode

from jwt_middleware import LookupFacts, LookupLimits, source
from jwt_middleware.telemetry.spans import Spans
from jwt_middleware.testing import old_token
from tests.support.signals import Signals, short
from tests.support.world import FakeClock, authority_of


@source("email")
async def emails(keys: Collection[str]) -> dict[str, dict[str, Any]]:
    if "broken" in keys:
        raise RuntimeError("canary")
    return {key: {"email": "canary@example.com"} for key in keys if key != "nobody"}


def bearer(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Bearer " + token.encode())]


async def request(signals: Signals, authority: Any, subject: str) -> Any:
    token = old_token(authority, {"userId": subject})
    with signals.tracer_provider.get_tracer("server").start_as_current_span("GET /"):
        return await authority.authenticate(bearer(token))


def facts(span: Any) -> dict[str, Any]:
    return {short(key): value for key, value in span.attributes.items()}


def test_a_fallback_is_a_child_of_the_server_span_with_its_facts_and_times() -> None:
    signals, clock = Signals(), FakeClock()
    authority = authority_of(sources=[emails], clock=clock, telemetry=signals.telemetry(pseudonym_key=b"p" * 32))
    asyncio.run(request(signals, authority, "7"))
    (span,), (server,) = signals.spans("fallback"), signals.spans("GET /")
    assert span.parent == server.get_span_context()
    assert span.kind is trace.SpanKind.INTERNAL
    assert (span.start_time, span.end_time) == (int(clock.wall * 1e9), int(clock.wall * 1e9))
    described = facts(span)
    assert len(described.pop("enduser.pseudo.id")) == 32
    assert described == {
        "claims": ("email",),
        "sources": ("database",),
        "payload.version": "1",
        "payload.expected": "2",
        "minted": "unknown",
        "outcome": "resolved",
        "token.age": 0.0,
        "key.id": "key-1",
    }
    assert facts(server) == {"payload.version": "1", "outcome": "resolved"}


def test_a_query_and_its_waiters_are_linked_both_ways() -> None:
    signals = Signals()
    authority = authority_of(sources=[emails], telemetry=signals.telemetry())

    async def all_at_once() -> None:
        await asyncio.gather(*(request(signals, authority, f"{n}") for n in range(40)))

    asyncio.run(all_at_once())
    (query,) = signals.spans("lookup")
    assert query.parent is None
    assert facts(query) == {"lookup": "claims", "lookup.waiters": 40, "lookup.keys": 40, "outcome": "ok"}
    servers = {context.span_id for server in signals.spans("GET /") if (context := server.get_span_context())}
    assert len(query.links) == 32
    assert {link.context.span_id for link in query.links} < servers
    fallbacks = signals.spans("fallback")
    assert len(fallbacks) == 40
    assert all([link.context for link in span.links] == [query.get_span_context()] for span in fallbacks)


@pytest.mark.parametrize(("subject", "outcome"), [("nobody", "not_found"), ("broken", "error")])
def test_what_failed_carries_its_kind_and_no_text(subject: str, outcome: str) -> None:
    signals = Signals()
    authority = authority_of(sources=[emails], telemetry=signals.telemetry())
    asyncio.run(request(signals, authority, subject))
    (span,) = signals.spans("fallback")
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    assert span.events == ()
    assert facts(span)["error.type"] == outcome
    (query,) = signals.spans("lookup")
    assert facts(query).get("error.type") == (None if outcome == "not_found" else "RuntimeError")


@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF, ParentBased(TraceIdRatioBased(0.3))])
def test_counts_are_exact_under_concurrency_whatever_the_sampler(sampler: Any) -> None:
    signals = Signals(sampler)
    patient = LookupLimits(timeout=timedelta(seconds=30))  # a busy machine must not look like a slow source
    authority = authority_of(sources=[emails], telemetry=signals.telemetry(), lookups=patient)

    async def all_at_once() -> None:
        await asyncio.gather(*(request(signals, authority, f"{n % 50}") for n in range(500)))

    asyncio.run(all_at_once())
    assert signals.value("fallbacks", payload_version="1", outcome="resolved") == 500
    filled = sum(value for (name, _), value in signals.values().items() if name == "fallback.claims")
    assert filled == 500
    assert signals.value("requests", result="accepted", payload_version="1", minted="unknown") == 500
    assert signals.value("lookups", lookup="claims", outcome="ok") == 1
    assert signals.value("lookup.duration", lookup="claims") == 1
    assert signals.value("lookup.waiting", lookup="claims") == 0


def test_the_spans_of_a_database_instrumentation_nest_below_the_query() -> None:
    signals = Signals()
    tracer = signals.tracer_provider.get_tracer("database")

    @source("email")
    async def instrumented(keys: Collection[str]) -> dict[str, dict[str, Any]]:
        with tracer.start_as_current_span("SELECT users"):
            return {}

    asyncio.run(request(signals, authority_of(sources=[instrumented], telemetry=signals.telemetry()), "7"))
    (query,), (statement,) = signals.spans("lookup"), signals.spans("SELECT users")
    assert statement.parent == query.get_span_context()


def test_a_handle_of_somebody_else_is_left_alone() -> None:
    signals = Signals()
    spans = Spans(signals.tracer_provider, lambda subject: None)
    spans.looked_up(None, LookupFacts(lookup="claims", outcome="ok", keys=1, waiters=1, duration=0.1))
    assert signals.exporter.get_finished_spans() == ()
