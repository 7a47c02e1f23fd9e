"""The one histogram: how long each query took. It is recorded once a query, so its price does not matter."""

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

Sums = defaultdict[tuple[Metric, Attributes], int]


class _Member:
    """The counters of one authority. When it is collected a flag is set and nothing else: no lock is taken there."""

    def __init__(self, counters: Counters, owner: object) -> None:
        self.counters: Final = counters
        self.gone = False
        weakref.finalize(owner, self._leave).atexit = False

    def _leave(self) -> None:
        self.gone = True
        self.counters.withdraw_gauges()


class Binding:
    """One provider, its instruments, and the authorities that count for it. None stands for the global provider."""

    def __init__(self, provider: MeterProvider | None) -> None:
        self._provider: Final = None if provider is None else weakref.ref(provider)
        self.members: Final[list[_Member]] = []
        self.left: Final[Sums] = defaultdict(int)
        """Counts of authorities that are gone."""
        meter = metrics.get_meter(names.SCOPE, meter_provider=provider)
        for metric in names.METRICS:
            self._create(meter, metric)
        self.durations: Final[Histogram] = meter.create_histogram(
            names.LOOKUP_DURATION.name,
            unit=names.LOOKUP_DURATION.unit,
            description=names.LOOKUP_DURATION.description,
            explicit_bucket_boundaries_advisory=names.DURATION_BUCKETS,
        )

    def provider(self) -> MeterProvider | None:
        """The provider as of now; None where it is gone."""
        return metrics.get_meter_provider() if self._provider is None else self._provider()

    def is_for(self, provider: MeterProvider | None) -> bool:
        """Whether it was made for that very provider, or for the global one."""
        if provider is None or self._provider is None:
            return provider is None and self._provider is None
        return self._provider() is provider

    def fold(self) -> None:
        """Keep the counts of those who are gone, and forget them."""
        for member in [member for member in self.members if member.gone]:
            self.members.remove(member)
            for metric, attributes, count in member.counters.series():
                self.left[metric, attributes] += count

    def _create(self, meter: Meter, metric: Metric) -> None:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return _observations(self, metric)

        if metric.kind == "counter":
            meter.create_observable_counter(metric.name, [observe], metric.unit, metric.description)
        elif metric.kind == "gauge":
            meter.create_observable_gauge(metric.name, [observe], metric.unit, metric.description)


_bindings: list[Binding] = []
_lock = threading.Lock()


def bind(provider: MeterProvider | None) -> Binding:
    """The binding of a provider, made where there is none yet."""
    with _lock:
        found = next((binding for binding in _bindings if binding.is_for(provider)), None)
    if found is None:
        found = Binding(provider)  # outside of the lock: it takes the SDK's own
        with _lock:
            _bindings[:] = [binding for binding in _bindings if binding.provider() is not None] + [found]
    return found


def add(counters: Counters, owner: object, provider: MeterProvider | None) -> None:
    """Show the counters at the provider's collections, the gauges for as long as ``owner`` lives."""
    binding = bind(provider)
    with _lock:
        binding.fold()
        binding.members.append(_Member(counters, owner))


def _observations(binding: Binding, metric: Metric) -> list[Observation]:
    """What all authorities of the binding's provider have to say of a metric.

    The same provider may be bound twice, once as the global one: then the first binding speaks for both.
    """
    with _lock:
        provider = binding.provider()
        peers = [each for each in _bindings if each.provider() is provider]
        if not peers or peers[0] is not binding:
            return []
        counters = [member.counters for each in peers for member in each.members]
        left = [each.left.copy() for each in peers]
    merged = _gauges(metric, counters) if metric.kind == "gauge" else _counts(metric, counters, left)
    return [Observation(value, dict(attributes)) for attributes, value in merged.items()]


def _counts(metric: Metric, counters: list[Counters], left: list[Sums]) -> dict[Attributes, float]:
    sums: defaultdict[Attributes, float] = defaultdict(int)
    for each in left:
        for (of, attributes), count in each.items():
            if of is metric:
                sums[attributes] += count
    for each_counters in counters:
        for of, attributes, count in each_counters.series():
            if of is metric:
                sums[attributes] += count
    return sums


def _gauges(metric: Metric, counters: list[Counters]) -> dict[Attributes, float]:
    """Entries and waiting requests add; timestamps, lifetimes, breakers and facts take the maximum."""
    adds = metric.unit.startswith("{")
    merged: dict[Attributes, float] = {}
    for each in counters:
        for of, attributes, read in each.gauges():
            if of is not metric or (value := _read(read)) is None:
                continue
            known = merged.get(attributes)
            merged[attributes] = value if known is None else known + value if adds else max(known, value)
    return merged


def _read(gauge: Gauge) -> float | None:
    try:
        value = gauge()
    except Exception:  # a reading that fails costs its own series, and no other
        return None
    return None if value is None else value + 0


def _start_anew() -> None:
    """In a forked child: the parent reports the parent's counts."""
    global _lock  # noqa: PLW0603 - the parent's collector may have held it at the moment of the fork
    _lock = threading.Lock()
    for binding in _bindings:
        binding.left.clear()
        for member in binding.members:
            member.counters.reset()


if hasattr(os, "register_at_fork"):  # pragma: no branch - absent on Windows, which has no fork
    os.register_at_fork(after_in_child=_start_anew)


class DurationHistogram(SilentObserver):
    """Records ``lookup.duration``."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram: Final = histogram

    def looked_up(self, handle: object, facts: LookupFacts) -> None:
        self._histogram.record(facts.duration, {names.LOOKUP: facts.lookup})
