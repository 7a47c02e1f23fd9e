"""What the conditions of alerts are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from jwt_middleware import Reason, names
from jwt_middleware.names import Metric

from ..promql import ACCEPTED, VERSION, one_of, select

UNAVAILABLE: Final = tuple(reason.value for reason in Reason if reason.status == 503)
FORGED: Final = (Reason.SIGNATURE_INVALID.value, Reason.KEY_UNKNOWN.value, Reason.ALGORITHM_MISMATCH.value)
SIGNED: Final = tuple(
    reason.value
    for reason in Reason
    if reason.verified and reason.status == 401 and reason not in {Reason.TOKEN_EXPIRED, Reason.SESSION_REVOKED}
)
"""Refusals that only a holder of a good signature gets and that are nobody's ordinary end of a session."""
ALL_ACCEPTED: Final = select(names.REQUESTS, ACCEPTED)
INFO: Final = select(names.PAYLOAD_INFO)
BY_VERSION: Final = f"job, {VERSION}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alerting rule."""

    name: str
    severity: Literal["page", "ticket"]
    expr: str
    hold: str
    """For how long the condition must hold."""
    summary: str
    description: str


def happened(metric: Metric, window: str, *matchers: str) -> str:
    """Series that counted something within the window, be it before their first scrape.

    A series is new where it was not there when the window began, nor in the eight days before: a mere scrape gap makes
    none new.
    """
    selector = select(metric, *matchers)
    known = f"unless {selector} offset {window} unless last_over_time({selector}[8d:1h] offset {window})"
    return f"(increase({selector}[{window}]) > 0\n  or ({selector} > 0 {known}))"


def refused_for(reasons: tuple[str, ...]) -> str:
    """A selector of the refusals for one of these reasons."""
    return select(names.REQUESTS, one_of(names.ERROR_TYPE, reasons))


def share(reasons: tuple[str, ...], window: str, by: str = "job") -> str:
    """Of the accepted requests and these refusals, the share of these refusals."""
    refused = f"rate({refused_for(reasons)}[{window}])"
    return f"sum by ({by}) ({refused}) / sum by ({by}) ({refused} or rate({ALL_ACCEPTED}[{window}]))"


def at_least(count: int, selector: str, window: str, by: str = "job") -> str:
    """The floor in events that a rule on a ratio has."""
    return f"sum by ({by}) (increase({selector}[{window}])) >= {count}"
