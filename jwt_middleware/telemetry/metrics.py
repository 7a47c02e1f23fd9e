"""Metrics: counters and gauges that OpenTelemetry reads at each collection, and a histogram of query durations.

Each meter provider gets the instruments once, however many authorities count for it, because the SDK ignores the
callback of a second instrument of the same name. At a collection the counters of all authorities are added up.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider, Observation

from .. import names
from ..counters import Attributes, Counters, Gauge
from ..names import Metric
from ..protocols import SilentObserver
from ..types import LookupFacts


class DurationHistogram(SilentObserver):
    """Records ``lookup.duration`` once for each query."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram: Final = histogram

    def looked_up(self, handle: object, facts: LookupFacts) -> None:
        self._histogram.record(facts.duration, {names.LOOKUP: facts.lookup})


class AuthorityCounters:
    """The counters of one authority, the owner."""

    def __init__(self, counters: Counters, owner: object) -> None:
        self.counters: Final = counters
        self.collected = False
        weakref.finalize(owner, self._owner_collected).atexit = False

    def _owner_collected(self) -> None:
        # The garbage collector may run this while its thread holds any lock, so this takes none.
        self.collected = True
        self.counters.withdraw_gauges()


class Instruments:
    """The instruments of one provider (None: the global one), and the authorities that count for it."""

    def __init__(self, provider: MeterProvider | None, registry: Registry) -> None:
        self._provider: Final = None if provider is None else weakref.ref(provider)
        self.authorities: Final[list[AuthorityCounters]] = []
        self.retired: Final[defaultdict[tuple[Metric, Attributes], int]] = defaultdict(int)
        """The counts of collected authorities: a counter must never fall."""
        meter = metrics.get_meter(names.SCOPE, meter_provider=provider)
        for metric in names.METRICS:
            self._create(meter, metric, registry)
        self.durations: Final[Histogram] = meter.create_histogram(
            names.LOOKUP_DURATION.name,
            unit=names.LOOKUP_DURATION.unit,
            description=names.LOOKUP_DURATION.description,
            explicit_bucket_boundaries_advisory=names.DURATION_BUCKETS,
        )

    def provider(self) -> MeterProvider | None:
        """The provider as of now; None if it was collected."""
        return metrics.get_meter_provider() if self._provider is None else self._provider()

    def belongs_to(self, provider: MeterProvider | None) -> bool:
        """True if it was created for this argument; None and the global provider itself differ."""
        if provider is None or self._provider is None:
            return provider is None and self._provider is None
        return self._provider() is provider

    def retire_collected(self) -> None:
        """Keep the counts of collected authorities, and drop the rest of them."""
        for authority in [authority for authority in self.authorities if authority.collected]:
            self.authorities.remove(authority)
            for metric, attributes, count in authority.counters.series():
                self.retired[metric, attributes] += count

    def _create(self, meter: Meter, metric: Metric, registry: Registry) -> None:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return registry.observations(self, metric)

        if metric.kind == "counter":
            meter.create_observable_counter(metric.name, [observe], metric.unit, metric.description)
        elif metric.kind == "gauge":
            meter.create_observable_gauge(metric.name, [observe], metric.unit, metric.description)


class Registry:
    """The instruments of every provider of this process."""

    def __init__(self) -> None:
        self._instruments: list[Instruments] = []
        self._lock = threading.Lock()

    def instruments_of(self, provider: MeterProvider | None) -> Instruments:
        """The instruments of a provider, created on the first call; those of collected providers are dropped."""
        with self._lock:
            existing = next((item for item in self._instruments if item.belongs_to(provider)), None)
        if existing is not None:
            return existing
        created = Instruments(provider, self)  # outside the lock: the SDK takes its own
        with self._lock:
            self._instruments = [item for item in self._instruments if item.provider() is not None] + [created]
        return created

    def add(self, counters: Counters, owner: object, provider: MeterProvider | None) -> None:
        """Show the counters at the provider's collections; their gauges only as long as ``owner`` lives."""
        instruments = self.instruments_of(provider)
        with self._lock:
            instruments.retire_collected()
            instruments.authorities.append(AuthorityCounters(counters, owner))

    def observations(self, instruments: Instruments, metric: Metric) -> list[Observation]:
        """The values of a metric, over all authorities of the provider.

        One provider may have two sets of instruments, one of them as the global provider: then the first set, whose
        callbacks the SDK calls, reports the values of both.
        """
        with self._lock:
            provider = instruments.provider()
            sets = [item for item in self._instruments if item.provider() is provider]
            if not sets or sets[0] is not instruments:  # collected, not registered yet, or reported by another set
                return []
            counters = [authority.counters for item in sets for authority in item.authorities]
            series = [(*key, count) for item in sets for key, count in item.retired.items()]
        if metric.kind == "gauge":
            merged = _merge_gauges(metric, counters)
        else:
            merged = _sum_counts(metric, [*series, *(entry for each in counters for entry in each.series())])
        return [Observation(value, dict(attributes)) for attributes, value in merged.items()]

    def reset_after_fork(self) -> None:
        """Start at zero in a forked child: the parent reports the parent's counts."""
        self._lock = threading.Lock()  # a thread of the parent may have held it at the moment of the fork
        for instruments in self._instruments:
            instruments.retired.clear()
            for authority in instruments.authorities:
                authority.counters.reset()


registry: Final = Registry()
"""Mutable, and one for the process, because OpenTelemetry's providers are: authorities must share their instruments."""
if hasattr(os, "register_at_fork"):  # pragma: no branch - absent on Windows, which has no fork
    os.register_at_fork(after_in_child=registry.reset_after_fork)


def _sum_counts(metric: Metric, series: Iterable[tuple[Metric, Attributes, int]]) -> dict[Attributes, float]:
    sums: defaultdict[Attributes, float] = defaultdict(int)
    for series_metric, attributes, count in series:
        if series_metric is metric:
            sums[attributes] += count
    return sums


def _merge_gauges(metric: Metric, counters: Iterable[Counters]) -> dict[Attributes, float]:
    """Entries and waiting requests (units in braces) are added; of timestamps and facts the maximum counts."""
    values: defaultdict[Attributes, list[float]] = defaultdict(list)
    for authority_counters in counters:
        for gauge_metric, attributes, gauge in authority_counters.gauges():
            if gauge_metric is metric and (value := _read(gauge)) is not None:
                values[attributes].append(value)
    merge = sum if metric.unit.startswith("{") else max
    return {attributes: merge(readings) for attributes, readings in values.items()}


def _read(gauge: Gauge) -> float | None:
    try:
        value = gauge()
    except Exception:  # a gauge that fails must not take the other series of the metric with it
        return None
    return None if value is None else value + 0  # a bool becomes an int
