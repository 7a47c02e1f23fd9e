"""One observer that calls several, and keeps their exceptions away from requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from .. import names
from ..counters import Counters
from ..protocols import Observer, SilentObserver
from ..types import LookupFacts, Outcome

Handles = dict[int, object]
"""By the place of an observer, its own handle."""


class ObserverFanout:
    """An :class:`Observer` whose handles hold one handle of each observer.

    A method is called only on observers that do not inherit it from :class:`SilentObserver`. An observer that raises is
    counted (``telemetry.dropped``, ``reason="failed"``); the others still see the event.
    """

    def __init__(self, observers: Sequence[Observer], counters: Counters) -> None:
        self._counts: Final = counters.counts
        self._lookup_failed, self._request_failed = (
            counters.counter(names.TELEMETRY_DROPPED, {names.EVENT: event, names.DROP_REASON: "failed"})
            for event in ("lookup", "request")
        )
        self._waiting: Final = _listeners(observers, "waiting")
        self._looking_up: Final = _listeners(observers, "looking_up")
        self._looked_up: Final = _listeners(observers, "looked_up")
        self._finished: Final = _listeners(observers, "finished")
        self._have_handles: Final = {place for place, _ in self._looking_up}

    def waiting(self) -> Handles:
        return {place: self._call(self._lookup_failed, method) for place, method in self._waiting}

    def looking_up(self, lookup: str, waiters: Sequence[object], total: int) -> Handles:
        return {
            place: self._call(self._lookup_failed, method, lookup, _own(place, waiters), total)
            for place, method in self._looking_up
        }

    def looked_up(self, handle: object, facts: LookupFacts) -> None:
        handles = handle if isinstance(handle, dict) else {}
        for place, method in self._looked_up:
            self._call(self._lookup_failed, method, handles.get(place), facts)

    def finished(self, outcome: Outcome[Any]) -> None:
        fallback = outcome.fallback
        for place, method in self._finished:
            seen = outcome
            if fallback is not None and fallback.lookups and place in self._have_handles:
                seen = outcome.replace(fallback=fallback.replace(lookups=tuple(_own(place, fallback.lookups))))
            self._call(self._request_failed, method, seen)

    def _call(self, counter: int, method: Callable[..., object], *args: object) -> object:
        try:
            return method(*args)
        except Exception:  # an observer is the app's code, and may raise anything
            self._counts[counter] += 1
            return None


def _listeners(observers: Sequence[Observer], name: str) -> list[tuple[int, Callable[..., object]]]:
    """The places of the observers that listen, and their methods."""
    inherited = getattr(SilentObserver, name)
    return [
        (place, getattr(observer, name))
        for place, observer in enumerate(observers)
        if getattr(type(observer), name, None) is not inherited
    ]


def _own(place: int, handles: Sequence[object]) -> list[object]:
    return [handle[place] for handle in handles if isinstance(handle, dict) and place in handle]
