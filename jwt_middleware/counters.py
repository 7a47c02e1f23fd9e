"""All counters of one authority: plain integers in one list, incremented by requests, read by telemetry at collection.

A part declares its counters when it is constructed, keeps their indexes, and runs ``counts[i] += 1`` on the path of a
request. The interpreter does not interrupt that statement (CPython looks for a thread switch at calls and backward
jumps only); it costs 0.1 µs and needs no lock. A declared counter starts at zero, so that ``rate()`` sees its first
event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from .names import Metric
from .protocols import Clock, Observer

Attributes = tuple[tuple[str, str], ...]
"""Attribute names and values, sorted; values are always strings."""
Gauge = Callable[[], float | None]
"""Read at collection; None means there is nothing to show yet."""


class Counters:
    """The counters, and the gauges that are read only at a collection."""

    def __init__(self) -> None:
        self.counts: Final[list[int]] = []
        self._series: Final[dict[tuple[Metric, Attributes], int]] = {}
        self._gauges: Final[dict[tuple[Metric, Attributes], Gauge]] = {}

    def counter(self, metric: Metric, attributes: Mapping[str, object] | None = None) -> int:
        """Declare a series and return its index in ``counts``; equal attributes share one. Values become strings."""
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
        """Every counter series with its count; a copy, safe to iterate on another thread."""
        return [(metric, attributes, self.counts[index]) for (metric, attributes), index in list(self._series.items())]

    def gauges(self) -> Iterable[tuple[Metric, Attributes, Gauge]]:
        """Every gauge series; a copy, safe to iterate on another thread."""
        return [(metric, attributes, read) for (metric, attributes), read in list(self._gauges.items())]

    def withdraw_gauges(self) -> None:
        """Remove the gauges, because what they describe is closed. Counts stay."""
        self._gauges.clear()

    def reset(self) -> None:
        """All counts back to zero, in place: a forked child counts for itself."""
        self.counts[:] = [0] * len(self.counts)


def _sorted(attributes: Mapping[str, object] | None) -> Attributes:
    return tuple(sorted((name, str(value)) for name, value in (attributes or {}).items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What every part of one authority shares: what it tells time by, counts with and reports to."""

    clock: Clock
    counters: Counters
    observer: Observer
