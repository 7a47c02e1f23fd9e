"""Samples as OpenMetrics text, with the series names that OpenTelemetry's Prometheus exporter writes.

``promtool tsdb create-blocks-from openmetrics`` reads the text: families one after the other, within a family its
series one after the other, within a series its samples in the order of time; last ``# EOF`` (OpenMetrics 1.0).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, NamedTuple, TextIO

from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint

from jwt_middleware import names
from jwt_middleware.names import Metric

from ..promql import label, metric_name

_BY_NAME: Final[Mapping[str, Metric]] = {metric.name: metric for metric in names.METRICS}
_BOUNDS: Final = (*(str(bound) for bound in names.DURATION_BUCKETS), "+Inf")


class Series(NamedTuple):
    """One series, as Prometheus stores it."""

    family: str
    """The metric's name; for a histogram without the suffix of its three kinds of series."""
    name: str
    labels: tuple[tuple[str, str], ...]
    """Without empty values: to Prometheus an empty label does not exist."""

    @classmethod
    def of(cls, metric: Metric, attributes: Iterable[tuple[str, object]], *, part: str = "") -> Series:
        """The series of a metric with these attributes; ``part`` is a histogram's suffix."""
        family = metric_name(metric)
        labels = sorted((label(name), str(value)) for name, value in attributes)
        return cls(family, family + part, tuple((name, value) for name, value in labels if value))

    def labelled(self, labels: Iterable[tuple[str, str]]) -> Series:
        """The series with the labels that a scrape adds."""
        return self._replace(labels=(*labels, *self.labels))


UP: Final = Series("up", "up", ())


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of one series: times as text, and a value (or None) for each."""

    times: list[str]
    values: Iterable[float | None]


Segments = Mapping[Series, list[Segment]]
"""The parts of each series in the order of time; ``job`` and ``instance`` are among the labels."""


def histogram(metric: Metric, attributes: Iterable[tuple[str, object]]) -> list[Series]:
    """The series of a histogram with the bounds of ``names``: the buckets, then count and sum."""
    attributes = list(attributes)
    buckets = [Series.of(metric, [*attributes, ("le", bound)], part="_bucket") for bound in _BOUNDS]
    return [*buckets, Series.of(metric, attributes, part="_count"), Series.of(metric, attributes, part="_sum")]


def collected(reader: InMemoryMetricReader) -> dict[Series, float]:
    """The values of one collection by the OpenTelemetry SDK."""
    data = reader.get_metrics_data()
    if data is None:
        return {}
    return {
        series: value
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
        for series, value in _point_series(_BY_NAME[metric.name], point)
    }


def _point_series(metric: Metric, point: object) -> Iterator[tuple[Series, float]]:
    if isinstance(point, NumberDataPoint):
        yield Series.of(metric, (point.attributes or {}).items()), float(point.value)
    elif isinstance(point, HistogramDataPoint):
        values = [*accumulate(point.bucket_counts), point.count, point.sum]
        yield from zip(histogram(metric, (point.attributes or {}).items()), map(float, values), strict=True)


def write(out: TextIO, simulations: Iterable[Segments]) -> int:
    """Write simulations that share no series; returns the number of samples."""
    by_family: dict[str, list[tuple[Series, list[Segment]]]] = {}
    for simulation in simulations:
        for series, segments in simulation.items():
            by_family.setdefault(series.family, []).append((series, segments))
    written = 0
    for family, header in _headers().items():
        if members := by_family.get(family):
            out.write(header)
            written += sum(_write_series(out, series, segments) for series, segments in sorted(members, key=_order))
    out.write("# EOF\n")
    return written


def _order(member: tuple[Series, list[Segment]]) -> tuple[str, ...]:
    """Sort the buckets of one histogram side by side, by their bounds."""
    labels = {name: value for name, value in member[0].labels if name != "le"}
    bound = dict(member[0].labels).get("le", "")
    return str(labels), member[0].name, f"{float(bound):020.6f}" if bound else ""


def _headers() -> dict[str, str]:
    headers = {UP.family: "# TYPE up gauge\n"}
    for metric in names.METRICS:
        family = metric_name(metric)
        name = family.removesuffix("_total")
        unit = f"# UNIT {name} seconds\n" if name.endswith("_seconds") else ""
        headers[family] = f"# HELP {name} {metric.description}\n# TYPE {name} {metric.kind}\n{unit}"
    return headers


def _write_series(out: TextIO, series: Series, segments: Iterable[Segment]) -> int:
    labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in series.labels)
    head = f"{series.name}{{{labels}}} "
    written = 0
    for segment in segments:
        lines = [
            f"{head}{value:.16g} {time}\n"
            for time, value in zip(segment.times, segment.values, strict=True)
            if value is not None
        ]
        out.writelines(lines)
        written += len(lines)
    return written


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
