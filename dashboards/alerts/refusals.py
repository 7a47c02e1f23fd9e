"""Alerts of refusals: one's own users turned away, as against bots."""

from __future__ import annotations

from typing import Final

from jwt_middleware import Reason, names

from ..promql import ACCEPTED, ERROR, REFUSED, none_of, one_of, select
from ..recording import REFUSED as REFUSED_RATE
from .parts import (
    ALL_ACCEPTED,
    FORGED,
    SIGNED,
    UNAVAILABLE,
    Alert,
    at_least,
    happened,
    refused_for,
    share,
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
        summary="{{ $labels.job }} refuses {{ $value | humanizePercentage }} of its users with good signatures",
        description=(
            "Tokens with a good signature are turned away, far more than on this day's average: a release, a "
            "clock, or another issuer changed what is in them."
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
            "Signatures do not hold, and at the same time accepted requests fell below half: a key was replaced "
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
        summary="{{ $labels.job }} accepted nobody for two hours and refused {{ $value | humanize }} requests",
        description="With little traffic no ratio can tell: nobody got in at all, and some were turned away.",
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
