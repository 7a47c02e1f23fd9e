"""How a series is spelled by Prometheus, and what a real meter provider says, spelled the same way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Final, NamedTuple

from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint

from jwt_middleware import names
from jwt_middleware.names import Metric

from ..scrape import prometheus_name

_BY_NAME: Final[Mapping[str, Metric]] = {metric.name: metric for metric in names.METRICS}
_BOUNDS: Final = (*(str(bound) for bound in names.DURATION_BUCKETS), "+Inf")


class Series(NamedTuple):
    """One series, as Prometheus will know it."""

    family: str
    """Of a histogram without what its three kinds of series end in."""
    name: str
    labels: tuple[tuple[str, str], ...]
    """An empty value is no label to Prometheus."""

    @classmethod
    def of(cls, metric: Metric, attributes: Iterable[tuple[str, object]], *, part: str = "") -> Series:
        family = prometheus_name(metric)
        given = sorted((name.replace(".", "_"), str(value)) for name, value in attributes)
        return cls(family, family + part, tuple((name, value) for name, value in given if value))

    def labelled(self, labels: Iterable[tuple[str, str]]) -> Series:
        """With the labels that a scrape adds."""
        return self._replace(labels=(*labels, *self.labels))


def histogram(metric: Metric, attributes: Iterable[tuple[str, object]]) -> list[Series]:
    """The series of a histogram with the buckets of ``names``: those, then count and sum."""
    given = list(attributes)
    buckets = [Series.of(metric, [*given, ("le", bound)], part="_bucket") for bound in _BOUNDS]
    return [*buckets, Series.of(metric, given, part="_count"), Series.of(metric, given, part="_sum")]


def collected(reader: InMemoryMetricReader) -> dict[Series, float]:
    """One collection by the SDK."""
    data = reader.get_metrics_data()
    if data is None:
        return {}
    return {
        key: value
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
        for key, value in _spelled(_BY_NAME[metric.name], point)
    }


def _spelled(metric: Metric, point: object) -> Iterator[tuple[Series, float]]:
    if isinstance(point, NumberDataPoint):
        yield Series.of(metric, (point.attributes or {}).items()), float(point.value)
    elif isinstance(point, HistogramDataPoint):
        values = [*accumulate(point.bucket_counts), point.count, point.sum]
        yield from zip(histogram(metric, (point.attributes or {}).items()), map(float, values), strict=True)
