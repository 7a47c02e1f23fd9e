"""All counts of one authority: plain integers in one list, raised on the path, read by telemetry at collection.

A step declares its cells when it is constructed, keeps the integers, and raises ``cells[i] += 1`` on the path. That
statement is one the interpreter does not interrupt (CPython looks for a thread switch at calls and backward jumps
only), costs 0.1 µs, and needs no lock. Declared is zero: a first event is visible to ``rate()``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from .names import Metric

Attributes = tuple[tuple[str, str], ...]
"""Attribute names and values, sorted; values are always strings."""
Gauge = Callable[[], float | None]
"""Read at collection; None means there is nothing to show yet."""


class Counters:
    """The counters, and the gauges that are asked only when somebody collects."""

    def __init__(self) -> None:
        self.counts: Final[list[int]] = []
        self._series: Final[dict[tuple[Metric, Attributes], int]] = {}
        self._gauges: Final[dict[tuple[Metric, Attributes], Gauge]] = {}

    def counter(self, metric: Metric, attributes: Mapping[str, object] | None = None) -> int:
        """The index in ``cells`` of one series; the same one for the same attributes. Values become strings."""
        series = (metric, _sorted(attributes))
        index = self._series.get(series)
        if index is None:
            index = self._series[series] = len(self.counts)
            self.counts.append(0)
        return index

    def gauge(self, metric: Metric, read: Gauge, attributes: Mapping[str, object] | None = None) -> None:
        """Register a reading. ``read`` runs on the collector's thread: it must not block and may raise."""
        self._gauges[metric, _sorted(attributes)] = read

    def series(self) -> Iterable[tuple[Metric, Attributes, int]]:
        """Every counter series as it stands; a copy, safe to iterate on another thread."""
        return [(metric, attributes, self.counts[index]) for (metric, attributes), index in list(self._series.items())]

    def gauges(self) -> Iterable[tuple[Metric, Attributes, Gauge]]:
        """Every gauge series; a copy, safe to iterate on another thread."""
        return [(metric, attributes, read) for (metric, attributes), read in list(self._gauges.items())]

    def withdraw_gauges(self) -> None:
        """Forget the gauges: what they describe is closed. Counts stay."""
        self._gauges.clear()

    def reset(self) -> None:
        """All counts back to zero, in place: a forked child counts for itself."""
        self.counts[:] = [0] * len(self.counts)


def _sorted(attributes: Mapping[str, object] | None) -> Attributes:
    return tuple(sorted((name, str(value)) for name, value in (attributes or {}).items()))
