"""Several observers as one, none of which can break a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from .. import names
from ..counters import Counters
from ..protocols import Observer
from ..types import Fallback, LookupFacts, Outcome


class ObserverFanout:
    """Itself an :class:`Observer`: its handles are tuples of the others' handles.

    One that raises is counted (``telemetry.dropped``, ``reason="failed"``) and the rest still see the event.
    """

    def __init__(self, observers: Sequence[Observer], counters: Counters) -> None:
        self._observers: Final = tuple(observers)
        self._counts: Final = counters.counts
        self._failed: Final = {
            event: counters.counter(names.TELEMETRY_DROPPED, {names.EVENT: event, names.DROP_REASON: "failed"})
            for event in ("lookup", "request")
        }

    def waiting(self) -> object:
        return tuple(self._guard("lookup", observer.waiting) for observer in self._observers)

    def looking_up(self, lookup: str, waiters: Sequence[object], total: int) -> object:
        return tuple(
            self._guard("lookup", observer.looking_up, lookup, _of_each(waiters, place), total)
            for place, observer in enumerate(self._observers)
        )

    def looked_up(self, handle: object, facts: LookupFacts) -> None:
        for observer, own in zip(self._observers, _handles(handle, len(self._observers)), strict=True):
            self._guard("lookup", observer.looked_up, own, facts)

    def finished(self, outcome: Outcome[Any]) -> None:
        for place, observer in enumerate(self._observers):
            self._guard("request", observer.finished, _with_own_handles(outcome, place))

    def _guard(self, event: str, call: Any, *args: Any) -> Any:
        try:
            return call(*args)
        except Exception:  # an observer is somebody else's code; what it lost is counted
            self._counts[self._failed[event]] += 1
            return None


def _handles(handle: object, count: int) -> tuple[object, ...]:
    return handle if isinstance(handle, tuple) and len(handle) == count else (None,) * count


def _with_own_handles(outcome: Outcome[Any], place: int) -> Outcome[Any]:
    fallback = outcome.fallback
    if fallback is None or not fallback.lookups:
        return outcome
    own = Fallback(
        claims=fallback.claims,
        outcome=fallback.outcome,
        started_at=fallback.started_at,
        ended_at=fallback.ended_at,
        lookups=tuple(_of_each(fallback.lookups, place)),
    )
    return replace(outcome, fallback=own)


def _of_each(waiters: Sequence[object], place: int) -> list[object]:
    return [waiter[place] for waiter in waiters if isinstance(waiter, tuple) and len(waiter) > place]
