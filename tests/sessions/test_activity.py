"""Activity: written in batches beside the requests, at most once a minute a session, and never at a request's cost."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Mapping
from datetime import datetime, timedelta
from textwrap import dedent
from typing import Any

import pytest
from starlette.types import Message

from jwt_middleware import MemorySessionStore, Revocation, Unavailable
from jwt_middleware.counters import Counters
from jwt_middleware.protocols import SystemClock
from jwt_middleware.sessions import activity as module
from jwt_middleware.sessions.activity import Activity
from jwt_middleware.types import moment
from tests.support.asgi import counted
from tests.support.lookups import runtime
from tests.support.processes import python
from tests.support.stores import opened
from tests.support.world import ROWLESS, FakeClock, World, bearer

BATCH = 1_000
"""Rows of one write."""


class Written(MemorySessionStore):
    """Keeps the batches that it gets; it can fail, and hold a write until a test lets it go."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.batches: list[dict[str, datetime]] = []
        self.failures: list[BaseException] = []
        self.came = threading.Event()
        self.holds: asyncio.Event | None = None

    async def touch(self, moments: Mapping[str, datetime]) -> None:
        self.batches.append(dict(moments))
        self.came.set()
        if self.holds is not None:
            await self.holds.wait()
        if self.failures:
            raise self.failures.pop(0)
        await super().touch(moments)

    async def comes(self) -> None:
        """Wait until a write has begun."""
        while not self.came.is_set():
            await asyncio.sleep(0.001)
        self.came.clear()

    @property
    def sessions(self) -> list[set[str]]:
        """The sessions of each batch."""
        return [set(batch) for batch in self.batches]


class Noted:
    """An ``Activity`` over such a store, whose first write is due."""

    def __init__(self, *, limit: int = 100_000, every: float = 3_600.0) -> None:
        self.store, self.counters, self.clock = Written(), Counters(), FakeClock()
        parts = runtime(clock=self.clock, counters=self.counters)
        self.activity = Activity(self.store, runtime=parts, limit=limit, every=every)
        self.clock.ticks += every

    def lost(self, reason: str) -> int:
        return counted(self.counters, "dropped", zeros=True)[("activity", reason)]


class TestRequests:
    async def test_a_session_in_use_is_listed_with_its_latest_activity_once_written(self, database_url: str) -> None:
        async with opened(database_url) as store:
            world = World(store=store, clock=SystemClock())
            token = await world.token()
            before = await world.row()
            assert await world.reason(token) is None
            assert await world.row() == before  # not on the request's path
            await world.authority.aclose()
            after = await world.row()
            assert before.last_activity_at < after.last_activity_at <= moment(world.clock.now())

    async def test_many_requests_of_a_session_are_one_row_of_one_write(self) -> None:
        world = World(store=Written)
        issued = [await world.log_in(str(user), email="x") for user in range(3)]
        for _ in range(50):
            world.clock.advance(1)
            for token, _session_id in issued:
                assert await world.reason(token) is None
        assert world.store.batches == []
        latest = moment(world.clock.now())
        await world.authority.aclose()
        assert world.store.sessions == [{session_id for _token, session_id in issued}]
        assert all(latest - timedelta(seconds=2.5) <= at <= latest for at in world.store.batches[0].values())

    @pytest.mark.parametrize("staleness", [timedelta(seconds=5), timedelta(hours=1)])
    async def test_cache_hits_note_nothing_and_a_session_is_noted_once_a_minute(self, staleness: timedelta) -> None:
        """However long a status is valid: an entry of the token cache holds a minute at most."""
        world = World(store=Written, revocation=Revocation(max_staleness=staleness))
        activity = world.authority.parts.activity
        token, session_id = await world.log_in(email="x")
        assert await world.reason(token) is None
        await activity.aclose()
        world.store.batches.clear()
        for _ in range(100):
            assert await world.reason(token) is None
        assert len(activity) == 0
        world.clock.advance(60)
        assert await world.reason(token) is None
        assert len(activity) == 1
        await world.authority.aclose()
        assert world.store.batches == [{session_id: moment(world.clock.now())}]

    async def test_requests_without_a_session_note_nothing(self) -> None:
        world = World(store=Written)
        token, session_id = await world.log_in()
        await world.authority.revoke(session_id)
        for headers in (bearer(token), bearer(token[:-2] + "AA"), []):
            assert (await world.authority.authenticate(headers)).result == "refused"
        await world.authority.aclose()
        assert world.store.batches == []

    async def test_without_a_store_there_is_nothing_to_note(self) -> None:
        world = World(store=None)
        assert await world.reason(await world.token()) is None
        assert world.authority.parts.activity is None
        await world.authority.aclose()

    async def test_a_token_without_sid_is_noted_under_the_id_that_its_row_gets(self) -> None:
        world = World(store=Written, also_accept=[ROWLESS])
        token = await world.old(sid=None)
        own = set(world.store._rows)
        assert await world.reason(token) is None
        await world.authority.aclose()
        assert await world.authority.end_token(bearer(token))
        assert world.store.sessions == [set(world.store._rows) - own]

    async def test_a_store_that_fails_costs_no_request_and_is_counted(self) -> None:
        world = World(store=Written)
        world.store.failures = [Unavailable("no")]
        token = await world.token()
        assert counted(world.authority.parts.counters, "dropped", zeros=True)[("activity", "failed")] == 0
        assert await world.reason(token) is None
        await world.authority.parts.activity.aclose()
        assert await world.reason(token) is None
        assert world.counts("dropped") == {("activity", "failed"): 1}
        await world.authority.aclose()
        assert len(world.store.batches) == 1


class TestWrites:
    async def test_a_timer_writes_the_notes_and_the_next_note_sets_the_next_timer(self) -> None:
        noted = Noted(every=0.01)
        for session_id in ("a", "b"):
            noted.activity.note(session_id)
            noted.activity.note(session_id)
            await noted.store.comes()
            noted.clock.ticks += 0.01
        assert noted.store.sessions == [{"a"}, {"b"}]
        assert len(noted.activity) == 0
        await asyncio.sleep(0.03)
        assert len(noted.store.batches) == 2

    async def test_a_timer_that_is_early_waits_for_its_turn(self) -> None:
        """As where two event loops have timers: together they write a session once a minute."""
        noted = Noted(every=0.01)
        noted.clock.ticks -= 0.01
        noted.activity.note("a")
        await asyncio.sleep(0.05)
        assert noted.store.batches == []
        noted.clock.ticks += 0.01
        await noted.store.comes()
        assert len(noted.store.batches) == 1

    async def test_a_timer_that_finds_nothing_does_nothing(self) -> None:
        noted = Noted(every=0.01)
        noted.activity.note("a")
        await noted.activity.aclose()
        await asyncio.sleep(0.03)
        assert len(noted.store.batches) == 1

    async def test_a_batch_has_a_thousand_rows_at_most(self) -> None:
        noted = Noted()
        for number in range(2 * BATCH + 1):
            noted.activity.note(str(number))
        await noted.activity.aclose()
        assert [len(batch) for batch in noted.store.batches] == [BATCH, BATCH, 1]
        assert len({session_id for batch in noted.store.batches for session_id in batch}) == 2 * BATCH + 1

    async def test_after_a_failure_the_rest_waits_for_the_next_time(self) -> None:
        noted = Noted(every=0.01)
        noted.store.failures = [RuntimeError("a driver's own")]
        for number in range(BATCH + 7):
            noted.activity.note(str(number))
        await noted.store.comes()
        assert len(noted.activity) == 7
        noted.clock.ticks += 0.01
        await noted.store.comes()
        assert [len(batch) for batch in noted.store.batches] == [BATCH, 7]
        assert noted.lost("failed") == BATCH

    async def test_what_cannot_be_written_at_the_end_is_counted_whole(self) -> None:
        noted = Noted()
        noted.store.failures = [Unavailable("no")]
        for number in range(BATCH + 7):
            noted.activity.note(str(number))
        await noted.activity.aclose()
        assert len(noted.store.batches) == 1
        assert noted.lost("failed") == BATCH + 7
        assert len(noted.activity) == 0

    async def test_a_store_that_hangs_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "TIMEOUT", 0.01)
        noted = Noted()
        noted.store.holds = asyncio.Event()
        noted.activity.note("a")
        await noted.activity.aclose()
        assert noted.lost("failed") == 1

    async def test_memory_is_bounded_and_what_is_beyond_it_is_counted(self) -> None:
        noted = Noted(limit=2)
        for session_id in ("a", "b", "c", "a", "d"):
            noted.clock.wall += 1
            noted.activity.note(session_id)
        assert noted.lost("rate_limited") == 2
        latest = moment(noted.clock.wall - 1)
        await noted.activity.aclose()
        assert noted.store.sessions == [{"a", "b"}]
        assert noted.store.batches[0]["a"] == latest

    async def test_closing_waits_for_the_write_in_flight_and_writes_the_rest(self) -> None:
        noted = Noted(every=0.01)
        noted.store.holds = asyncio.Event()
        noted.activity.note("a")
        await noted.store.comes()
        noted.activity.note("b")
        closing = asyncio.create_task(noted.activity.aclose())
        await asyncio.sleep(0)
        assert not closing.done()
        noted.store.holds.set()
        await closing
        assert noted.store.sessions == [{"a"}, {"b"}]
        assert noted.lost("failed") == 0


class TestLoops:
    def test_a_loop_that_ends_in_the_middle_of_a_write_loses_it_and_says_so(self) -> None:
        noted = Noted(every=0.01)

        async def begin_to_write() -> None:
            noted.store.holds = asyncio.Event()
            noted.activity.note("a")
            await noted.store.comes()

        asyncio.run(begin_to_write())
        assert noted.lost("failed") == 1

    def test_what_a_loop_that_ended_had_noted_is_written_by_the_next(self) -> None:
        noted = Noted()

        async def use(session_id: str) -> None:
            noted.activity.note(session_id)

        asyncio.run(use("a"))
        asyncio.run(use("b"))
        asyncio.run(noted.activity.aclose())
        assert noted.store.sessions == [{"a", "b"}]

    def test_loops_of_several_threads_note_and_write_together(self) -> None:
        world = World(store=Written, sources=[])
        tokens: list[str] = []

        async def log_in() -> None:
            tokens.extend([await world.token(str(user)) for user in range(50)])
            world.clock.advance(1)

        async def use() -> None:
            for token in tokens:
                assert await world.reason(token) is None
                await world.authority.parts.activity.aclose()

        asyncio.run(log_in())
        threads = [threading.Thread(target=lambda: asyncio.run(use())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        asyncio.run(world.authority.aclose())
        assert set().union(*world.store.sessions) == set(world.store._rows)
        assert all(row.last_activity_at > row.created_at for row in world.store._rows.values())

    async def test_nothing_keeps_a_loop_or_an_authority_alive(self) -> None:
        noted, tasks = Noted(), asyncio.all_tasks()
        noted.activity.note("a")
        assert asyncio.all_tasks() == tasks
        activity = weakref.ref(noted.activity)
        del noted
        gc.collect()
        assert activity() is None

    async def test_a_timer_outlives_its_authority_without_harm(self) -> None:
        noted = Noted(every=0.01)
        store = noted.store
        noted.activity.note("a")
        del noted
        gc.collect()
        await asyncio.sleep(0.03)
        assert store.batches == []

    def test_a_forked_child_writes_nothing_of_its_parents(self) -> None:
        script = """
            import asyncio, os
            from tests.sessions.test_activity import Noted

            noted = Noted()

            async def use(*sessions):
                for session in sessions:
                    noted.activity.note(session)

            asyncio.run(use("parent"))
            child = os.fork()
            if child == 0:
                asyncio.run(noted.activity.aclose())
                assert noted.store.batches == [], noted.store.batches
                asyncio.run(use("child"))
                asyncio.run(noted.activity.aclose())
                assert noted.store.sessions == [{"child"}]
                os._exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            asyncio.run(noted.activity.aclose())
            assert noted.store.sessions == [{"parent"}]
        """
        python("-c", dedent(script))


class TestEnds:
    async def test_lifespan_writes_the_notes_before_the_app_shuts_down(self) -> None:
        world = World(store=Written)
        written_at_shutdown: list[int] = []

        async def inner(_scope: Any, receive: Any, send: Any) -> None:
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            written_at_shutdown.append(len(world.store.batches))
            await send({"type": "lifespan.shutdown.complete"})

        async def receive() -> Message:
            if messages[0] == "lifespan.shutdown":
                assert await world.reason(await world.token()) is None
            return {"type": messages.pop(0)}

        messages = ["lifespan.startup", "lifespan.shutdown"]
        world.guard(inner)
        await world.send({"type": "lifespan"}, receive)
        assert written_at_shutdown == [1]

    async def test_a_session_that_is_revoked_while_its_activity_waits_stays_revoked(self) -> None:
        """200 sessions that are used and revoked, here or elsewhere, before their activity is written, or meanwhile."""
        world = World(store=Written)
        for number in range(200):
            token, session_id = await world.log_in(email="x")
            assert await world.reason(token) is None
            revoking = (world.authority if number % 2 else world.store).revoke(session_id)
            await asyncio.gather(*([world.authority.parts.activity.aclose(), revoking][:: 1 if number % 3 else -1]))
        assert not any(row.is_active for row in world.store._rows.values())
        assert await world.authority.sessions_of("1") == []
        await world.authority.aclose()
