"""Counts: declared is zero, one cell a series, exact whoever reads."""

from __future__ import annotations

import threading

from jwt_middleware import names
from jwt_middleware.counters import Counters


def test_a_series_is_declared_once_and_zero() -> None:
    counters = Counters()
    first = counters.counter(names.LOOKUPS, {names.LOOKUP: "claims", names.OUTCOME: "ok"})
    again = counters.counter(names.LOOKUPS, {names.OUTCOME: "ok", names.LOOKUP: "claims"})
    other = counters.counter(names.LOOKUPS, {names.OUTCOME: "error", names.LOOKUP: "claims"})
    assert first == again != other
    assert [count for *_, count in counters.series()] == [0, 0]


def test_values_of_attributes_are_strings_in_a_fixed_order() -> None:
    counters = Counters()
    counters.counts[counters.counter(names.TOKENS_ISSUED, {names.TRIGGER: "start", names.PAYLOAD_VERSION: 2})] += 3
    counters.counter(names.REVOCATION_STALE)
    assert list(counters.series()) == [
        (names.TOKENS_ISSUED, ((names.PAYLOAD_VERSION, "2"), (names.TRIGGER, "start")), 3),
        (names.REVOCATION_STALE, (), 0),
    ]


def test_counts_are_exact_whatever_threads_do() -> None:
    counters = Counters()
    cell = counters.counter(names.REVOCATION_STALE)

    def work() -> None:
        cells = counters.counts
        for _ in range(50_000):
            cells[cell] += 1
            list(counters.series()) if cells[cell] % 10_000 == 0 else None

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.counts[cell] == 200_000


def test_a_gauge_is_read_when_somebody_asks_and_until_it_is_withdrawn() -> None:
    counters, readings = Counters(), [1.0]
    counters.gauge(names.LOOKUP_WAITING, lambda: readings[-1], {names.LOOKUP: "claims"})
    readings.append(2.0)
    assert [(metric, at, read()) for metric, at, read in counters.gauges()] == [
        (names.LOOKUP_WAITING, ((names.LOOKUP, "claims"),), 2.0)
    ]
    counters.gauge(names.LOOKUP_WAITING, lambda: 5.0, {names.LOOKUP: "claims"})
    assert [read() for *_, read in counters.gauges()] == [5.0]
    cell = counters.counter(names.REVOCATION_STALE)
    counters.counts[cell] += 1
    counters.withdraw_gauges()
    assert list(counters.gauges()) == []
    assert counters.counts[cell] == 1


def test_a_forked_child_counts_for_itself_in_the_same_cells() -> None:
    counters = Counters()
    cells, cell = counters.counts, counters.counter(names.REVOCATION_STALE)
    cells[cell] += 7
    counters.reset()
    assert counters.counts is cells
    assert list(counters.series()) == [(names.REVOCATION_STALE, (), 0)]
