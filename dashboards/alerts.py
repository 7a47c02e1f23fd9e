"""Every alert: name, severity, condition, for how long it must hold, and the texts for the person it calls.

A page means that users are turned away or that a security control is off; everything else is a ticket. A rule on a
ratio has a minimum of events. A rule on "any at all" also counts a series that is born above zero, and does not take
the end of a scrape gap for an event.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from jwt_middleware import Reason, names
from jwt_middleware.names import Metric

from .promql import ACCEPTED, ERROR, LOOKUP, OUTCOME, REFUSED, VERSION, is_, label, none_of, one_of, select
from .recording import REFUSED as REFUSED_RATE

UNAVAILABLE: Final = tuple(reason.value for reason in Reason if reason.status == 503)
FORGED: Final = (Reason.SIGNATURE_INVALID.value, Reason.KEY_UNKNOWN.value, Reason.ALGORITHM_MISMATCH.value)
SIGNED: Final = tuple(
    reason.value
    for reason in Reason
    if reason.verified and reason.status == 401 and reason not in {Reason.TOKEN_EXPIRED, Reason.SESSION_REVOKED}
)
"""Refusals of tokens with a valid signature that are not the ordinary end of a session."""
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
    """Series that counted an event within the window, also one that happened before the first scrape of the series.

    A series is new if it did not exist when the window began, nor in the eight days before. The eight days matter:
    after a scrape gap every series looks new.
    """
    selector = select(metric, *matchers)
    existed = f"unless {selector} offset {window} unless last_over_time({selector}[8d:1h] offset {window})"
    return f"(increase({selector}[{window}]) > 0\n  or ({selector} > 0 {existed}))"


def refused_for(reasons: tuple[str, ...]) -> str:
    """A selector of the refusals for one of these reasons."""
    return select(names.REQUESTS, one_of(names.ERROR_TYPE, reasons))


def share(reasons: tuple[str, ...], window: str, by: str = "job") -> str:
    """The share of these refusals among the accepted requests and these refusals."""
    refused = f"rate({refused_for(reasons)}[{window}])"
    return f"sum by ({by}) ({refused}) / sum by ({by}) ({refused} or rate({ALL_ACCEPTED}[{window}]))"


def at_least(count: int, selector: str, window: str, by: str = "job") -> str:
    """The minimum of events that a rule on a ratio needs."""
    return f"sum by ({by}) (increase({selector}[{window}])) >= {count}"


_DAY: Final = 86_400
_SUPERSEDED: Final = f"max by ({BY_VERSION}) ({select(names.PAYLOAD_SUPERSEDED)})"
_LIFETIME: Final = f"on (job) group_left () max by (job) ({select(names.TOKEN_MAX_LIFETIME)})"
_NEWEST: Final = f"max by ({BY_VERSION}) (max_over_time({select(names.PAYLOAD_LAST_MINTED)}[1d]))"
_READS: Final = f"job, instance, {VERSION}"

MIGRATION: Final = (
    Alert(
        name="JwtOldPayloadStillMinted",
        severity="ticket",
        expr=f"({_NEWEST} > {_SUPERSEDED}) > time() - {_DAY}",
        hold="5m",
        summary="An issuer still mints payload version {{ $labels." + VERSION + " }} in {{ $labels.job }}",
        description=(
            "A token of payload version {{ $labels." + VERSION + " }} was minted {{ $value | humanizeTimestamp }}, "
            "after the moment from which no issuer may. Until the issuer is found, the fallback never ends."
        ),
    ),
    Alert(
        name="JwtOldPayloadAfterSunset",
        severity="ticket",
        expr=(
            f"sum by ({BY_VERSION}) {happened(names.REQUESTS, '1h', ACCEPTED)}\n"
            f"and on ({BY_VERSION}) ({_SUPERSEDED} + {_LIFETIME} < time() - 3600)"
        ),
        hold="5m",
        summary="Payload version {{ $labels." + VERSION + " }} is used after its sunset in {{ $labels.job }}",
        description=(
            "{{ $value | humanize }} requests in the last hour came with a payload of which no valid token "
            "should be left. Do not delete its fallback yet."
        ),
    ),
    Alert(
        name="JwtCurrentPayloadLacksClaim",
        severity="ticket",
        expr=(
            f"sum by ({_READS}) {happened(names.FALLBACKS, '1h')}\n"
            f"and on ({_READS}) {INFO}\n"
            "unless on (job, instance) count by (job, instance)"
            f" (count by ({_READS}) (last_over_time({INFO}[1h]))) > 1"
        ),
        hold="5m",
        summary="Tokens of today's payload lack a claim at {{ $labels.instance }} of {{ $labels.job }}",
        description=(
            "{{ $value | humanize }} requests in the last hour had a token of version {{ $labels."
            + VERSION
            + " }}, which is today's, and needed the fallback all the same: an issuer leaves a claim out."
        ),
    ),
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
            "Sessions cannot be checked: a database or the key endpoint does not answer. At this rate a month's "
            "budget of 0.1 % is used up within two days."
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
        description="One instance cannot check sessions, others can: look at its network and its connection pool.",
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
        summary="{{ $labels.instance }} of {{ $labels.job }} has stopped querying the {{ $labels."
        + LOOKUP
        + " }} database",
        description="Queries failed in a row, and probes still fail: requests no longer wait in vain.",
    ),
    Alert(
        name="JwtRevocationViewStale",
        severity="page",
        expr=f"sum by (job) {happened(names.REVOCATION_STALE, '10m')}",
        hold="10m",
        summary="{{ $labels.job }} lets sessions pass that it cannot check for revocation",
        description=(
            "{{ $value | humanize }} requests in 10 minutes passed on a session state older than max_staleness: "
            "a revoked session may still be accepted."
        ),
    ),
)

_SIGNED: Final = f"{REFUSED_RATE}{{{one_of(names.ERROR_TYPE, SIGNED)}}}"
_SPIKING: Final = none_of(names.ERROR_TYPE, (Reason.TOKEN_MISSING.value, *UNAVAILABLE))
_REFUSED: Final = select(names.REQUESTS, REFUSED, _SPIKING)
_NOT_ORDINARY: Final = none_of(names.ERROR_TYPE, (Reason.TOKEN_MISSING.value, Reason.TOKEN_EXPIRED.value))
_BY_REASON: Final = f"job, {ERROR}"
_ACCEPTED_NOW: Final = f"sum by (job) (rate({ALL_ACCEPTED}[5m]))"

REFUSALS: Final = (
    Alert(
        name="JwtSignedTokensRefused",
        severity="page",
        expr=(
            f"{share(SIGNED, '5m')} > 0.05\n"
            f"and on (job) {at_least(20, refused_for(SIGNED), '5m')}\n"
            f"unless on (job) sum by (job) (rate({refused_for(SIGNED)}[5m]))"
            f" <= 4 * sum by (job) (avg_over_time({_SIGNED}[1d] offset 1h))"
        ),
        hold="5m",
        summary="{{ $labels.job }} refuses {{ $value | humanizePercentage }} of its users despite valid signatures",
        description=(
            "Tokens with a valid signature are refused, far more than on this day's average: a release, a clock, or "
            "another issuer changed what is in them or around them. The event jwt_middleware.not_admitted says "
            "which line of also_accept would admit them, if one would."
        ),
    ),
    Alert(
        name="JwtKeysRefuseUsers",
        severity="page",
        expr=(
            f"{share(FORGED, '5m')} > 0.2\n"
            f"and on (job) {_ACCEPTED_NOW} < 0.5 * sum by (job) (rate({ALL_ACCEPTED}[5m] offset 30m))\n"
            f"and on (job) {at_least(20, refused_for(FORGED), '5m')}"
        ),
        hold="5m",
        summary="{{ $labels.job }} has no key for {{ $value | humanizePercentage }} of the tokens it gets",
        description=(
            "Signatures do not verify, and at the same time accepted requests fell below half: a key was replaced "
            "or removed too early. Forged tokens alone do not raise this."
        ),
    ),
    Alert(
        name="JwtNothingAccepted",
        severity="ticket",
        expr=(
            f"{at_least(5, select(names.REQUESTS, REFUSED, _NOT_ORDINARY), '2h')}\n"
            f"unless on (job) {happened(names.REQUESTS, '2h', ACCEPTED)}"
        ),
        hold="10m",
        summary="{{ $labels.job }} accepted no request for two hours and refused {{ $value | humanize }}",
        description="With little traffic a ratio says nothing: no request was accepted, and some were refused.",
    ),
    Alert(
        name="JwtRefusalSpike",
        severity="ticket",
        expr=(
            f"sum by ({_BY_REASON}) (rate({_REFUSED}[5m]))"
            f" > 5 * avg_over_time({REFUSED_RATE}[1d] offset 1h)\n"
            f"and on ({_BY_REASON}) {at_least(50, _REFUSED, '5m', _BY_REASON)}"
        ),
        hold="15m",
        summary="Refusals for {{ $labels." + ERROR + " }} spike in {{ $labels.job }}",
        description="{{ $value | humanize }} a second, more than five times this day's average.",
    ),
)

_LOST: Final = is_(names.DROP_REASON, "failed")
_EVENT: Final = label(names.EVENT)

SIGNALS: Final = (
    Alert(
        name="JwtTelemetryAbsent",
        severity="ticket",
        expr=f"max by (job) (last_over_time({INFO}[1d])) unless on (job) {INFO}",
        hold="15m",
        summary="{{ $labels.job }} reports no session metrics any more",
        description="They were there within the last day. Now its sessions are invisible, and no alert can fire.",
    ),
    Alert(
        name="JwtInstanceNotReporting",
        severity="ticket",
        expr=f"up == 1 unless on (job, instance) {INFO} and on (job) {INFO}",
        hold="15m",
        summary="{{ $labels.instance }} of {{ $labels.job }} reports no session metrics",
        description="It is scraped, and others of its job report: no figure includes what it mints and accepts.",
    ),
    Alert(
        name="JwtTelemetryDropped",
        severity="ticket",
        expr=f"sum by (job, {_EVENT}) {happened(names.TELEMETRY_DROPPED, '1h', _LOST)}",
        hold="5m",
        summary="{{ $labels.job }} loses {{ $labels." + _EVENT + " }} signals",
        description="{{ $value | humanize }} in the last hour: an observer, a log processor or an exporter raises.",
    ),
    Alert(
        name="JwtKeySetStale",
        severity="ticket",
        expr=f"time() - max by (job, instance) ({select(names.JWKS_LAST_SUCCESS)}) > 3600",
        hold="10m",
        summary="{{ $labels.instance }} of {{ $labels.job }} has remote keys {{ $value | humanizeDuration }} old",
        description="Fetches of the key set fail: new keys are not learnt, and in the end no key is left.",
    ),
    Alert(
        name="JwtCardinalityOverflow",
        severity="ticket",
        expr='count by (job) ({otel_metric_overflow="true"}) > 0',
        hold="15m",
        summary="{{ $labels.job }} has more series than OpenTelemetry's limit",
        description="{{ $value }} series hold the overflow: from now on, counts by attribute are wrong.",
    ),
)

ALERTS: Final = (*MIGRATION, *AVAILABILITY, *REFUSALS, *SIGNALS)
