"""Counters: one per series, zero once declared, and exact in every thread."""

from __future__ import annotations

import threading

from jwt_middleware import names
from jwt_middleware.counters import Counters


class TestCounters:
    def test_a_series_is_declared_once_and_zero(self) -> None:
        counters = Counters()
        first = counters.counter(names.LOOKUPS, {names.LOOKUP: "claims", names.OUTCOME: "ok"})
        again = counters.counter(names.LOOKUPS, {names.OUTCOME: "ok", names.LOOKUP: "claims"})
        other = counters.counter(names.LOOKUPS, {names.OUTCOME: "error", names.LOOKUP: "claims"})
        assert first == again != other
        assert [count for *_, count in counters.series()] == [0, 0]

    def test_values_of_attributes_are_strings_in_a_fixed_order(self) -> None:
        counters = Counters()
        counters.counts[counters.counter(names.TOKENS_ISSUED, {names.TRIGGER: "start", names.PAYLOAD_VERSION: 2})] += 3
        counters.counter(names.REVOCATION_STALE)
        assert list(counters.series()) == [
            (names.TOKENS_ISSUED, ((names.PAYLOAD_VERSION, "2"), (names.TRIGGER, "start")), 3),
            (names.REVOCATION_STALE, (), 0),
        ]

    def test_counts_are_exact_while_threads_increment_and_read(self) -> None:
        counters = Counters()
        index, counts = counters.counter(names.REVOCATION_STALE), counters.counts

        def work() -> None:
            for _ in range(50_000):
                counts[index] += 1
                if counts[index] % 10_000 == 0:
                    list(counters.series())

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert counts[index] == 200_000

    def test_a_gauge_is_read_on_demand_until_it_is_withdrawn(self) -> None:
        counters, readings = Counters(), [1.0]
        counters.gauge(names.LOOKUP_WAITING, lambda: readings[-1], {names.LOOKUP: "claims"})
        readings.append(2.0)
        assert [(metric, at, read()) for metric, at, read in counters.gauges()] == [
            (names.LOOKUP_WAITING, ((names.LOOKUP, "claims"),), 2.0)
        ]
        counters.gauge(names.LOOKUP_WAITING, lambda: 5.0, {names.LOOKUP: "claims"})
        assert [read() for *_, read in counters.gauges()] == [5.0]
        index = counters.counter(names.REVOCATION_STALE)
        counters.counts[index] += 1
        counters.withdraw_gauges()
        assert list(counters.gauges()) == []
        assert counters.counts[index] == 1

    def test_a_forked_child_counts_from_zero_in_the_same_list(self) -> None:
        counters = Counters()
        counts, index = counters.counts, counters.counter(names.REVOCATION_STALE)
        counts[index] += 7
        counters.reset()
        assert counters.counts is counts
        assert list(counters.series()) == [(names.REVOCATION_STALE, (), 0)]
