"""Spans: one for each fallback and each query, linked both ways; counts do not depend on the sampler."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, TraceIdRatioBased
from opentelemetry.trace import StatusCode

from jwt_middleware import LookupFacts, source
from jwt_middleware.telemetry.spans import Spans
from jwt_middleware.testing import old_token
from tests.support.signals import Signals, short
from tests.support.world import World, bearer


class Traced:
    """A world without a store, whose signals are kept, and whose requests have a server span."""

    def __init__(self, sampler: Any = ALWAYS_ON, **settings: Any) -> None:
        self.signals = Signals(sampler)
        self.world = World(store=None, telemetry=self.signals.telemetry(pseudonym_key=b"p" * 32), **settings)
        self.world.users.rows = {f"{number}": {"email": "canary@example.com"} for number in range(50)}

    async def request(self, user_id: str = "7") -> Any:
        token = old_token(self.world.authority, {"userId": user_id})
        with self.signals.tracer_provider.get_tracer("server").start_as_current_span("GET /"):
            return await self.world.authority.authenticate(bearer(token))


def facts(span: Any) -> dict[str, Any]:
    return {short(key): value for key, value in span.attributes.items()}


class TestSpans:
    async def test_a_fallback_is_a_child_of_the_server_span_with_facts_and_times(self) -> None:
        traced = Traced()
        await traced.request()
        (span,), (server,) = traced.signals.spans("fallback"), traced.signals.spans("GET /")
        assert span.parent == server.get_span_context()
        assert span.kind is trace.SpanKind.INTERNAL
        assert span.start_time == span.end_time == int(traced.world.clock.wall * 1e9)
        attributes = facts(span)
        assert len(attributes.pop("enduser.pseudo.id")) == 32
        assert attributes == {
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

    async def test_a_query_and_its_waiters_are_linked_both_ways(self) -> None:
        traced = Traced()
        await asyncio.gather(*(traced.request(f"{number}") for number in range(40)))
        (query,) = traced.signals.spans("lookup")
        assert query.parent is None
        assert facts(query) == {"lookup": "claims", "lookup.waiters": 40, "lookup.keys": 40, "outcome": "ok"}
        servers = {
            context.span_id for server in traced.signals.spans("GET /") if (context := server.get_span_context())
        }
        assert len(query.links) == 32
        assert {link.context.span_id for link in query.links} < servers
        fallbacks = traced.signals.spans("fallback")
        assert len(fallbacks) == 40
        assert all([link.context for link in span.links] == [query.get_span_context()] for span in fallbacks)

    @pytest.mark.parametrize(("down", "outcome"), [(False, "not_found"), (True, "error")])
    async def test_a_failure_carries_its_kind_and_no_text(self, down: bool, outcome: str) -> None:
        traced = Traced()
        traced.world.users.down = down
        await traced.request("nobody")
        (span,) = traced.signals.spans("fallback")
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description is None
        assert span.events == ()
        assert facts(span)["error.type"] == outcome
        (query,) = traced.signals.spans("lookup")
        assert facts(query).get("error.type") == ("OSError" if down else None)

    @pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF, ParentBased(TraceIdRatioBased(0.3))])
    async def test_counts_are_exact_under_concurrency_with_any_sampler(self, sampler: Any) -> None:
        traced = Traced(sampler)
        await asyncio.gather(*(traced.request(f"{number % 50}") for number in range(500)))
        signals = traced.signals
        assert signals.value("fallbacks", payload_version="1", outcome="resolved") == 500
        assert sum(value for (name, _), value in signals.values().items() if name == "fallback.claims") == 500
        assert signals.value("requests", result="accepted", payload_version="1", minted="unknown") == 500
        assert signals.value("lookups", lookup="claims", outcome="ok") == 1
        assert signals.value("lookup.duration", lookup="claims") == 1
        assert signals.value("lookup.waiting", lookup="claims") == 0

    async def test_the_spans_of_a_database_instrumentation_nest_below_the_query(self) -> None:
        @source("email")
        async def instrumented(keys: Collection[str]) -> dict[str, dict[str, Any]]:
            with traced.signals.tracer_provider.get_tracer("database").start_as_current_span("SELECT users"):
                return {}

        traced = Traced(sources=[instrumented])
        await traced.request()
        (query,), (statement,) = traced.signals.spans("lookup"), traced.signals.spans("SELECT users")
        assert statement.parent == query.get_span_context()

    def test_a_handle_that_is_not_a_span_is_ignored(self) -> None:
        signals = Signals()
        spans = Spans(signals.tracer_provider, None)
        spans.looked_up(None, LookupFacts(lookup="claims", outcome="ok", keys=1, waiters=1, duration=0.1))
        assert signals.exporter.get_finished_spans() == ()
