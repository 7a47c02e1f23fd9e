"""Alerts of a migration: an old payload that does not die out, and a new one that lacks a claim."""

from __future__ import annotations

from typing import Final

from jwt_middleware import names

from ..promql import ACCEPTED, VERSION, select
from .parts import (
    BY_VERSION,
    INFO,
    Alert,
    happened,
)

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
        summary="Somebody still mints payload version {{ $labels." + VERSION + " }} in {{ $labels.job }}",
        description=(
            "A token of payload version {{ $labels." + VERSION + " }} was minted {{ $value | humanizeTimestamp }}, "
            "after the moment from which nobody may. Until the issuer is found, the fallback never ends."
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
            "{{ $value | humanize }} requests in the last hour came with a payload of which no honest token "
            "should be alive. Do not delete its fallback yet."
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
