"""Counts: declared is zero, one cell a series, exact whoever reads."""

from __future__ import annotations

import threading

from jwt_middleware import names
from jwt_middleware.tallies import Tallies


def test_a_series_is_declared_once_and_zero() -> None:
    tallies = Tallies()
    first = tallies.cell(names.LOOKUPS, {names.LOOKUP: "claims", names.OUTCOME: "ok"})
    again = tallies.cell(names.LOOKUPS, {names.OUTCOME: "ok", names.LOOKUP: "claims"})
    other = tallies.cell(names.LOOKUPS, {names.OUTCOME: "error", names.LOOKUP: "claims"})
    assert first == again != other
    assert [count for *_, count in tallies.counts()] == [0, 0]


def test_values_of_attributes_are_strings_in_a_fixed_order() -> None:
    tallies = Tallies()
    tallies.cells[tallies.cell(names.TOKENS_ISSUED, {names.TRIGGER: "start", names.PAYLOAD_VERSION: 2})] += 3
    tallies.cell(names.REVOCATION_STALE)
    assert list(tallies.counts()) == [
        (names.TOKENS_ISSUED, ((names.PAYLOAD_VERSION, "2"), (names.TRIGGER, "start")), 3),
        (names.REVOCATION_STALE, (), 0),
    ]


def test_counts_are_exact_whatever_threads_do() -> None:
    tallies = Tallies()
    cell = tallies.cell(names.REVOCATION_STALE)

    def work() -> None:
        cells = tallies.cells
        for _ in range(50_000):
            cells[cell] += 1
            list(tallies.counts()) if cells[cell] % 10_000 == 0 else None

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tallies.cells[cell] == 200_000


def test_a_gauge_is_read_when_somebody_asks_and_until_it_is_withdrawn() -> None:
    tallies, readings = Tallies(), [1.0]
    tallies.gauge(names.LOOKUP_WAITING, lambda: readings[-1], {names.LOOKUP: "claims"})
    readings.append(2.0)
    assert [(metric, at, read()) for metric, at, read in tallies.gauges()] == [
        (names.LOOKUP_WAITING, ((names.LOOKUP, "claims"),), 2.0)
    ]
    tallies.gauge(names.LOOKUP_WAITING, lambda: 5.0, {names.LOOKUP: "claims"})
    assert [read() for *_, read in tallies.gauges()] == [5.0]
    cell = tallies.cell(names.REVOCATION_STALE)
    tallies.cells[cell] += 1
    tallies.withdraw_gauges()
    assert list(tallies.gauges()) == []
    assert tallies.cells[cell] == 1


def test_a_forked_child_counts_for_itself_in_the_same_cells() -> None:
    tallies = Tallies()
    cells, cell = tallies.cells, tallies.cell(names.REVOCATION_STALE)
    cells[cell] += 7
    tallies.reset()
    assert tallies.cells is cells
    assert list(tallies.counts()) == [(names.REVOCATION_STALE, (), 0)]
