"""One key at a time of what is fetched for many: batches, single flight, cache, time-out, breaker, shedding."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from datetime import timedelta
from typing import Any

import pytest

from jwt_middleware import LookupFacts, LookupLimits, SilentObserver
from jwt_middleware.counters import Counters
from jwt_middleware.errors import ConfigError
from jwt_middleware.lookup import batch as batch_module
from jwt_middleware.lookup.batch import MANY, MAX_KEYS, MAX_LINKS, Batch, Batcher, Found, LookupFailed
from jwt_middleware.lookup.breaker import FAILURES, FIRST_PAUSE
from jwt_middleware.lookup.lanes import Lane, Lanes
from jwt_middleware.types import FillOutcome
from tests.support.asgi import counted
from tests.support.lookups import Database, lookup_over, opened, outcome_of, started, turns
from tests.support.world import FakeClock

SOON = timedelta(milliseconds=20)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine too, no query counts as slow, and keys wait for a slot."""
    monkeypatch.setattr(batch_module, "SLOW", 3_600.0)
    monkeypatch.setattr(batch_module, "PATIENCE", 1e6)


class TestBatches:
    async def test_simultaneous_requests_are_one_query(self) -> None:
        database = Database(gone={7})
        lookup = lookup_over(database)
        found = await asyncio.gather(*(lookup.get(key) for key in range(256)))
        assert database.queries == [list(range(256))]
        assert [each.value for each in found] == [None if key == 7 else f"row of {key}" for key in range(256)]
        assert {each.origin for each in found} == {"database"}

    async def test_a_thousand_cold_requests_for_one_key_are_one_query(self) -> None:
        lookup = lookup_over(database := Database())
        found = await asyncio.gather(*(lookup.get("7") for _ in range(1_000)))
        assert database.queries == [["7"]]
        assert [each.origin for each in found] == ["database"] + ["coalesced"] * 999
        assert {each.value for each in found} == {"row of 7"}

    @pytest.mark.parametrize("turn", range(5))
    async def test_a_first_key_waits_three_turns_for_others(self, turn: int) -> None:
        lookup = lookup_over(database := Database())
        first = await started(lookup.get("first"), turn=turn)
        other = await started(lookup.get("other"))
        await asyncio.gather(*first, *other)
        assert database.sizes == ([2] if turn < batch_module.TURNS else [1, 1])

    async def test_a_request_joins_the_query_in_flight_for_its_key(self) -> None:
        lookup = lookup_over(database := Database(gate=asyncio.Event()))
        (first,) = await started(lookup.get("7"))
        (second,) = await started(lookup.get("7"))
        database.gate.set()
        assert [(await first).origin, (await second).origin] == ["database", "coalesced"]
        assert database.queries == [["7"]]

    async def test_a_fresh_request_joins_no_query_in_flight(self) -> None:
        lookup = lookup_over(database := Database(gate=asyncio.Event()))
        first = await started(lookup.get("7"))
        fresh = await started(*(lookup.get("7", fresh=True) for _ in range(3)))
        database.gate.set()
        await asyncio.gather(*first, *fresh)
        assert database.queries == [["7"], ["7"]]
        assert await outcome_of(lookup, "7") == "cache"
        assert await outcome_of(lookup, "7", fresh=True) == "database"

    async def test_an_older_query_that_ends_leaves_the_newer_one_to_its_waiters(self) -> None:
        gates = [asyncio.Event(), asyncio.Event()]
        sent: list[int] = []

        async def fetch(keys: Any) -> Any:
            sent.append(1)
            number = len(sent)
            await gates[number - 1].wait()
            return dict.fromkeys(keys, number)

        lookup = lookup_over(fetch, cached=False)
        (old,) = await started(lookup.get("7"))
        fresh = await started(*(lookup.get(key, fresh=True) for key in ["7", *range(MANY - 1)]))
        assert len(sent) == 2
        gates[0].set()
        assert (await old).value == 1
        (joined,) = await started(lookup.get("7"))
        gates[1].set()
        assert [(await each).value for each in (fresh[0], joined)] == [2, 2]
        await asyncio.gather(*fresh)
        assert len(sent) == 2

    async def test_keys_that_come_while_a_query_is_in_flight_leave_together(self, unhurried: None) -> None:
        lookup = lookup_over(database := Database(gate=asyncio.Event()))
        tasks = await started(lookup.get("first"))
        for key in range(MANY - 1):
            tasks += await started(lookup.get(key), turn=2)
        assert database.sizes == [1]
        database.gate.set()
        await asyncio.gather(*tasks)
        assert database.sizes == [1, MANY - 1]

    async def test_many_waiting_keys_take_the_second_slot(self, unhurried: None) -> None:
        lookup = lookup_over(database := Database(gate=asyncio.Event()))
        tasks = await started(lookup.get("first"))
        tasks += await started(*(lookup.get(key) for key in range(3 * MANY)))
        assert database.sizes == [1, 3 * MANY]
        database.gate.set()
        await asyncio.gather(*tasks)
        assert database.most_in_flight == 2

    @pytest.mark.parametrize("waits", ["since before it was slow", "since then"])
    async def test_a_key_behind_a_slow_query_takes_the_second_slot(
        self, waits: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if waits == "since then":
            monkeypatch.setattr(batch_module, "SLOW", 0.0)
        lookup = lookup_over(database := Database(gate=asyncio.Event()))
        slow = await started(lookup.get("slow"))
        behind = await started(lookup.get("behind"))
        while len(database.queries) < 2:
            await asyncio.sleep(0.005)
        assert database.queries == [["slow"], ["behind"]]
        database.gate.set()
        await asyncio.gather(*slow, *behind)
        monkeypatch.setattr(batch_module, "SLOW", 3_600.0)
        database.gate = asyncio.Event()
        tasks = await started(lookup.get("quick")) + await started(lookup.get("behind the quick one"))
        assert database.queries[2:] == [["quick"]]
        database.gate.set()
        await asyncio.gather(*tasks)

    async def test_a_batch_has_at_most_a_thousand_keys_and_two_are_in_flight(self) -> None:
        lookup = lookup_over(database := Database())
        found = await asyncio.gather(*(lookup.get(key) for key in range(5 * MAX_KEYS + 1)))
        assert [each.value for each in found] == [f"row of {key}" for key in range(5 * MAX_KEYS + 1)]
        assert database.sizes == [MAX_KEYS] * 5 + [1]
        assert database.most_in_flight <= 2

    async def test_all_lookups_of_one_database_share_its_two_slots(self) -> None:
        database, lanes = Database(gate=asyncio.Event()), Lanes()
        lookups = [lookup_over(database, lanes=lanes, cached=False) for _ in range(5)]
        elsewhere = lookup_over(Database(), lanes=lanes, resource="another")
        tasks = await started(*(lookup.get("7") for lookup in lookups))
        assert database.in_flight == 2
        assert await outcome_of(elsewhere, "7") == "database"
        database.gate.set()
        await asyncio.gather(*tasks)
        assert database.most_in_flight == 2
        assert len(database.queries) == 5


class TestKeys:
    """The states of a key, move by move."""

    timeout = 0.01

    def batcher(self) -> Batcher[Any, Any]:
        return Batcher(Lane(), lookup_over(Database(), timeout=timedelta(seconds=self.timeout))._queries)

    def flushed(self, batcher: Batcher[Any, Any]) -> Batch[Any, Any]:
        task = asyncio.current_task()
        assert task is not None
        batch = batcher._flush(task)
        assert batch is not None
        return batch

    async def test_each_key_has_the_whole_patience_although_one_timer_serves_all(self) -> None:
        batcher, loop = self.batcher(), asyncio.get_running_loop()
        batcher._lane.busy = 2  # no slot comes
        batcher.join("first", None, fresh=False)
        self.flushed(batcher)
        patience = batch_module.PATIENCE * self.timeout
        await asyncio.sleep(patience / 2)
        began = loop.time()
        with pytest.raises(LookupFailed, match="timeout"):
            await batcher.join("second", None, fresh=False)
        assert loop.time() - began >= patience

    async def test_a_batch_is_settled_once(self) -> None:
        batcher = self.batcher()
        future = batcher.join("a", None, fresh=False)
        batch = self.flushed(batcher)
        assert batcher._settle(batch)
        assert not batcher._settle(batch)
        batch.resolve({"a": "row"})
        batch.fail(FillOutcome.ERROR)  # its waiters have a result
        assert (await future).value == "row"

    async def test_a_failure_that_no_request_awaits_any_more_is_not_logged(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        batcher = self.batcher()
        batcher.join("a", None, fresh=False)
        self.flushed(batcher).fail(FillOutcome.ERROR)
        del batcher
        gc.collect()
        assert caplog.records == []


class TestCancelledRequests:
    @pytest.mark.parametrize(("turn", "queries"), [(1, 0), (20, 1)])
    async def test_cancelling_the_first_of_a_thousand_fails_no_other(self, turn: int, queries: int) -> None:
        lookup = lookup_over(database := Database(gate=asyncio.Event()))
        tasks = await started(*(lookup.get("7") for _ in range(1_000)), turn=turn)
        assert len(database.queries) == queries
        tasks[0].cancel()
        await turns()
        database.gate.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError)
        assert {each.value for each in found[1:] if isinstance(each, Found)} == {"row of 7"}
        assert not [each for each in found[1:] if isinstance(each, BaseException)]
        assert len(database.queries) == 1
        assert lookup.waiting == 0

    async def test_a_key_without_waiters_is_not_fetched(self) -> None:
        lookup = lookup_over(database := Database())
        *gone, stays = await started(*(lookup.get(key) for key in ("a", "b", "c")), turn=1)
        for task in gone:
            task.cancel()
        await stays
        assert database.queries == [["c"]]
        (alone,) = await started(lookup.get("d"), turn=1)
        alone.cancel()
        await turns()
        assert database.queries == [["c"]]
        assert await outcome_of(lookup, "e") == "database"


class TestCache:
    async def test_rows_and_their_absence_are_cached(self) -> None:
        clock = FakeClock()
        lookup = lookup_over(Database(gone={"gone"}), parts={"clock": clock})

        async def both() -> list[tuple[str, Any]]:
            found = await asyncio.gather(lookup.get("here"), lookup.get("gone"))
            return [(each.origin, each.value) for each in found]

        assert await both() == [("database", "row of here"), ("database", None)]
        assert await both() == [("cache", "row of here"), ("cache", None)]
        clock.advance(5)
        assert await both() == [("cache", "row of here"), ("database", None)]
        clock.advance(60)
        assert await both() == [("database", "row of here"), ("database", None)]
        assert len(lookup.cache) == 2

    async def test_the_cache_is_bounded_and_holds_no_key_that_was_not_requested(self) -> None:
        lookup = lookup_over(Database(), cache_entries=10)
        await asyncio.gather(*(lookup.get(key) for key in range(50)))
        assert len(lookup.cache) == 10
        assert lookup.cache.get("not requested", 0.0) is None

    async def test_a_lookup_without_cache_queries_each_time(self) -> None:
        lookup = lookup_over(Database(), cached=False)
        assert [await outcome_of(lookup) for _ in range(3)] == ["database"] * 3
        assert len(lookup.cache) == 0


class TestFailures:
    async def test_a_batch_that_fails_fails_all_its_waiters_and_is_not_cached(self) -> None:
        database = Database(error=RuntimeError("the text of a vendor"))
        lookup = lookup_over(database)
        failed = await asyncio.gather(*(lookup.get(key) for key in range(10)), return_exceptions=True)
        assert [str(each) for each in failed] == ["error"] * 10
        assert not any("vendor" in repr((each, getattr(each, "__context__", None))) for each in failed)
        database.error = None
        assert await outcome_of(lookup, 3) == "database"
        assert len(database.queries) == 2

    async def test_a_mistake_of_configuration_is_raised_as_such(self) -> None:
        lookup = lookup_over(Database(error=ConfigError("one engine for each loop")))
        for each in await asyncio.gather(*(lookup.get(key) for key in range(2)), return_exceptions=True):
            assert isinstance(each, ConfigError)

    async def test_whatever_a_source_returns_every_waiter_gets_a_result(self) -> None:
        rows: Any

        async def fetch(keys: Any) -> Any:
            return rows

        for rows, outcome in ((None, "error"), ([], "database"), ({"other": 1}, "database")):
            assert await outcome_of(lookup_over(fetch)) == outcome, rows

    async def test_a_query_that_takes_too_long_is_cancelled_and_fails_all(self, unhurried: None) -> None:
        database, counters = Database(gate=asyncio.Event()), Counters()
        lookup = lookup_over(database, timeout=SOON, parts={"counters": counters})
        assert await asyncio.gather(*(outcome_of(lookup, key) for key in range(3))) == ["timeout"] * 3
        await turns()
        assert database.in_flight == 0
        assert counted(counters, "lookups", zeros=True) == {
            ("claims", "ok"): 0,
            ("claims", "error"): 0,
            ("claims", "timeout"): 1,
        }
        database.gate.set()
        assert await outcome_of(lookup, 1) == "database"

    async def test_a_query_that_does_not_end_leaves_the_second_slot_to_others(self, unhurried: None) -> None:
        database = Database(gate=asyncio.Event(), stubborn=True)
        lookup = lookup_over(database, timeout=SOON, cached=False)
        assert await outcome_of(lookup, "hangs") == "timeout"
        database.gate, hanging = opened(), database.gate
        assert [await outcome_of(lookup, key) for key in "abc"] == ["database"] * 3
        hanging.set()

    async def test_keys_that_get_no_slot_time_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two queries that do not end when they are given up keep their slots."""
        monkeypatch.setattr(batch_module, "PATIENCE", 10.0)  # long enough for "b" on a busy machine
        database = Database(gate=asyncio.Event(), stubborn=True)
        lookup = lookup_over(database, timeout=SOON, cached=False)
        first = await started(outcome_of(lookup, "a"))
        assert await asyncio.gather(*first, outcome_of(lookup, "b")) == ["timeout"] * 2
        assert await asyncio.gather(*(outcome_of(lookup, key) for key in "cdc")) == ["timeout"] * 3
        assert await outcome_of(lookup, "d") == "timeout"
        assert lookup.waiting == 0
        assert database.queries == [["a"], ["b"]]
        database.gate.set()
        await turns()
        while (outcome := await outcome_of(lookup, "e")) == "timeout":
            pass  # a busy machine
        assert outcome == "database"

    async def test_a_query_that_is_cancelled_from_outside_fails_its_waiters(self) -> None:
        async def fetch(keys: Any) -> Any:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

        lookup = lookup_over(fetch)
        assert [await outcome_of(lookup) for _ in range(2)] == ["error"] * 2

    async def test_a_slot_that_is_cancelled_from_outside_is_requested_again(self) -> None:
        lookup, others = lookup_over(Database()), asyncio.all_tasks()
        (get,) = await started(lookup.get("a"), turn=1)
        (request,) = asyncio.all_tasks() - others - {get}
        request.cancel()
        assert (await get).value == "row of a"

    async def test_requests_past_the_limit_are_shed_and_the_others_served(self) -> None:
        lookup = lookup_over(Database(), max_waiting=10)
        outcomes = await asyncio.gather(*(outcome_of(lookup, key) for key in range(15)))
        assert outcomes == ["database"] * 10 + ["shed"] * 5
        assert await outcome_of(lookup, 14) == "database"
        assert await outcome_of(lookup, 0) == "cache"


class TestBreaker:
    async def test_the_breaker_opens_and_one_probe_at_a_time_closes_it(self) -> None:
        database, clock = Database(error=OSError("down")), FakeClock()
        lookup = lookup_over(database, parts={"clock": clock}, cached=False)
        assert [await outcome_of(lookup) for _ in range(FAILURES + 3)] == ["error"] * FAILURES + ["breaker_open"] * 3
        assert lookup.breaker.is_open
        clock.advance(FIRST_PAUSE)
        database.gate = asyncio.Event()
        (probe,) = await started(outcome_of(lookup, "probe"))
        assert await outcome_of(lookup, "other") == "breaker_open"
        assert database.in_flight == 1
        database.gate.set()
        assert await probe == "error"
        clock.advance(FIRST_PAUSE)
        assert await outcome_of(lookup) == "breaker_open"
        clock.advance(FIRST_PAUSE)
        database.error = None
        assert await outcome_of(lookup) == "database"
        assert await asyncio.gather(*(outcome_of(lookup, key) for key in range(3))) == ["database"] * 3

    async def test_keys_that_wait_when_the_breaker_opens_fail_and_are_not_sent(self) -> None:
        database = Database(error=OSError("down"))
        lookup = lookup_over(database, parts={"clock": FakeClock()}, cached=False)
        for _ in range(FAILURES - 1):
            await outcome_of(lookup)
        database.gate = asyncio.Event()
        (last,) = await started(outcome_of(lookup, "last"))
        behind = await started(*(outcome_of(lookup, key) for key in ("x", "y")))
        database.gate.set()
        assert await last == "error"
        assert await asyncio.gather(*behind) == ["breaker_open"] * 2
        assert len(database.queries) == FAILURES

    async def test_many_keys_that_wait_for_a_recovering_database_are_one_probe(self) -> None:
        database, clock = Database(error=OSError("down")), FakeClock()
        lookup = lookup_over(database, parts={"clock": clock}, cached=False)
        for _ in range(FAILURES):
            await outcome_of(lookup)
        clock.advance(FIRST_PAUSE)
        database.error = None
        outcomes = await asyncio.gather(*(outcome_of(lookup, key) for key in range(2 * MAX_KEYS)))
        assert database.most_in_flight == 1
        assert outcomes.count("database") + outcomes.count("breaker_open") == 2 * MAX_KEYS
        assert outcomes[:MAX_KEYS] == ["database"] * MAX_KEYS


class TestSignals:
    async def test_observers_and_counters_see_each_query_once(self) -> None:
        began, ended = list[tuple[str, int, int]](), list[tuple[object, LookupFacts]]()

        class QueryRecorder(SilentObserver):
            def waiting(self) -> object:
                return "request"

            def looking_up(self, lookup: str, waiters: Any, total: int) -> object:
                began.append((lookup, len(waiters), total))
                return f"query {len(began)}"

            def looked_up(self, handle: object, facts: LookupFacts) -> None:
                ended.append((handle, facts))

        database, counters = Database(), Counters()
        lookup = lookup_over(database, parts={"observer": QueryRecorder(), "counters": counters, "clock": FakeClock()})
        found = await asyncio.gather(*(lookup.get(key % 40) for key in range(50)))
        assert {each.handle for each in found} == {"query 1"}
        database.error = OSError("down")
        with pytest.raises(LookupFailed) as failed:
            await lookup.get("x")
        assert (failed.value.handle, failed.value.outcome) == ("query 2", FillOutcome.ERROR)
        assert (await lookup.get(1)).handle is None
        assert began == [("claims", MAX_LINKS, 50), ("claims", 1, 1)]
        assert [
            (handle, facts.lookup, facts.outcome, facts.keys, facts.waiters, facts.duration, facts.error_type)
            for handle, facts in ended
        ] == [("query 1", "claims", "ok", 40, 50, 0.0, None), ("query 2", "claims", "error", 1, 1, 0.0, "OSError")]
        assert counted(counters, "lookups") == {("claims", "ok"): 1, ("claims", "error"): 1}
        assert counted(counters, "lookup.keys") == {("claims",): 41}

    async def test_a_query_runs_in_the_context_of_no_request(self) -> None:
        request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")
        seen: list[str] = []

        async def fetch(keys: Any) -> Any:
            seen.append(request.get())
            return {}

        request.set("a request")
        await lookup_over(fetch).get("a")
        assert seen == ["none"]

    def test_reprs_and_errors_hold_no_value(self) -> None:
        assert "secret" not in repr(Found(value="secret", origin="database"))
        assert str(LookupFailed(FillOutcome.SHED)) == "shed"


class TestEventLoops:
    def test_it_works_in_several_loops_in_turn_and_at_once(self) -> None:
        lookup = lookup_over(database := Database(), cached=False)

        async def get() -> list[str]:
            return list(await asyncio.gather(*(outcome_of(lookup, key) for key in range(20))))

        results: list[list[str]] = [asyncio.run(get()) for _ in range(2)]
        threads = [threading.Thread(target=lambda: results.append(asyncio.run(get()))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [["database"] * 20] * 6
        assert len(database.queries) == 6
        assert lookup.waiting == 0

    def test_a_loop_that_ends_during_a_query_leaves_nothing_behind(self) -> None:
        lookup = lookup_over(database := Database(gate=asyncio.Event()), cached=False)

        async def leave() -> None:
            await started(*(outcome_of(lookup, key) for key in "a"))
            await started(*(outcome_of(lookup, key) for key in "bc"))

        asyncio.run(leave())
        database.gate = opened()
        assert lookup.waiting == 0
        assert asyncio.run(outcome_of(lookup)) == "database"


class TestLimits:
    def test_the_limits_have_documented_defaults(self) -> None:
        limits = LookupLimits()
        assert (limits.timeout, limits.ttl) == (timedelta(milliseconds=250), timedelta(seconds=60))
        assert (limits.negative_ttl, limits.max_waiting) == (timedelta(seconds=5), 10_000)

    def test_a_limit_that_cannot_be_kept_is_refused(self) -> None:
        wrong: list[tuple[dict[str, Any], str]] = [
            ({"timeout": timedelta(0)}, "timeout must be positive, got 0:00:00"),
            ({"ttl": timedelta(seconds=-1)}, "LookupLimits: ttl must not be negative"),
            ({"negative_ttl": timedelta(seconds=-1)}, "negative_ttl must not be negative"),
            ({"max_waiting": 0}, "max_waiting must be at least 1, got 0"),
        ]
        for limits, message in wrong:
            with pytest.raises(ConfigError, match=message):
                LookupLimits(**limits)
