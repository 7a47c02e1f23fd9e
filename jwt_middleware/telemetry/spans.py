"""Spans: one for each fallback and one for each query. They link to each other, since many requests share a query."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from opentelemetry import context, trace
from opentelemetry.trace import Link, Span, SpanContext, StatusCode, TracerProvider
from opentelemetry.util.types import AttributeValue

from .. import names
from ..types import Fallback, FillOutcome, LookupFacts, Outcome


class Spans:
    """An observer; its handles are the span context of a waiting request, and the span of a query."""

    def __init__(self, provider: TracerProvider | None, pseudonym: Callable[[str], str] | None) -> None:
        self._tracer: Final = trace.get_tracer(names.SCOPE, tracer_provider=provider)
        self._pseudonym: Final = pseudonym

    def waiting(self) -> object:
        return trace.get_current_span().get_span_context()

    def looking_up(self, lookup: str, waiters: Sequence[object], total: int) -> object:
        """Start a root span, because the query belongs to all its waiters, and make it current in the query's task."""
        # A link to a span that is not sampled leads nowhere.
        links = [Link(waiter) for waiter in waiters if isinstance(waiter, SpanContext) and waiter.trace_flags.sampled]
        span = self._tracer.start_span(
            names.SPAN_LOOKUP,
            context=context.Context(),
            links=links,
            attributes={names.LOOKUP: lookup, names.LOOKUP_WAITERS: total},
        )
        context.attach(trace.set_span_in_context(span))  # never detached: the context ends with the query's task
        return span

    def looked_up(self, handle: object, facts: LookupFacts) -> None:
        if not isinstance(handle, Span):  # looking_up raised, so the query has no span
            return
        handle.set_attributes({names.LOOKUP_KEY_COUNT: facts.keys, names.OUTCOME: facts.outcome})
        if facts.outcome != "ok":
            handle.set_attribute(names.ERROR_TYPE, facts.error_type or facts.outcome)
            handle.set_status(StatusCode.ERROR)
        handle.end()

    def finished(self, outcome: Outcome[Any]) -> None:
        fallback = outcome.fallback
        if fallback is None:
            return
        server = trace.get_current_span()
        if server.is_recording():
            server.set_attribute(names.PAYLOAD_VERSION, str(outcome.payload_version))
            server.set_attribute(names.OUTCOME, fallback.outcome.value)
        # The span is created afterwards, with its times, because most requests have no fallback.
        links = [Link(query.get_span_context()) for query in fallback.lookups if isinstance(query, Span)]
        span = self._tracer.start_span(names.SPAN_FALLBACK, links=links, start_time=fallback.started_at)
        if span.is_recording():
            span.set_attributes(self._attributes(outcome, fallback))
            if fallback.outcome is not FillOutcome.RESOLVED:
                span.set_attribute(names.ERROR_TYPE, fallback.outcome.value)
                span.set_status(StatusCode.ERROR)
        span.end(end_time=fallback.ended_at)

    def _attributes(self, outcome: Outcome[Any], fallback: Fallback) -> dict[str, AttributeValue]:
        attributes: dict[str, AttributeValue | None] = {
            names.CLAIMS: [claim.claim for claim in fallback.claims],
            names.SOURCES: sorted({claim.source for claim in fallback.claims}),
            names.PAYLOAD_VERSION: outcome.payload_version,
            names.PAYLOAD_EXPECTED: str(outcome.payload_expected),
            names.MINTED: outcome.minted,
            names.OUTCOME: fallback.outcome.value,
            names.TOKEN_AGE: outcome.token_age,
            names.KEY_ID: outcome.key_id,
        }
        if self._pseudonym is not None and outcome.subject is not None:
            attributes[names.PSEUDONYM] = self._pseudonym(outcome.subject)
        return {name: value for name, value in attributes.items() if value is not None}
