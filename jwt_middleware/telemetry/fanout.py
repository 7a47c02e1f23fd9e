"""One observer that calls several, and keeps their exceptions away from requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from .. import names
from ..counters import Counters
from ..protocols import Observer
from ..types import Fallback, LookupFacts, Outcome


class ObserverFanout:
    """An :class:`Observer` whose handles are tuples: one handle of each observer.

    An observer that raises is counted (``telemetry.dropped``, ``reason="failed"``); the others still see the event.
    """

    def __init__(self, observers: Sequence[Observer], counters: Counters) -> None:
        self._observers: Final = tuple(observers)
        self._counts: Final = counters.counts
        self._failed: Final = {
            event: counters.counter(names.TELEMETRY_DROPPED, {names.EVENT: event, names.DROP_REASON: "failed"})
            for event in ("lookup", "request")
        }

    def waiting(self) -> object:
        return tuple(self._call("lookup", observer.waiting) for observer in self._observers)

    def looking_up(self, lookup: str, waiters: Sequence[object], total: int) -> object:
        return tuple(
            self._call("lookup", observer.looking_up, lookup, _handles_at(index, waiters), total)
            for index, observer in enumerate(self._observers)
        )

    def looked_up(self, handle: object, facts: LookupFacts) -> None:
        count = len(self._observers)
        handles = handle if isinstance(handle, tuple) and len(handle) == count else (None,) * count
        for observer, own in zip(self._observers, handles, strict=True):
            self._call("lookup", observer.looked_up, own, facts)

    def finished(self, outcome: Outcome[Any]) -> None:
        for index, observer in enumerate(self._observers):
            self._call("request", observer.finished, _with_own_handles(outcome, index))

    def _call(self, event: str, method: Any, *args: Any) -> Any:
        try:
            return method(*args)
        except Exception:  # an observer is the app's code, and may raise anything
            self._counts[self._failed[event]] += 1
            return None


def _with_own_handles(outcome: Outcome[Any], index: int) -> Outcome[Any]:
    """The outcome as one observer may see it: with its own handles of the queries."""
    fallback = outcome.fallback
    if fallback is None or not fallback.lookups:
        return outcome
    own = Fallback(  # a msgspec Struct, which dataclasses.replace() does not accept
        claims=fallback.claims,
        outcome=fallback.outcome,
        started_at=fallback.started_at,
        ended_at=fallback.ended_at,
        lookups=tuple(_handles_at(index, fallback.lookups)),
    )
    return outcome.replace(fallback=own)


def _handles_at(index: int, handles: Sequence[object]) -> list[object]:
    return [handle[index] for handle in handles if isinstance(handle, tuple) and len(handle) > index]
