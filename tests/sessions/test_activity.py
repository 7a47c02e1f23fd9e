"""Activity: written many at once, beside the requests, at most once a minute a session, and never at their cost."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.types import Message

from jwt_middleware import Adoption, JWTSessionMiddleware, MemorySessionStore, Revocation, SQLAlchemySessionStore
from jwt_middleware.counters import Counters
from jwt_middleware.errors import ConfigError, Unavailable
from jwt_middleware.sessions import activity as module
from jwt_middleware.sessions.activity import MOST_ROWS, Activity
from jwt_middleware.testing import old_token
from jwt_middleware.types import moment
from tests.support.signals import Signals
from tests.support.world import FakeClock, Session, authority_of


class Written(MemorySessionStore):
    """Keeps what it is told, and does what a test wants meanwhile."""

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
        """Until something was written, or is being written."""
        while not self.came.is_set():
            await asyncio.sleep(0.001)
        self.came.clear()


@dataclass
class Noted:
    """An Activity, its store and its counts."""

    limit: int = 100_000
    every: float = 3_600.0
    store: Written = field(default_factory=Written)
    counters: Counters = field(default_factory=Counters)
    clock: FakeClock = field(default_factory=FakeClock)
    activity: Activity = field(init=False)

    def __post_init__(self) -> None:
        self.clock.ticks -= self.every
        self.activity = Activity(
            self.store, clock=self.clock, counters=self.counters, limit=self.limit, every=self.every
        )
        self.clock.ticks += self.every

    def lost(self, reason: str) -> int:
        return sum(
            count
            for metric, attributes, count in self.counters.series()
            if metric.name.endswith("dropped") and dict(attributes)["jwt_middleware.reason"] == reason
        )


def bearer(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Bearer " + token.encode())]


async def accepted(authority: Any, token: str) -> None:
    assert (await authority.authenticate(bearer(token))).result == "accepted"


async def test_a_session_in_use_is_listed_with_its_latest_activity_once_that_is_written(database_url: str) -> None:
    engine = create_async_engine(database_url)
    store = SQLAlchemySessionStore(engine)
    await store.create_all()
    authority = authority_of(store=store)
    issued = await authority.issue(Session(user_id="7"))
    (before,) = await authority.sessions_of("7")
    await accepted(authority, issued.token)
    assert await authority.sessions_of("7") == [before]  # not on the request's path
    await authority.aclose()
    (after,) = await authority.sessions_of("7")
    assert before.last_activity_at < after.last_activity_at <= moment(authority.clock.now())
    await engine.dispose()


async def test_many_requests_of_a_session_are_one_row_of_one_write_with_the_latest_moment() -> None:
    clock = FakeClock()
    store = Written(clock=clock)
    authority = authority_of(store=store, clock=clock)
    issued = [await authority.issue(Session(user_id=str(user))) for user in range(3)]
    for _ in range(50):
        clock.advance(1)
        for each in issued:
            await accepted(authority, each.token)
    assert store.batches == []
    latest = moment(clock.now())
    await authority.aclose()
    (batch,) = store.batches
    assert set(batch) == {each.session_id for each in issued}
    assert all(latest - timedelta(seconds=2.5) <= at <= latest for at in batch.values())


@pytest.mark.parametrize("staleness", [timedelta(seconds=5), timedelta(hours=1)])
async def test_plain_hits_note_nothing_and_a_session_is_noted_at_least_once_a_minute(staleness: timedelta) -> None:
    """However long the store's answer is believed: an entry of `seen` holds a minute at most."""

    clock = FakeClock()
    store = Written(clock=clock)
    authority = authority_of(store=store, clock=clock, revocation=Revocation(max_staleness=staleness))
    issued = await authority.issue(Session(user_id="7"))
    await accepted(authority, issued.token)
    await authority.parts.activity.aclose()
    store.batches.clear()
    for _ in range(100):
        await accepted(authority, issued.token)
    assert len(authority.parts.activity) == 0
    clock.advance(60)
    await accepted(authority, issued.token)
    assert len(authority.parts.activity) == 1
    await authority.aclose()
    assert store.batches == [{issued.session_id: moment(clock.now())}]


async def test_requests_without_a_session_note_nothing() -> None:
    store = Written()
    authority = authority_of(store=store)
    issued = await authority.issue(Session(user_id="7"))
    await authority.revoke(issued.session_id)
    for token in (issued.token, issued.token[:-2] + "AA"):
        assert (await authority.authenticate(bearer(token))).result == "refused"
    assert (await authority.authenticate([])).result == "refused"
    assert len(authority.parts.activity) == 0
    await authority.aclose()
    assert store.batches == []


def test_without_a_store_there_is_nothing_to_note() -> None:
    authority = authority_of()
    assert authority.parts.activity is None
    asyncio.run(authority.aclose())


async def test_a_token_of_before_is_noted_under_the_id_its_row_has() -> None:
    store = Written()
    authority = authority_of(store=store, adoption=Adoption(sessions="marks"))
    token = old_token(authority, {"userId": "7"}, sid=None, auth_time=None)
    await accepted(authority, token)
    await authority.aclose()
    (batch,) = store.batches
    assert await authority.end_token(bearer(token))
    assert set(batch) == set(store._rows)


async def test_a_store_that_fails_costs_no_request_and_is_counted() -> None:
    signals = Signals()
    store = Written()
    store.failures = [Unavailable("no")]
    authority = authority_of(store=store, telemetry=signals.telemetry())
    issued = await authority.issue(Session(user_id="7"))
    assert signals.value("telemetry.dropped", event="activity", reason="failed") == 0
    await accepted(authority, issued.token)
    await authority.parts.activity.aclose()
    await accepted(authority, issued.token)
    assert signals.value("telemetry.dropped", event="activity", reason="failed") == 1
    await authority.aclose()
    assert len(store.batches) == 1


async def test_what_was_noted_is_written_by_a_timer_and_the_next_note_sets_the_next_one() -> None:
    noted = Noted(every=0.01)
    for session_id in ("a", "b"):
        noted.activity.note(session_id)
        noted.activity.note(session_id)
        await noted.store.comes()
        noted.clock.ticks += 0.01
    assert [set(batch) for batch in noted.store.batches] == [{"a"}, {"b"}]
    assert len(noted.activity) == 0
    await asyncio.sleep(0.03)
    assert len(noted.store.batches) == 2


async def test_a_timer_that_is_early_waits_for_its_turn() -> None:
    """As where two event loops have timers: together they write a session once a minute."""

    noted = Noted(every=0.01)
    noted.activity._due = noted.clock.ticks + 0.01
    noted.activity.note("a")
    await asyncio.sleep(0.05)
    assert noted.store.batches == []
    noted.clock.ticks += 0.01
    await noted.store.comes()
    assert len(noted.store.batches) == 1


async def test_a_timer_that_finds_nothing_does_nothing() -> None:
    noted = Noted(every=0.01)
    noted.activity.note("a")
    await noted.activity.aclose()
    await asyncio.sleep(0.03)
    assert len(noted.store.batches) == 1


async def test_a_batch_has_a_thousand_rows_at_most() -> None:
    noted = Noted()
    for number in range(2 * MOST_ROWS + 1):
        noted.activity.note(str(number))
    await noted.activity.aclose()
    assert [len(batch) for batch in noted.store.batches] == [MOST_ROWS, MOST_ROWS, 1]
    assert len({session_id for batch in noted.store.batches for session_id in batch}) == 2 * MOST_ROWS + 1


async def test_after_a_failure_the_rest_waits_for_the_next_time() -> None:
    noted = Noted(every=0.01)
    noted.store.failures = [RuntimeError("a driver's own")]
    for number in range(MOST_ROWS + 7):
        noted.activity.note(str(number))
    await noted.store.comes()
    assert len(noted.activity) == 7
    noted.clock.ticks += 0.01
    await noted.store.comes()
    assert [len(batch) for batch in noted.store.batches] == [MOST_ROWS, 7]
    assert noted.lost("failed") == MOST_ROWS


async def test_what_cannot_be_written_at_the_end_is_counted_whole() -> None:
    noted = Noted()
    noted.store.failures = [Unavailable("no")]
    for number in range(MOST_ROWS + 7):
        noted.activity.note(str(number))
    await noted.activity.aclose()
    assert len(noted.store.batches) == 1
    assert noted.lost("failed") == MOST_ROWS + 7
    assert len(noted.activity) == 0


async def test_a_store_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.01)
    noted = Noted()
    noted.store.holds = asyncio.Event()
    noted.activity.note("a")
    await noted.activity.aclose()
    assert noted.lost("failed") == 1


async def test_memory_is_bounded_and_what_is_beyond_it_is_counted() -> None:
    noted = Noted(limit=2)
    for session_id in ("a", "b", "c", "a", "d"):
        noted.clock.wall += 1
        noted.activity.note(session_id)
    assert noted.lost("rate_limited") == 2
    latest = moment(noted.clock.wall - 1)
    await noted.activity.aclose()
    (batch,) = noted.store.batches
    assert set(batch) == {"a", "b"}
    assert batch["a"] == latest


async def test_closing_waits_for_the_write_in_flight_and_writes_the_rest() -> None:
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
    assert [set(batch) for batch in noted.store.batches] == [{"a"}, {"b"}]
    assert noted.lost("failed") == 0


async def test_a_loop_that_ends_in_the_middle_of_a_write_loses_it_and_says_so() -> None:
    noted = Noted(every=0.01)

    noted.store.holds = asyncio.Event()
    noted.activity.note("a")
    await noted.store.comes()
    assert noted.lost("failed") == 1


def test_what_a_loop_that_ended_had_noted_is_written_by_the_next() -> None:
    noted = Noted()

    async def use(session_id: str) -> None:
        noted.activity.note(session_id)

    asyncio.run(use("a"))
    asyncio.run(use("b"))
    asyncio.run(noted.activity.aclose())
    (batch,) = noted.store.batches
    assert set(batch) == {"a", "b"}


def test_loops_of_several_threads_note_and_write_together() -> None:
    store = Written()
    authority = authority_of(store=store)
    tokens: list[str] = []

    async def log_in() -> None:
        tokens.extend([(await authority.issue(Session(user_id=str(user)))).token for user in range(50)])

    async def use() -> None:
        for token in tokens:
            await accepted(authority, token)
            await authority.parts.activity.aclose()

    asyncio.run(log_in())
    threads = [threading.Thread(target=lambda: asyncio.run(use())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(authority.aclose())
    assert {session_id for batch in store.batches for session_id in batch} == set(store._rows)
    assert all(row.last_activity_at > row.created_at for row in store._rows.values())


async def test_nothing_keeps_a_loop_or_an_authority_alive() -> None:
    noted = Noted()
    noted.activity.note("a")
    assert asyncio.all_tasks() == {asyncio.current_task()}
    activity = weakref.ref(noted.activity)
    del noted
    gc.collect()
    assert activity() is None


async def test_a_timer_outlives_its_authority_without_harm() -> None:
    noted = Noted(every=0.01)
    store = noted.store
    noted.activity.note("a")
    del noted
    gc.collect()
    await asyncio.sleep(0.03)
    assert store.batches == []


FORKING = """
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
    assert [set(batch) for batch in noted.store.batches] == [{"child"}]
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
asyncio.run(noted.activity.aclose())
assert [set(batch) for batch in noted.store.batches] == [{"parent"}]
"""


def test_a_forked_child_writes_nothing_of_its_parents() -> None:
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORKING],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr


async def test_lifespan_writes_what_waits_before_the_app_shuts_down() -> None:
    store = Written()
    authority = authority_of(store=store)
    seen_by_the_app: list[int] = []

    async def inner(_scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        seen_by_the_app.append(len(store.batches))
        await send({"type": "lifespan.shutdown.complete"})

    app = JWTSessionMiddleware(inner, authority=authority)
    messages = ["lifespan.startup", "lifespan.shutdown"]

    async def receive() -> Message:
        if messages[0] == "lifespan.shutdown":
            await accepted(authority, (await authority.issue(Session(user_id="7"))).token)
        return {"type": messages.pop(0)}

    async def send(_: Message) -> None:
        pass

    await app({"type": "lifespan"}, receive, send)
    assert seen_by_the_app == [1]


async def test_revoked_while_its_activity_waits_stays_revoked() -> None:
    """200 sessions that are used and revoked, here or elsewhere, before their activity is written, or meanwhile."""

    store = Written()
    authority = authority_of(store=store)
    tokens = [await authority.issue(Session(user_id="7")) for _ in range(200)]
    for number, issued in enumerate(tokens):
        await accepted(authority, issued.token)
        revoking = (authority if number % 2 else store).revoke(issued.session_id)
        await asyncio.gather(*([authority.parts.activity.aclose(), revoking][:: 1 if number % 3 else -1]))
    assert not any(row.is_active for row in store._rows.values())
    assert await authority.sessions_of("7") == []
    await authority.aclose()


async def test_purging_keeps_what_the_settings_may_need() -> None:
    clock = FakeClock()
    store = MemorySessionStore(clock=clock)
    authority = authority_of(store=store, clock=clock, window=timedelta(days=7))
    issued = await authority.issue(Session(user_id="7"))
    await authority.issue(Session(user_id="8"))
    await authority.revoke(issued.session_id)
    await authority.revoke_user("7")
    clock.advance(timedelta(days=7, seconds=29).total_seconds())
    assert await authority.purge(expired=timedelta(0)) == (0, 0)
    clock.advance(3)
    assert await authority.purge(expired=timedelta(0)) == (1, 1)
    assert await authority.purge() == (0, 0)
    clock.advance(timedelta(days=7).total_seconds())
    assert await authority.purge() == (1, 0)
    await authority.aclose()


async def test_marks_and_revoked_rows_stay_while_tokens_without_iat_are_adopted() -> None:
    """Nobody knows how long such a token lives, and what is deleted would revive it."""

    clock = FakeClock()
    store = MemorySessionStore(clock=clock)
    authority = authority_of(store=store, clock=clock, adoption=Adoption(iat_required=False, sessions="marks"))
    issued = await authority.issue(Session(user_id="7"))
    await authority.revoke(issued.session_id)
    await authority.revoke_user("7")
    clock.advance(timedelta(days=700).total_seconds())
    assert await authority.purge() == (0, 0)
    await authority.aclose()


def test_purging_needs_a_store() -> None:
    with pytest.raises(ConfigError, match="only with a store"):
        asyncio.run(authority_of().purge())
