"""Log events, written with structlog: ``configured``, ``fallback``, ``refused``, ``not_admitted``, ``lookup_failed``
and ``revocation_stale``. The last four have a rate limit, so that a flood of refused requests does not flood the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import structlog
from opentelemetry import trace

from .. import names
from ..counters import Counters
from ..errors import Reason
from ..protocols import Clock, SilentObserver
from ..types import Fallback, FillOutcome, LookupFacts, Outcome

MAX_PER_SECOND: Final = 10
"""``refused`` events of one reason, and events of each other limited kind. ``telemetry.dropped`` counts the rest."""
ADVICE_INTERVAL: Final = 60.0
"""Seconds between two ``not_admitted`` events of one reason."""
_logger: Final[Any] = structlog.get_logger(names.SCOPE)
"""A lazy proxy: it follows the app's structlog configuration at any time."""


def log_configured(counters: Counters, facts: dict[str, object]) -> None:
    """Report the start of an authority; at level WARNING if the facts contain advice."""
    try:
        log = _logger.warning if "advice" in facts else _logger.info
        log(names.EVENT_CONFIGURED, **facts)
    except Exception:  # the app's log processors may raise; that must not fail the start
        counters.counts[_failed_configured(counters)] += 1


def _failed_configured(counters: Counters) -> int:
    return counters.counter(names.TELEMETRY_DROPPED, {names.EVENT: "configured", names.DROP_REASON: "failed"})


class EventLog(SilentObserver):
    """Writes every event but ``configured``. An event whose level is filtered costs nothing."""

    def __init__(self, counters: Counters, clock: Clock, pseudonym: Callable[[str], str] | None) -> None:
        self._pseudonym: Final = pseudonym
        self._monotonic: Final = clock.monotonic
        self._counts: Final = counters.counts
        self._rate_limited: Final = {
            event: counters.counter(names.TELEMETRY_DROPPED, {names.EVENT: event, names.DROP_REASON: "rate_limited"})
            for event in ("refused", "lookup_failed", "revocation_stale")
        }
        _failed_configured(counters)  # declared here, so that its series starts at zero
        self._advised: Final[dict[Reason, float]] = {}
        """When each reason was last explained, monotonic."""
        self._written: Final[dict[tuple[str, Reason | None], tuple[int, int]]] = {}
        """For each limited event: the second (monotonic) of the last one, and how many there were in that second."""

    def looked_up(self, handle: object, facts: LookupFacts) -> None:
        if facts.outcome == "ok" or (log := self._limited(logging.WARNING, "lookup_failed")) is None:
            return
        log(
            names.EVENT_LOOKUP_FAILED,
            lookup=facts.lookup,
            outcome=facts.outcome,
            error_type=facts.error_type,
            keys=facts.keys,
            waiters=facts.waiters,
            duration_ms=round(facts.duration * 1e3, 1),
        )

    def finished(self, outcome: Outcome[Any]) -> None:
        if outcome.stale and (log := self._limited(logging.WARNING, "revocation_stale")) is not None:
            log(names.EVENT_REVOCATION_STALE, **self._token(outcome))
        if outcome.fallback is not None:
            self._fallback(outcome, outcome.fallback)
        if outcome.advice is not None and outcome.reason is not None:
            self._not_admitted(outcome.reason, outcome.advice, outcome)
        if outcome.result == "refused" and outcome.reason is not None:
            self._refused(outcome, outcome.reason)

    def _fallback(self, outcome: Outcome[Any], fallback: Fallback) -> None:
        warn = outcome.minted == "after_change" or fallback.outcome is not FillOutcome.RESOLVED
        log = _writer(logging.WARNING if warn else logging.INFO)
        if log is None:
            return
        log(
            names.EVENT_FALLBACK,
            claims=[claim.claim for claim in fallback.claims],
            payload_version=outcome.payload_version,
            payload_expected=outcome.payload_expected,
            minted=outcome.minted,
            sources=sorted({claim.source for claim in fallback.claims}),
            outcome=fallback.outcome.value,
            token_age_s=None if outcome.token_age is None else int(outcome.token_age),
            lookup_ms=round((fallback.ended_at - fallback.started_at) / 1e6, 1),
            kid=outcome.key_id,
            **self._request(outcome),
        )

    def _refused(self, outcome: Outcome[Any], reason: Reason) -> None:
        log = self._limited(logging.WARNING if reason.status == 503 else logging.INFO, "refused", reason)
        if log is None:
            return
        claim = {} if outcome.claim is None else {"claim": outcome.claim}
        log(names.EVENT_REFUSED, reason=reason.value, status=reason.status, **claim, **self._token(outcome))

    def _not_admitted(self, reason: Reason, advice: str, outcome: Outcome[Any]) -> None:
        """A token whose signature holds is refused: say which line would admit it, once a minute for each reason."""
        now, last = self._monotonic(), self._advised.get(reason)
        if last is not None and now - last < ADVICE_INTERVAL:
            return
        log = _writer(logging.WARNING)
        if log is None:
            return
        self._advised[reason] = now
        log(names.EVENT_NOT_ADMITTED, reason=reason.value, advice=advice, **self._token(outcome))

    def _limited(self, level: int, event: str, reason: Reason | None = None) -> Callable[..., Any] | None:
        """The logger's method for a limited event; None if its level is filtered or its rate is used up."""
        log = _writer(level)
        if log is None:
            return None
        now = int(self._monotonic())
        second, count = self._written.get((event, reason), (now, 0))
        count = count + 1 if second == now else 1
        self._written[event, reason] = now, count
        if count > MAX_PER_SECOND:
            self._counts[self._rate_limited[event]] += 1
            return None
        return log

    def _token(self, outcome: Outcome[Any]) -> dict[str, str | None]:
        return {
            "carrier": None if outcome.carrier is None else outcome.carrier.value,
            "payload_version": outcome.payload_version,
            "kid": outcome.key_id,
            **self._request(outcome),
        }

    def _request(self, outcome: Outcome[Any]) -> dict[str, str]:
        """The ids of the current span, if there is one, and the pseudonym, if a key for it is configured."""
        fields: dict[str, str] = {}
        if self._pseudonym is not None and outcome.subject is not None:
            fields[names.PSEUDONYM] = self._pseudonym(outcome.subject)
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            fields["trace_id"] = trace.format_trace_id(span.trace_id)
            fields["span_id"] = trace.format_span_id(span.span_id)
        return fields


def _writer(level: int) -> Callable[..., Any] | None:
    """The logger's method for this level; None if the logger can say that it filters the level."""
    bound = _logger.bind()
    enabled = getattr(bound, "is_enabled_for", None)
    if enabled is not None and not enabled(level):
        return None
    method: Callable[..., Any] = bound.warning if level == logging.WARNING else bound.info
    return method
