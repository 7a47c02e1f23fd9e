"""The fan-out: each observer gets its own handles back, and none of them can break a request."""

from __future__ import annotations

from typing import Any

from jwt_middleware import FilledClaim, FillOutcome, LookupFacts, Outcome, SilentObserver, names
from jwt_middleware.counters import Counters
from jwt_middleware.telemetry.fanout import ObserverFanout
from jwt_middleware.types import Fallback

FACTS = LookupFacts(lookup="claims", outcome="ok", keys=1, waiters=2, duration=0.1)
FILLED = FilledClaim(claim="email", source="database", outcome=FillOutcome.RESOLVED)
PLAIN: Outcome[Any] = Outcome(result="accepted")


class Named(SilentObserver):
    """Records its calls; its handles carry its name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: list[Any] = []

    def waiting(self) -> object:
        return f"{self.name} request"

    def looking_up(self, lookup: str, waiters: Any, total: int) -> object:
        self.seen.append((lookup, list(waiters), total))
        return f"{self.name} query"

    def looked_up(self, handle: object, facts: LookupFacts) -> None:
        self.seen.append((handle, facts))

    def finished(self, outcome: Outcome[Any]) -> None:
        self.seen.append(outcome)


class Raising:
    """Every method raises."""

    def __getattr__(self, name: str) -> Any:
        def method(*_: object) -> None:
            raise RuntimeError(name)

        return method


def dropped(counters: Counters) -> dict[str, int]:
    return {
        dict(at)[names.EVENT]: count for metric, at, count in counters.series() if metric is names.TELEMETRY_DROPPED
    }


def filled(*lookups: object) -> Outcome[Any]:
    fallback = Fallback(claims=(FILLED,), outcome=FillOutcome.RESOLVED, started_at=1, ended_at=2, lookups=lookups)
    return Outcome(result="accepted", fallback=fallback)


def test_each_observer_gets_its_own_handles_back() -> None:
    first, second = Named("first"), Named("second")
    observers = ObserverFanout([first, second], Counters())
    waiters = [observers.waiting(), observers.waiting()]
    query = observers.looking_up("claims", waiters, 40)
    observers.looked_up(query, FACTS)
    observers.finished(filled(query))
    for observer in (first, second):
        name = observer.name
        assert observer.seen[:2] == [("claims", [f"{name} request"] * 2, 40), (f"{name} query", FACTS)]
        assert observer.seen[2].fallback.lookups == (f"{name} query",)


def test_an_observer_that_raises_is_counted_and_the_others_still_see() -> None:
    counters, good = Counters(), Named("good")
    observers = ObserverFanout([Raising(), good], counters)
    assert dropped(counters) == {"lookup": 0, "request": 0}
    query = observers.looking_up("sessions", [observers.waiting()], 1)
    observers.looked_up(query, FACTS)
    observers.finished(filled(query))
    assert dropped(counters) == {"lookup": 3, "request": 1}
    assert good.seen[:2] == [("sessions", ["good request"], 1), ("good query", FACTS)]
    assert good.seen[2].fallback.lookups == ("good query",)


def test_without_a_query_there_are_no_handles() -> None:
    observer = Named("only")
    observers = ObserverFanout([observer], Counters())
    observers.looked_up(None, FACTS)  # a query that ended before it began
    observers.looking_up("claims", [None, ()], 2)
    for outcome in (filled(), PLAIN):
        observers.finished(outcome)
    assert observer.seen == [(None, FACTS), ("claims", [], 2), filled(), PLAIN]


def test_there_may_be_no_observer() -> None:
    observers = ObserverFanout([], Counters())
    query = observers.looking_up("claims", [observers.waiting()], 1)
    observers.looked_up(query, FACTS)
    observers.finished(filled(query))
    assert query == ()


def test_the_silent_observer_sees_nothing() -> None:
    silent = SilentObserver()
    assert silent.waiting() is silent.looking_up("claims", [], 0) is None
    silent.looked_up(None, FACTS)
    silent.finished(filled())
