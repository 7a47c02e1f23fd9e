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


class Recording:
    """An observer that records its calls, or fails; its handles carry its name."""

    def __init__(self, name: str, *, fails: bool = False) -> None:
        self.name, self.fails = name, fails
        self.calls: list[Any] = []

    def __getattr__(self, method: str) -> Any:
        def call(*arguments: Any) -> str:
            if self.fails:
                raise RuntimeError(method)
            self.calls.append((method, *arguments))
            return f"{self.name} {method}"

        return call


def dropped(counters: Counters) -> dict[str, int]:
    return {
        dict(at)[names.EVENT]: count for metric, at, count in counters.series() if metric is names.TELEMETRY_DROPPED
    }


def filled(*lookups: object) -> Outcome[Any]:
    fallback = Fallback(claims=(FILLED,), outcome=FillOutcome.RESOLVED, started_at=1, ended_at=2, lookups=lookups)
    return Outcome(result="accepted", fallback=fallback)


def calls_of(name: str, lookup: str = "claims", waiters: int = 1) -> list[Any]:
    """The calls that an observer sees of one query, from its first waiter to the request's outcome."""
    query = f"{name} looking_up"
    return [
        *[("waiting",)] * waiters,
        ("looking_up", lookup, [f"{name} waiting"] * waiters, 40),
        ("looked_up", query, FACTS),
        ("finished", filled(query)),
    ]


class TestObserverFanout:
    def test_each_observer_gets_its_own_handles_back(self) -> None:
        first, second = Recording("first"), Recording("second")
        observers = ObserverFanout([first, second], Counters())
        waiters = [observers.waiting(), observers.waiting()]
        query = observers.looking_up("claims", waiters, 40)
        observers.looked_up(query, FACTS)
        observers.finished(filled(query))
        assert first.calls == calls_of("first", waiters=2)
        assert second.calls == calls_of("second", waiters=2)

    def test_an_observer_that_raises_is_counted_and_the_others_still_see(self) -> None:
        counters, good = Counters(), Recording("good")
        observers = ObserverFanout([Recording("bad", fails=True), good], counters)
        assert dropped(counters) == {"lookup": 0, "request": 0}
        query = observers.looking_up("sessions", [observers.waiting()], 40)
        observers.looked_up(query, FACTS)
        observers.finished(filled(query))
        assert dropped(counters) == {"lookup": 3, "request": 1}
        assert good.calls == calls_of("good", "sessions")

    def test_without_a_query_there_are_no_handles(self) -> None:
        observer = Recording("only")
        observers = ObserverFanout([observer], Counters())
        observers.looked_up(None, FACTS)  # a query that ended before it began
        observers.looking_up("claims", [None, ()], 2)
        for outcome in (filled(), PLAIN):
            observers.finished(outcome)
        assert observer.calls[:2] == [("looked_up", None, FACTS), ("looking_up", "claims", [], 2)]
        assert observer.calls[2:] == [("finished", filled()), ("finished", PLAIN)]

    def test_there_may_be_no_observer(self) -> None:
        observers = ObserverFanout([], Counters())
        query = observers.looking_up("claims", [observers.waiting()], 1)
        observers.looked_up(query, FACTS)
        observers.finished(filled(query))
        assert query == {}

    def test_the_silent_observer_sees_nothing(self) -> None:
        silent = SilentObserver()
        assert silent.waiting() is silent.looking_up("claims", [], 0) is None
        silent.looked_up(None, FACTS)
        silent.finished(filled())
