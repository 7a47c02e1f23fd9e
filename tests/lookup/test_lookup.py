"""One key at a time what is fetched for many: batches, single flight, cache, time-out, breaker, shedding."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from datetime import timedelta
from typing import Any

import pytest

from jwt_middleware import names
from jwt_middleware.counters import Counters
from jwt_middleware.errors import ConfigError
from jwt_middleware.lookup.batch import MANY, MAX_KEYS, Found, LookupFailed
from jwt_middleware.lookup.breaker import FAILURES, FIRST_PAUSE
from jwt_middleware.lookup.lanes import Lanes
from jwt_middleware.lookup.lookup import LINKED, Lookup
from jwt_middleware.types import FillOutcome
from tests.support.lookups import Database, Watching, count, lookup_over, turns
from tests.support.world import FakeClock

SOON = timedelta(milliseconds=20)


async def outcome_of(lookup: Lookup[Any, Any], key: Any = "a", **how: Any) -> str:
    """The origin of an answer, or how there was none."""
    try:
        return (await lookup.get(key, **how)).origin
    except LookupFailed as failed:
        return failed.outcome.value


def test_who_asks_at_the_same_time_is_one_query() -> None:
    database = Database(gone={7})

    async def main() -> list[Found[Any]]:
        lookup = lookup_over(database.fetch)
        return await asyncio.gather(*(lookup.get(key) for key in range(256)))

    found = asyncio.run(main())
    assert database.queries == [list(range(256))]
    assert [each.value for each in found] == [None if key == 7 else f"row of {key}" for key in range(256)]
    assert {each.origin for each in found} == {"database"}


def test_a_thousand_cold_requests_for_one_user_are_one_query() -> None:
    database = Database()

    async def main() -> list[Found[Any]]:
        lookup = lookup_over(database.fetch)
        return await asyncio.gather(*(lookup.get("7") for _ in range(1_000)))

    found = asyncio.run(main())
    assert database.queries == [["7"]]
    assert [each.origin for each in found] == ["database"] + ["coalesced"] * 999
    assert {each.value for each in found} == {"row of 7"}


async def test_who_asks_for_what_is_being_asked_for_joins() -> None:
    database = Database()

    database.gate = asyncio.Event()
    lookup = lookup_over(database.fetch)
    first = asyncio.create_task(lookup.get("7"))
    await turns()
    second = asyncio.create_task(lookup.get("7"))
    await turns()
    database.gate.set()
    assert (await first).origin == "database"
    assert (await second).origin == "coalesced"
    assert len(database.queries) == 1


async def test_what_asks_anew_joins_no_query_that_left() -> None:
    database = Database()

    database.gate = asyncio.Event()
    lookup = lookup_over(database.fetch)
    first = asyncio.create_task(lookup.get("7"))
    await turns()
    anew = [asyncio.create_task(lookup.get("7", fresh=True)) for _ in range(3)]
    await turns()
    database.gate.set()
    await asyncio.gather(first, *anew)
    assert database.queries == [["7"], ["7"]]
    assert await outcome_of(lookup, "7") == "cache"
    assert await outcome_of(lookup, "7", fresh=True) == "database"


async def test_an_older_query_that_ends_leaves_the_newer_one_to_its_waiters() -> None:
    gates = [asyncio.Event(), asyncio.Event()]
    sent: list[int] = []

    async def fetch(keys: Any) -> Any:
        sent.append(1)
        number = len(sent)
        await gates[number - 1].wait()
        return dict.fromkeys(keys, number)

    lookup = lookup_over(fetch, cached=False)
    old = asyncio.create_task(lookup.get("7"))
    await turns()
    keys = [asyncio.create_task(lookup.get(key, fresh=True)) for key in ["7", *range(MANY - 1)]]
    await turns()
    assert len(sent) == 2
    gates[0].set()
    assert (await old).value == 1
    joined = asyncio.create_task(lookup.get("7"))
    await turns()
    gates[1].set()
    assert [(await each).value for each in (keys[0], joined)] == [2, 2]
    await asyncio.gather(*keys)
    assert len(sent) == 2


@pytest.mark.parametrize("moment", ["before it is sent", "in flight"])
async def test_cancelling_the_first_of_a_thousand_fails_none_of_the_others(moment: str) -> None:
    database = Database()

    database.gate = asyncio.Event()
    lookup = lookup_over(database.fetch)
    tasks = [asyncio.create_task(lookup.get("7")) for _ in range(1_000)]
    await turns(1 if moment == "before it is sent" else 20)
    assert len(database.queries) == (0 if moment == "before it is sent" else 1)
    tasks[0].cancel()
    await turns()
    database.gate.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert {each.value for each in found[1:] if isinstance(each, Found)} == {"row of 7"}
    assert not [each for each in found[1:] if isinstance(each, BaseException)]
    assert len(database.queries) == 1
    assert lookup.waiting == 0


async def test_what_nobody_waits_for_any_more_is_not_asked() -> None:
    database = Database()

    lookup = lookup_over(database.fetch)
    gone = [asyncio.create_task(lookup.get(key)) for key in ("a", "b")]
    stays = asyncio.create_task(lookup.get("c"))
    await turns(1)
    for task in gone:
        task.cancel()
    await stays
    assert database.queries == [["c"]]
    alone = asyncio.create_task(lookup.get("d"))
    await turns(1)
    alone.cancel()
    await turns()
    assert database.queries == [["c"]]
    assert await outcome_of(lookup, "e") == "database"


async def test_what_comes_while_one_is_in_flight_is_collected() -> None:
    database = Database()

    database.gate = asyncio.Event()
    lookup = lookup_over(database.fetch)
    tasks = [asyncio.create_task(lookup.get("first"))]
    await turns()
    for key in range(MANY - 1):
        tasks.append(asyncio.create_task(lookup.get(key)))
        await turns(2)
    assert len(database.queries) == 1
    database.gate.set()
    await asyncio.gather(*tasks)
    assert [len(keys) for keys in database.queries] == [1, MANY - 1]


async def test_many_that_wait_go_a_second_way() -> None:
    database = Database()

    database.gate = asyncio.Event()
    lookup = lookup_over(database.fetch)
    tasks = [asyncio.create_task(lookup.get("first"))]
    await turns()
    tasks += [asyncio.create_task(lookup.get(key)) for key in range(3 * MANY)]
    await turns()
    assert [len(keys) for keys in database.queries] == [1, MANY]
    database.gate.set()
    await asyncio.gather(*tasks)
    assert database.most_flying == 2


async def test_behind_a_slow_one_the_next_go_a_second_way() -> None:
    database = Database()

    database.gate = asyncio.Event()
    lookup = lookup_over(database.fetch)
    slow = asyncio.create_task(lookup.get("slow"))
    await turns()
    behind = asyncio.create_task(lookup.get("behind"))
    while len(database.queries) < 2:
        await asyncio.sleep(0.005)
    assert database.queries == [["slow"], ["behind"]]
    database.gate.set()
    await asyncio.gather(slow, behind)


async def test_a_batch_has_at_most_a_thousand_keys_and_there_are_at_most_two() -> None:
    database = Database()

    lookup = lookup_over(database.fetch)
    found = await asyncio.gather(*(lookup.get(key) for key in range(5 * MAX_KEYS + 1)))
    assert [each.value for each in found] == [f"row of {key}" for key in range(5 * MAX_KEYS + 1)]
    assert [len(keys) for keys in database.queries] == [MAX_KEYS] * 5 + [1]
    assert database.most_flying <= 2


async def test_all_lookups_of_one_database_share_its_two_places() -> None:
    database = Database()

    lanes = Lanes()
    database.gate = asyncio.Event()
    lookups = [lookup_over(database.fetch, lanes=lanes, cached=False) for _ in range(5)]
    other = Database()
    elsewhere = lookup_over(other.fetch, lanes=lanes, resource="another")
    tasks = [asyncio.create_task(lookup.get("7")) for lookup in lookups]
    await turns()
    assert database.flying == 2
    assert await outcome_of(elsewhere, "7") == "database"
    database.gate.set()
    await asyncio.gather(*tasks)
    assert database.most_flying == 2
    assert len(database.queries) == 5


async def test_answers_are_cached_also_that_there_is_none() -> None:
    database, clock = Database(gone={"gone"}), FakeClock()

    lookup = lookup_over(database.fetch, clock=clock)

    async def ask() -> list[tuple[str, Any]]:
        found = await asyncio.gather(lookup.get("here"), lookup.get("gone"))
        return [(each.origin, each.value) for each in found]

    assert await ask() == [("database", "row of here"), ("database", None)]
    assert await ask() == [("cache", "row of here"), ("cache", None)]
    clock.advance(5)
    assert await ask() == [("cache", "row of here"), ("database", None)]
    clock.advance(60)
    assert await ask() == [("database", "row of here"), ("database", None)]
    assert len(lookup.cache) == 2


async def test_the_cache_is_bounded_and_holds_no_key_that_nobody_asked_for() -> None:
    lookup = lookup_over(Database().fetch, cache_entries=10)
    await asyncio.gather(*(lookup.get(key) for key in range(50)))
    assert len(lookup.cache) == 10
    assert lookup.cache.get("never asked", 0.0) is None


async def test_a_lookup_that_is_not_to_be_cached_asks_each_time() -> None:
    database = Database()

    lookup = lookup_over(database.fetch, cached=False)
    assert [await outcome_of(lookup) for _ in range(3)] == ["database"] * 3
    assert len(lookup.cache) == 0


async def test_a_batch_that_failed_is_told_to_all_and_not_cached() -> None:
    database = Database(error=RuntimeError("the text of somebody else"))

    lookup = lookup_over(database.fetch)
    failed = await asyncio.gather(*(lookup.get(key) for key in range(10)), return_exceptions=True)
    assert [str(each) for each in failed] == ["error"] * 10
    assert not any("somebody" in repr((each, getattr(each, "__context__", None))) for each in failed)
    database.error = None
    assert await outcome_of(lookup, 3) == "database"
    assert len(database.queries) == 2


async def test_a_mistake_of_configuration_is_told_as_such() -> None:
    database = Database(error=ConfigError("one engine for each loop"))

    lookup = lookup_over(database.fetch)
    for each in await asyncio.gather(*(lookup.get(key) for key in range(2)), return_exceptions=True):
        assert isinstance(each, ConfigError)


@pytest.mark.parametrize("rows", [None, [], {"other": 1}])
def test_whatever_a_source_returns_everybody_is_told(rows: Any) -> None:
    async def fetch(keys: Any) -> Any:
        return rows

    async def main() -> str:
        return await outcome_of(lookup_over(fetch))

    assert asyncio.run(main()) == ("error" if rows is None else "database")


async def test_a_query_that_takes_too_long_is_told_to_all_and_ended() -> None:
    database = Database()

    database.gate = asyncio.Event()
    counters = Counters()
    lookup = lookup_over(database.fetch, timeout=SOON, counters=counters)
    assert await asyncio.gather(*(outcome_of(lookup, key) for key in range(3))) == ["timeout"] * 3
    await turns()
    assert database.flying == 0
    assert count(counters, names.LOOKUPS) == {"ok": 0, "error": 0, "timeout": 1}
    database.gate.set()
    assert await outcome_of(lookup, 1) == "database"


async def test_who_gets_no_place_is_told_too() -> None:
    """Two queries that do not end when they are given up keep their places; whoever comes then is not kept waiting."""

    release = asyncio.Event()
    sent: list[Any] = []

    async def stubborn(keys: Any) -> Any:
        sent.append(list(keys))
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return dict.fromkeys(keys, 1)

    lookup = lookup_over(stubborn, timeout=SOON, cached=False)
    first = asyncio.create_task(outcome_of(lookup, "a"))
    await turns()
    second = asyncio.create_task(outcome_of(lookup, "b"))
    assert [await first, await second] == ["timeout", "timeout"]
    assert await asyncio.gather(*(outcome_of(lookup, key) for key in "cdc")) == ["timeout"] * 3
    assert lookup.waiting == 0
    assert "c" not in str(sent)
    release.set()
    await turns()
    assert await outcome_of(lookup, "e") == "database"


async def test_a_query_that_is_cancelled_from_outside_leaves_nobody_waiting() -> None:
    async def fetch(keys: Any) -> Any:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    lookup = lookup_over(fetch)
    assert await outcome_of(lookup) == "error"
    assert await outcome_of(lookup) == "error"


async def test_past_the_most_that_may_wait_requests_are_shed_and_the_others_served() -> None:
    database = Database()

    lookup = lookup_over(database.fetch, max_waiting=10)
    outcomes = await asyncio.gather(*(outcome_of(lookup, key) for key in range(15)))
    assert outcomes == ["database"] * 10 + ["shed"] * 5
    assert await outcome_of(lookup, 14) == "database"
    assert await outcome_of(lookup, 0) == "cache"


async def test_the_breaker_opens_and_one_probe_at_a_time_closes_it() -> None:
    database, clock = Database(error=OSError("down")), FakeClock()

    lookup = lookup_over(database.fetch, clock=clock, cached=False)
    assert [await outcome_of(lookup) for _ in range(FAILURES + 3)] == ["error"] * FAILURES + ["breaker_open"] * 3
    assert lookup.breaker.is_open
    clock.advance(FIRST_PAUSE)
    database.gate = asyncio.Event()
    probe = asyncio.create_task(outcome_of(lookup, "probe"))
    await turns()
    assert await outcome_of(lookup, "other") == "breaker_open"
    assert database.flying == 1
    database.gate.set()
    assert await probe == "error"
    clock.advance(FIRST_PAUSE)
    assert await outcome_of(lookup) == "breaker_open"
    clock.advance(FIRST_PAUSE)
    database.error = None
    assert await outcome_of(lookup) == "database"
    assert await asyncio.gather(*(outcome_of(lookup, key) for key in range(3))) == ["database"] * 3


async def test_who_waits_when_the_breaker_opens_is_told_and_not_sent() -> None:
    database, clock = Database(error=OSError("down")), FakeClock()

    lookup = lookup_over(database.fetch, clock=clock, cached=False)
    for _ in range(FAILURES - 1):
        await outcome_of(lookup)
    database.gate = asyncio.Event()
    last = asyncio.create_task(outcome_of(lookup, "last"))
    await turns()
    behind = [asyncio.create_task(outcome_of(lookup, key)) for key in ("x", "y")]
    await turns()
    database.gate.set()
    assert await last == "error"
    assert await asyncio.gather(*behind) == ["breaker_open"] * 2
    assert len(database.queries) == FAILURES


async def test_many_that_wait_for_a_recovering_database_are_one_probe() -> None:
    database, clock = Database(error=OSError("down")), FakeClock()

    lookup = lookup_over(database.fetch, clock=clock, cached=False)
    for _ in range(FAILURES):
        await outcome_of(lookup)
    clock.advance(FIRST_PAUSE)
    database.error = None
    outcomes = await asyncio.gather(*(outcome_of(lookup, key) for key in range(2 * MAX_KEYS)))
    assert database.most_flying == 1
    assert outcomes.count("database") + outcomes.count("breaker_open") == 2 * MAX_KEYS
    assert outcomes[:MAX_KEYS] == ["database"] * MAX_KEYS


def test_observers_and_counts_see_each_query_once() -> None:
    database, watching, counters, clock = Database(), Watching(), Counters(), FakeClock()

    async def main() -> None:
        lookup = lookup_over(database.fetch, observer=watching, counters=counters, clock=clock)
        found = await asyncio.gather(*(lookup.get(key % 40) for key in range(50)))
        assert {each.handle for each in found} == {"query 1"}
        database.error = OSError("down")
        with pytest.raises(LookupFailed) as failed:
            await lookup.get("x")
        assert failed.value.handle == "query 2"
        assert failed.value.outcome is FillOutcome.ERROR
        assert (await lookup.get(1)).handle is None

    asyncio.run(main())
    assert watching.began == [("claims", LINKED, 50), ("claims", 1, 1)]
    assert [
        (handle, facts.lookup, facts.outcome, facts.keys, facts.waiters, facts.duration)
        for handle, facts in watching.ended
    ] == [("query 1", "claims", "ok", 40, 50, 0.0), ("query 2", "claims", "error", 1, 1, 0.0)]
    assert count(counters, names.LOOKUPS) == {"ok": 1, "error": 1, "timeout": 0}
    assert count(counters, names.LOOKUP_KEYS) == {"": 41}


def test_a_query_belongs_to_no_ones_context() -> None:
    whose: contextvars.ContextVar[str] = contextvars.ContextVar("whose", default="nobody")
    seen: list[str] = []

    async def fetch(keys: Any) -> Any:
        seen.append(whose.get())
        return {}

    async def main() -> None:
        lookup = lookup_over(fetch)
        whose.set("a request")
        await lookup.get("a")

    asyncio.run(main())
    assert seen == ["nobody"]


def test_it_works_in_several_loops_one_after_the_other_and_at_once() -> None:
    database = Database()
    lookup = lookup_over(database.fetch, cached=False)

    async def ask() -> list[str]:
        return list(await asyncio.gather(*(outcome_of(lookup, key) for key in range(20))))

    results: list[list[str]] = [asyncio.run(ask()) for _ in range(2)]
    threads = [threading.Thread(target=lambda: results.append(asyncio.run(ask()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [["database"] * 20] * 6
    assert len(database.queries) == 6
    assert lookup.waiting == 0


def test_a_loop_that_ended_in_the_middle_leaves_nothing_behind() -> None:
    database = Database()
    lookup = lookup_over(database.fetch, cached=False)

    async def leave() -> None:
        database.gate = asyncio.Event()
        asyncio.get_running_loop().create_task(outcome_of(lookup))
        await turns()

    asyncio.run(leave())
    database.gate = None
    assert lookup.waiting == 0
    assert asyncio.run(outcome_of(lookup)) == "database"


def test_reprs_and_errors_hold_no_value() -> None:
    assert "secret" not in repr(Found(value="secret", origin="database"))
    assert str(LookupFailed(FillOutcome.SHED)) == "shed"
