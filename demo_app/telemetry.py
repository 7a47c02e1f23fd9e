"""The app's side of telemetry: providers, exporters and the log are the app's to choose, never the library's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TextIO

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

from jwt_middleware import Telemetry

_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_TRACES: Final = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_METRICS: Final = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
_PATIENCE_MS: Final = 3_000
"""How long an unreachable collector may hold up the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """One process's providers, and the registry that ``/metrics`` is read from."""

    registry: CollectorRegistry
    meters: MeterProvider
    tracers: TracerProvider

    @property
    def of_sessions(self) -> Telemetry:
        """What the authority is given."""
        return Telemetry(meter_provider=self.meters, tracer_provider=self.tracers)

    def page(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)

    def shutdown(self) -> None:
        """Send what is left; blocks."""
        self.tracers.shutdown()
        self.meters.shutdown(timeout_millis=_PATIENCE_MS)


def signals(environment: Mapping[str, str] = os.environ) -> Signals:
    """Prometheus always; OTLP (http/protobuf) where the standard variables name an endpoint."""
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


def log_json(stream: TextIO, *watching: Processor) -> None:
    """Every event of every logger as one line of JSON; who watches sees it before that."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *watching,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("INFO"),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
