"""The one histogram, kept beside the SDK's: it is the only count that stands in no tally."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import Final

from jwt_middleware import SilentObserver, names
from jwt_middleware.types import LookupFacts

from .readings import Series, histogram

_LOOKUPS: Final = ("sessions", "claims")
_PARTS: Final = len(names.DURATION_BUCKETS) + 3


class Durations(SilentObserver):
    """Counts how long queries took."""

    def __init__(self) -> None:
        self._buckets: Final = {lookup: [0] * (len(names.DURATION_BUCKETS) + 1) for lookup in _LOOKUPS}
        self._sums: Final = dict.fromkeys(_LOOKUPS, 0.0)

    def looked_up(self, handle: object, facts: LookupFacts) -> None:
        self._buckets[facts.lookup][bisect_left(names.DURATION_BUCKETS, facts.duration)] += 1
        self._sums[facts.lookup] += facts.duration

    def keys(self) -> list[Series]:
        return [key for lookup in _LOOKUPS for key in histogram(names.LOOKUP_DURATION, [(names.LOOKUP, lookup)])]

    def values(self) -> list[float | None]:
        """One for each of ``keys``; None before the first query, as a histogram of OpenTelemetry begins."""
        values: list[float | None] = []
        for lookup in _LOOKUPS:
            counts = list(accumulate(self._buckets[lookup]))
            values += [*counts, counts[-1], self._sums[lookup]] if counts[-1] else [None] * _PARTS
        return values
