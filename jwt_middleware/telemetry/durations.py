"""The one histogram: how long each query took. It is recorded once a query, so its price does not matter."""

from __future__ import annotations

from typing import Final

from opentelemetry.metrics import Histogram

from .. import names
from ..ports import SilentObserver
from ..types import LookupFacts


class Durations(SilentObserver):
    """Records ``lookup.duration``."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram: Final = histogram

    def looked_up(self, handle: object, facts: LookupFacts) -> None:
        self._histogram.record(facts.duration, {names.LOOKUP: facts.lookup})
