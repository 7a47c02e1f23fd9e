"""What a Prometheus gets from ``/metrics``: one scrape, by the names of ``jwt_middleware.names``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from jwt_middleware.names import SCOPE, Metric

_UNITS: Final = {"s": "_seconds"}


def prometheus_name(metric: Metric) -> str:
    """How the exporter spells a counter or gauge (``UnderscoreEscapingWithSuffixes``)."""
    total = "_total" if metric.kind == "counter" else ""
    return f"{metric.name.replace('.', '_')}{_UNITS.get(metric.unit, '')}{total}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrape:
    """The samples of one moment."""

    at: float
    """Seconds since the epoch."""
    samples: Mapping[str, list[tuple[Mapping[str, str], float]]] = field(repr=False)

    @classmethod
    def parse(cls, text: str, *, at: float) -> Scrape:
        """Of the exposition format; only what this package wrote is looked at."""
        ours = "\n".join(line for line in text.splitlines() if line.startswith(f"{SCOPE}_"))
        samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
        for family in text_string_to_metric_families(ours + "\n"):
            for sample in family.samples:
                samples.setdefault(sample.name, []).append((sample.labels, float(sample.value)))
        return cls(at=at, samples=samples)

    def total(self, metric: Metric, labels: Mapping[str, Any] | None = None) -> float:
        """The sum of the series that carry these attributes, whatever else they carry."""
        return sum(self._values(metric, labels or {}))

    def newest(self, metric: Metric, labels: Mapping[str, Any] | None = None) -> float | None:
        """The greatest of them; None where there is none."""
        return max(self._values(metric, labels or {}), default=None)

    def _values(self, metric: Metric, labels: Mapping[str, Any]) -> list[float]:
        wanted = {name.replace(".", "_"): str(value) for name, value in labels.items()}
        return [
            value
            for found, value in self.samples.get(prometheus_name(metric), [])
            if all(found.get(name) == each for name, each in wanted.items())
        ]
