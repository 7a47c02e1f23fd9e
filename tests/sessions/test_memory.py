"""What is the memory store's own: threads that meet, and rows that it deletes by itself."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta

from jwt_middleware import MemorySessionStore
from tests.support.stores import log_in, record, status_of
from tests.support.world import FakeClock

LATER = timedelta(minutes=3)


def test_activity_written_by_another_thread_revives_no_session() -> None:
    store, revoking = MemorySessionStore(), threading.Event()

    async def fill() -> list[str]:
        return [(await log_in(store))[0] for _ in range(10_000)]

    ids = asyncio.run(fill())

    async def touch() -> None:
        at, rounds = datetime.now(UTC), 0
        while revoking.is_set() or rounds < 2:
            at, rounds = at + LATER, rounds + 1
            await store.touch(dict.fromkeys(ids, at))

    async def revoke() -> None:
        assert all([await store.revoke(id_) for id_ in ids])
        revoking.clear()

    revoking.set()
    threads = [threading.Thread(target=lambda work=work: asyncio.run(work())) for work in (touch, revoke)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asyncio.run(store.sessions_of("7")) == []


async def test_expired_rows_are_deleted_by_new_sessions(clock: FakeClock) -> None:
    store = MemorySessionStore(clock=clock)
    for _ in range(300):  # ten logins a day, each good for seven days
        for _ in range(10):
            auth_time = await store.stamp("7")
            await store.add(record(began=auth_time))
        clock.advance(86_400)
        assert len(await store.sessions_of("7")) <= 70
    assert len(store._rows) <= 2 * 80


async def test_a_row_that_is_still_needed_stays(clock: FakeClock) -> None:
    store = MemorySessionStore(clock=clock)
    session = await log_in(store)
    await store.revoke(session[0])
    clock.advance(8 * 86_400 - 1)  # it expired almost a day ago
    for _ in range(10):
        await log_in(store)
    assert (await status_of(store, session[0])).known
