"""Real OpenTelemetry providers that keep what they get: metrics as plain dictionaries, finished spans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from jwt_middleware import Telemetry
from jwt_middleware.names import SCOPE

Series = tuple[str, tuple[tuple[str, str], ...]]
"""A metric's name and its attributes, both without the package's prefix."""


def short(name: str) -> str:
    return name.removeprefix(f"{SCOPE}.")


class Signals:
    """One meter provider and one tracer provider."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self.reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider([self.reader])
        self.exporter = InMemorySpanExporter()
        self.tracer_provider = TracerProvider(sampler=sampler)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def telemetry(self, **settings: Any) -> Telemetry:
        return Telemetry(**{"meter_provider": self.meter_provider, "tracer_provider": self.tracer_provider, **settings})

    def values(self) -> dict[Series, float]:
        """The current value of every series; of a histogram, the number of its values."""
        collected = self.reader.get_metrics_data()
        return {
            (short(metric.name), attributes(point.attributes)): getattr(point, "value", getattr(point, "count", 0))
            for resource in (collected.resource_metrics if collected is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
        }

    def value(self, name: str, **labels: str) -> float | None:
        """One series; the attribute names have underscores for dots."""
        wanted = {key.replace(".", "_"): value for key, value in labels.items()}
        for (metric, series), value in self.values().items():
            if metric == name and {key.replace(".", "_"): label for key, label in series} == wanted:
                return value
        return None

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if short(span.name) == name]


def attributes(point: Mapping[str, Any] | None) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((short(key), value) for key, value in (point or {}).items()))


def delta(before: Mapping[Series, float], after: Mapping[Series, float]) -> dict[Series, float]:
    """The differences between two readings that are not zero."""
    return {series: value - before.get(series, 0) for series, value in after.items() if value != before.get(series, 0)}
