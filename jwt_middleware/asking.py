"""The lookups of one authority, made from its settings, and what a scrape sees of them."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Final, Literal

from . import names
from .fallback import ClaimsLookup, Fetch, Values
from .lookup import Lanes, Lookup
from .ports import ClaimsSource, Observer, SessionStore
from .revocation import RevocationView
from .settings import Settings
from .tallies import Tallies
from .types import SessionKey, SessionStatus


class LookupMaker:
    """The lookups of one authority: all share its lanes, and one breaker and cache stands before each.

    Gauges hold them weakly: what reads counts must not keep an authority's engines alive.
    """

    def __init__(self, settings: Settings, tallies: Tallies, observer: Observer) -> None:
        self._settings: Final = settings
        self._tallies: Final = tallies
        self._observer: Final = observer
        self.lanes: Final = Lanes()
        self._made: Final[dict[str, weakref.WeakSet[Lookup[Any, Any]]]] = {}

    def claims(self, source: ClaimsSource, fetch: Fetch) -> ClaimsLookup:
        lookup: Lookup[str, Values] = self._make(fetch, name="claims", resource=source.resource, cached=True)
        return lookup

    def sessions(self, store: SessionStore) -> RevocationView:
        settings = self._settings
        lookup: Lookup[SessionKey, SessionStatus] = self._make(
            store.statuses, name="sessions", resource=store.resource, cached=False
        )
        view = RevocationView(settings.revocation, lookup, clock=settings.clock, tallies=self._tallies)
        known = weakref.ref(view)
        self._tallies.gauge(
            names.CACHE_ENTRIES, lambda: None if (table := known()) is None else len(table), {names.CACHE: "sessions"}
        )
        return view

    def _make(
        self, fetch: Callable[..., Any], *, name: Literal["claims", "sessions"], resource: object, cached: bool
    ) -> Lookup[Any, Any]:
        lookup: Lookup[Any, Any] = Lookup(
            fetch,
            name=name,
            resource=resource,
            limits=self._settings.lookups,
            lanes=self.lanes,
            clock=self._settings.clock,
            tallies=self._tallies,
            observer=self._observer,
            cached=cached,
            cache_entries=self._settings.cache_entries,
        )
        if name not in self._made:
            self._declare(name)
        self._made[name].add(lookup)
        return lookup

    def _declare(self, name: str) -> None:
        made = self._made[name] = weakref.WeakSet()
        at = {names.LOOKUP: name}
        self._tallies.gauge(names.LOOKUP_WAITING, lambda: sum(lookup.waiting for lookup in list(made)), at)
        self._tallies.gauge(
            names.LOOKUP_BREAKER_OPEN, lambda: max((lookup.breaker.is_open for lookup in list(made)), default=False), at
        )
        if name == "claims":
            self._tallies.gauge(
                names.CACHE_ENTRIES, lambda: sum(len(lookup.cache) for lookup in list(made)), {names.CACHE: name}
            )
