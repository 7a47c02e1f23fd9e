"""Alerts of what sessions depend on: databases, key endpoints, the view of revocations."""

from __future__ import annotations

from typing import Final

from jwt_middleware import names

from ..promql import LOOKUP, OUTCOME, select
from .parts import (
    UNAVAILABLE,
    Alert,
    at_least,
    happened,
    refused_for,
    share,
)

_FAILED: Final = select(names.LOOKUPS, f'{OUTCOME}!="ok"')
_BY_LOOKUP: Final = f"job, {LOOKUP}"

AVAILABILITY: Final = (
    Alert(
        name="JwtAuthenticationUnavailable",
        severity="page",
        expr=(
            f"{share(UNAVAILABLE, '5m')} > 0.0144\n"
            f"and on (job) {share(UNAVAILABLE, '1h')} > 0.0144\n"
            f"and on (job) {at_least(10, refused_for(UNAVAILABLE), '10m')}"
        ),
        hold="2m",
        summary="{{ $labels.job }} answers {{ $value | humanizePercentage }} of its users with 503",
        description=(
            "Sessions cannot be judged: a database or the key endpoint does not answer. At this rate a month's "
            "budget of 0.1 % is gone within two days."
        ),
    ),
    Alert(
        name="JwtInstanceUnavailable",
        severity="ticket",
        expr=(
            f"{share(UNAVAILABLE, '10m', 'job, instance')} > 0.2\n"
            f"and on (job, instance) {at_least(10, refused_for(UNAVAILABLE), '10m', 'job, instance')}"
        ),
        hold="5m",
        summary="{{ $labels.instance }} of {{ $labels.job }} answers {{ $value | humanizePercentage }} with 503",
        description="One instance cannot judge sessions, the others may well: look at its network and its pool.",
    ),
    Alert(
        name="JwtLookupsFailing",
        severity="ticket",
        expr=(
            f"sum by ({_BY_LOOKUP}) (rate({_FAILED}[15m]))"
            f" / sum by ({_BY_LOOKUP}) (rate({select(names.LOOKUPS)}[15m])) > 0.05\n"
            f"and on ({_BY_LOOKUP}) {at_least(3, _FAILED, '15m', _BY_LOOKUP)}"
        ),
        hold="5m",
        summary=(
            "{{ $value | humanizePercentage }} of the {{ $labels." + LOOKUP + " }} queries of {{ $labels.job }} fail"
        ),
        description="Queries end in an error or a time-out; soon requests are answered with 503 or with defaults.",
    ),
    Alert(
        name="JwtBreakerOpen",
        severity="ticket",
        expr=f"max by (job, instance, {LOOKUP}) ({select(names.LOOKUP_BREAKER_OPEN)}) > 0",
        hold="5m",
        summary="{{ $labels.instance }} of {{ $labels.job }} leaves the {{ $labels." + LOOKUP + " }} database alone",
        description="Queries failed in a row, and probes still do: the breaker spares requests a vain wait.",
    ),
    Alert(
        name="JwtRevocationViewStale",
        severity="page",
        expr=f"sum by (job) {happened(names.REVOCATION_STALE, '10m')}",
        hold="10m",
        summary="{{ $labels.job }} lets sessions pass that it cannot check for revocation",
        description=(
            "{{ $value | humanize }} requests in 10 minutes passed on a session state older than max_staleness: "
            "a revoked session would not be noticed."
        ),
    ),
)
