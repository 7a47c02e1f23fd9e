"""The log events: for each fallback and each start; thinned, for each refusal, failed query and stale pass."""

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

MOST_A_SECOND: Final = 10
"""``refused`` events of one reason, and each of the other two; the rest is counted in ``telemetry.dropped``."""
_logger: Final[Any] = structlog.get_logger(names.SCOPE)
"""A lazy proxy: it follows whatever the app configures, whenever."""


def configured(counters: Counters, facts: dict[str, object]) -> None:
    """Report a start: what is read, minted and asked; a warning where there is advice."""
    try:
        log = _logger.warning if "advice" in facts else _logger.info
        log(names.EVENT_CONFIGURED, **facts)
    except Exception:  # the app's log processors may raise; that breaks no request
        counters.counts[_unreported(counters)] += 1


def _unreported(counters: Counters) -> int:
    return counters.counter(names.TELEMETRY_DROPPED, {names.EVENT: "configured", names.DROP_REASON: "failed"})


class EventLog(SilentObserver):
    """Writes all but ``configured``. No work is done for a level that is filtered."""

    def __init__(self, counters: Counters, clock: Clock, pseudonym: Callable[[str | None], str | None]) -> None:
        self._pseudonym: Final = pseudonym
        self._monotonic: Final = clock.monotonic
        self._counts: Final = counters.counts
        self._thinned: Final = {
            event: counters.counter(names.TELEMETRY_DROPPED, {names.EVENT: event, names.DROP_REASON: "rate_limited"})
            for event in ("refused", "lookup_failed", "revocation_stale")
        }
        _unreported(counters)
        self._this_second: Final[dict[tuple[str, Reason | None], tuple[int, int]]] = {}

    def looked_up(self, handle: object, facts: LookupFacts) -> None:
        if facts.outcome == "ok":
            return
        log = _open(logging.WARNING)
        if log is None or self._too_many("lookup_failed"):
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
        if outcome.stale:
            self._stale(outcome)
        if outcome.fallback is not None:
            self._fallback(outcome, outcome.fallback)
        if outcome.result == "refused" and outcome.reason is not None:
            self._refused(outcome, outcome.reason)

    def _fallback(self, outcome: Outcome[Any], fallback: Fallback) -> None:
        warn = outcome.minted == "after_change" or fallback.outcome is not FillOutcome.RESOLVED
        log = _open(logging.WARNING if warn else logging.INFO)
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
            **self._about_whom(outcome),
        )

    def _refused(self, outcome: Outcome[Any], reason: Reason) -> None:
        log = _open(logging.WARNING if reason.status == 503 else logging.INFO)
        if log is None:
            return
        if self._too_many("refused", reason):
            return
        log(
            names.EVENT_REFUSED,
            reason=reason.value,
            status=reason.status,
            **({} if outcome.claim is None else {"claim": outcome.claim}),
            carrier=None if outcome.carrier is None else outcome.carrier.value,
            payload_version=outcome.payload_version,
            kid=outcome.key_id,
            **self._about_whom(outcome),
        )

    def _stale(self, outcome: Outcome[Any]) -> None:
        log = _open(logging.WARNING)
        if log is None or self._too_many("revocation_stale"):
            return
        log(
            names.EVENT_REVOCATION_STALE,
            carrier=None if outcome.carrier is None else outcome.carrier.value,
            payload_version=outcome.payload_version,
            kid=outcome.key_id,
            **self._about_whom(outcome),
        )

    def _too_many(self, event: str, reason: Reason | None = None) -> bool:
        second, written = self._this_second.get((event, reason), (0, 0))
        now = int(self._monotonic())
        if now != second:
            written = 0
        self._this_second[event, reason] = now, written + 1
        thinned = written >= MOST_A_SECOND
        self._counts[self._thinned[event]] += thinned
        return thinned

    def _about_whom(self, outcome: Outcome[Any]) -> dict[str, str]:
        """The trace, and the pseudonym where one is configured."""
        about: dict[str, str] = {}
        if (pseudonym := self._pseudonym(outcome.subject)) is not None:
            about[names.PSEUDONYM] = pseudonym
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            about["trace_id"] = trace.format_trace_id(span.trace_id)
            about["span_id"] = trace.format_span_id(span.span_id)
        return about


def _open(level: int) -> Callable[..., Any] | None:
    """The method that writes at this level; None where it is filtered, as far as the app's logger can say."""
    bound = _logger.bind()
    enabled = getattr(bound, "is_enabled_for", None)
    if enabled is not None and not enabled(level):
        return None
    method: Callable[..., Any] = bound.warning if level == logging.WARNING else bound.info
    return method
