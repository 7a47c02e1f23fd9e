"""Alerts of the signals themselves: what is not seen cannot be alerted on."""

from __future__ import annotations

from typing import Final

from jwt_middleware import names

from ..promql import is_, label, select
from .parts import (
    INFO,
    Alert,
    happened,
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
        description="They were there within the last day. Nothing about its sessions is known now, nor alerted on.",
    ),
    Alert(
        name="JwtInstanceNotReporting",
        severity="ticket",
        expr=f"up == 1 unless on (job, instance) {INFO} and on (job) {INFO}",
        hold="15m",
        summary="{{ $labels.instance }} of {{ $labels.job }} reports no session metrics",
        description="It is scraped, others of its job report: what it mints and accepts is not in any figure.",
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
        description="The key endpoint cannot be fetched: new keys are not learnt, and one day none is left.",
    ),
    Alert(
        name="JwtCardinalityOverflow",
        severity="ticket",
        expr='count by (job) ({otel_metric_overflow="true"}) > 0',
        hold="15m",
        summary="{{ $labels.job }} has more series than OpenTelemetry's limit",
        description="{{ $value }} series hold the overflow: counts of single attributes are wrong from here on.",
    ),
)
