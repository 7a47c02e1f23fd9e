"""The app's side of telemetry: its providers, its exporters and its log; a library never chooses them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, TextIO

import structlog
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import CollectorRegistry, generate_latest
from structlog.typing import Processor

from jwt_middleware import Telemetry, names

_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_TRACES: Final = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_METRICS: Final = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
_PATIENCE_MS: Final = 3_000
"""Milliseconds that an unreachable collector may delay the shutdown."""

MOST_EVENTS: Final = 100
"""Events that :class:`RecentEvents` keeps."""
_SHOWN: Final = (
    "timestamp",
    "level",
    "event",
    "claims",
    "sources",
    "outcome",
    "payload_version",
    "minted",
    "token_age_s",
    "lookup_ms",
    "reason",
    "status",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """The providers of one process, and the registry behind ``/metrics``."""

    registry: CollectorRegistry
    meters: MeterProvider
    tracers: TracerProvider

    @property
    def of_sessions(self) -> Telemetry:
        """The setting for the authority."""
        return Telemetry(meter_provider=self.meters, tracer_provider=self.tracers)

    def page(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)

    def shutdown(self) -> None:
        """Send the rest; blocks."""
        self.tracers.shutdown()
        self.meters.shutdown(timeout_millis=_PATIENCE_MS)


def signals(environment: Mapping[str, str] = os.environ) -> Signals:
    """Export to Prometheus, and by OTLP (http/protobuf) if the standard variables name an endpoint."""
    registry = CollectorRegistry()
    readers: list[MetricReader] = [PrometheusMetricReader(registry=registry)]
    if environment.get(_ENDPOINT) or environment.get(_METRICS):
        readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
    resource = Resource.create({"service.name": environment.get("OTEL_SERVICE_NAME", "jwt-middleware-demo")})
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    if environment.get(_ENDPOINT) or environment.get(_TRACES):
        tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    meters = MeterProvider(metric_readers=readers, resource=resource, shutdown_on_exit=False)
    return Signals(registry=registry, meters=meters, tracers=tracers)


class RecentEvents:
    """A structlog processor that keeps the last events of ``jwt_middleware`` for the live page, numbered from 1.

    These events contain no personal data (``docs/telemetry.md``). Events of other loggers are not kept.
    """

    def __init__(self) -> None:
        self._events: Final[deque[dict[str, Any]]] = deque(maxlen=MOST_EVENTS)
        self._number = 0

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if str(event.get("event", "")).startswith(f"{names.SCOPE}."):
            self._number += 1
            kept = {name: event[name] for name in _SHOWN if event.get(name) is not None}
            self._events.append({"number": self._number, **kept})
        return event

    def since(self, number: int, *, limit: int) -> list[dict[str, Any]]:
        """The events with a higher number, the oldest first; at most the newest ``limit``."""
        return [event for event in self._events if event["number"] > number][-limit:]


def log_json(stream: TextIO, *processors: Processor) -> None:
    """Log every event of every logger as one line of JSON; ``processors`` get it first."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *processors,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("INFO"),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
