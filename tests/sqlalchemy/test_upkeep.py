"""Activity and purging, of every store: what is over is never revived, and what is needed is never deleted."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from jwt_middleware import MemorySessionStore, Retention, SessionStore
from jwt_middleware.errors import ConfigError, Unavailable
from jwt_middleware.sqlalchemy.sessions import SQLAlchemySessionStore
from jwt_middleware.sqlalchemy.tables import session_marks, user_sessions
from jwt_middleware.types import FOREVER, moment
from tests.support.stores import log_in, record, run, stands, status_of
from tests.support.world import FakeClock

DAY = timedelta(days=1)
LATER = timedelta(minutes=3)


@asynccontextmanager
async def created(url: str) -> AsyncIterator[tuple[SQLAlchemySessionStore, AsyncEngine]]:
    engine = create_async_engine(url)
    if engine.dialect.name == "sqlite":  # a test's file need not survive a power cut
        sa.event.listen(engine.sync_engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous=OFF"))
    store = SQLAlchemySessionStore(engine)
    try:
        await store.create_all()
        yield store, engine
    finally:
        await engine.dispose()


@contextmanager
def statements(engine: AsyncEngine, verb: str) -> Iterator[list[str]]:
    """What is sent and begins with that verb, as it is sent."""
    sent: list[str] = []

    def see(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if verb in statement[: len(verb)] or f" {verb} " in statement.replace("\n", " "):
            sent.append(statement)

    sa.event.listen(engine.sync_engine, "before_cursor_execute", see)
    yield sent
    sa.event.remove(engine.sync_engine, "before_cursor_execute", see)


async def expired(store: SessionStore, ago: timedelta, **columns: Any) -> str:
    """The id of a session that expired that long ago."""
    now = datetime.now(UTC)
    row = record(began=(now - ago - 7 * DAY).timestamp(), expires_at=now - ago, **columns)
    if isinstance(store, MemorySessionStore):
        store._rows[row.id] = row  # `add` looks for what may be forgotten
    else:
        await store.add(row)
    return row.id


async def known(store: SessionStore, *ids: str) -> list[bool]:
    return [(await status_of(store, id_)).known for id_ in ids]


# Activity


def test_a_session_that_was_used_shows_it_and_moves_to_the_front(url: str) -> None:
    async def test(store: SessionStore) -> None:
        first, second = await log_in(store), await log_in(store)
        at = moment(first[1]) + LATER
        await store.touch({first[0]: at})
        rows = await store.sessions_of("7")
        assert [(row.id, row.last_activity_at) for row in rows] == [(first[0], at), (second[0], moment(second[1]))]
        assert rows[0].created_at == moment(first[1])
        assert rows[0].expires_at > at

    run(url, test)


def test_activity_never_moves_back(url: str) -> None:
    async def test(store: SessionStore) -> None:
        session_id, began = await log_in(store)
        for minutes in (-5, 0, 3, 2):
            await store.touch({session_id: moment(began) + timedelta(minutes=minutes)})
        (row,) = await store.sessions_of("7")
        assert row.last_activity_at == moment(began) + LATER

    run(url, test)


def test_many_are_touched_at_once_each_with_its_own_moment(url: str) -> None:
    async def test(store: SessionStore) -> None:
        sessions = [await log_in(store) for _ in range(5)]
        moments = {id_: moment(began) + n * LATER for n, (id_, began) in enumerate(sessions)}
        nobody = {str(uuid4()): datetime.now(UTC) for _ in range(994)} | {"no uuid": datetime.now(UTC)}
        await store.touch(moments | nobody)
        assert {row.id: row.last_activity_at for row in await store.sessions_of("7")} == moments

    run(url, test)


def test_touching_nothing_is_nothing(url: str) -> None:
    async def test(store: SessionStore) -> None:
        await store.touch({})
        await store.touch({"no uuid": datetime.now(UTC)})
        assert await store.sessions_of("7") == []

    run(url, test)


async def test_a_revoked_row_is_neither_revived_nor_changed(database_url: str) -> None:
    async with created(database_url) as (store, engine):
        session = await log_in(store)
        await store.revoke(session[0])
        await store.touch({session[0]: moment(session[1]) + LATER})
        assert not await stands(store, session)
        async with engine.connect() as connection:
            (row,) = await connection.execute(sa.select(user_sessions.c.last_activity_at))
        assert row[0].replace(tzinfo=UTC) == moment(session[1])


async def test_a_thousand_touches_are_one_statement_on_postgresql(postgres_url: str) -> None:
    async with created(postgres_url) as (store, engine):
        with statements(engine, "UPDATE") as sent:
            await store.touch({str(uuid4()): datetime.now(UTC) for _ in range(1_000)})
        assert len(sent) == 1


async def test_touching_waits_for_no_row_that_somebody_holds(postgres_url: str) -> None:
    """Else a revocation of many rows and a write of activity could deadlock, and the revocation be the one to fail."""

    async with created(postgres_url) as (store, engine):
        held, free = await log_in(store), await log_in(store)
        async with engine.begin() as connection:
            await connection.execute(
                sa.update(user_sessions).where(user_sessions.c.id == UUID(held[0])).values(label="x")
            )
            await store.touch({id_: moment(began) + LATER for id_, began in (held, free)})
        used = {row.id: row.last_activity_at for row in await store.sessions_of("7")}
        assert used == {held[0]: moment(held[1]), free[0]: moment(free[1]) + LATER}


async def test_10_000_touches_against_revocations_revive_nothing(database_url: str) -> None:
    """Each of 10,000 sessions is revoked while it is touched, by the app's call or by plain SQL, in any order."""

    async with created(database_url) as (store, engine):
        rows = [record(str(number % 10)) for number in range(10_000)]
        async with engine.begin() as connection:
            await connection.execute(sa.insert(user_sessions), [columns(row) for row in rows])
        turns = asyncio.Semaphore(8 if engine.dialect.name == "postgresql" else 2)  # SQLite lets writers wait

        async def touch(part: list[Any], minutes: int) -> None:
            async with turns:
                await store.touch({row.id: row.last_activity_at + timedelta(minutes=minutes) for row in part})

        async def revoke(part: list[Any]) -> None:
            async with turns:
                await store.revoke(part[0].id)
                async with engine.begin() as connection:
                    ids = [UUID(row.id) for row in part]
                    await connection.execute(
                        sa.update(user_sessions).where(user_sessions.c.id.in_(ids)).values(is_active=False)
                    )

        work = []
        for start in range(0, len(rows), 50):
            part = rows[start : start + 50]
            work += [touch(part, 1), revoke(part), touch(part, 2)]
        random.Random(5).shuffle(work)
        await asyncio.gather(*work)
        async with engine.connect() as connection:
            active = sa.select(sa.func.count()).select_from(user_sessions).where(user_sessions.c.is_active)
            assert (await connection.execute(active)).scalar_one() == 0


def columns(row: Any) -> dict[str, Any]:
    return {
        column.name: UUID(row.id) if column.name == "id" else getattr(row, column.name) for column in user_sessions.c
    }


def test_10_000_touches_against_revocations_from_another_thread_revive_nothing() -> None:
    store = MemorySessionStore()
    ids: list[str] = []

    async def fill() -> None:
        ids.extend([(await log_in(store))[0] for _ in range(10_000)])

    asyncio.run(fill())
    revoking = threading.Event()

    async def touch() -> None:
        at, rounds = datetime.now(UTC), 0
        while revoking.is_set() or rounds < 2:
            at, rounds = at + LATER, rounds + 1
            await store.touch(dict.fromkeys(ids, at))

    async def revoke() -> None:
        assert all([await store.revoke(id_) for id_ in ids])
        revoking.clear()

    revoking.set()
    threads = [threading.Thread(target=lambda each=each: asyncio.run(each())) for each in (touch, revoke)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asyncio.run(store.sessions_of("7")) == []


# Purging


def test_what_expired_long_ago_goes_and_what_did_not_stays(url: str) -> None:
    async def test(store: SessionStore) -> None:
        alive, _ = await log_in(store)
        old, revoked, fresh = [
            await expired(store, ago, is_active=active)
            for ago, active in ((2 * DAY, True), (2 * DAY, False), (DAY / 2, True))
        ]
        assert await store.purge() == (2, 0)
        assert await known(store, alive, old, revoked, fresh) == [True, False, False, True]
        assert await store.purge(Retention(expired=timedelta(0))) == (1, 0)
        assert await known(store, alive, fresh) == [True, False]
        assert await store.purge(Retention(expired=timedelta(0))) == (0, 0)

    run(url, test)


def test_a_revoked_row_stays_as_long_as_a_token_without_sid_may_outlive_it(url: str) -> None:
    async def test(store: SessionStore) -> None:
        revoked, active, long_ago = [
            await expired(store, ago, is_active=active)
            for ago, active in ((2 * DAY, False), (2 * DAY, True), (9 * DAY, False))
        ]
        assert await store.purge(Retention(longest_token=7 * DAY)) == (2, 0)
        assert await known(store, revoked, active, long_ago) == [True, False, False]
        assert not (await status_of(store, revoked)).active

    run(url, test)


def test_marks_stay_for_good_unless_the_longest_token_is_known(url: str) -> None:
    async def test(store: SessionStore) -> None:
        sessions = [(user, await log_in(store, user)) for user in ("7", "8")]
        await store.revoke_user("7")
        await store.revoke_all()
        assert await store.purge(Retention(expired=timedelta(0))) == (0, 0)
        assert await store.purge(Retention(longest_token=timedelta(hours=1))) == (0, 0)
        assert [await stands(store, session, user) for user, session in sessions] == [False, False]
        assert await store.purge(Retention(longest_token=timedelta(0))) == (0, 2)
        assert (await status_of(store, None)).not_before is None

    run(url, test)


def test_marks_outlive_the_longest_token(clocked_url: str) -> None:
    clock = FakeClock()

    async def test(store: SessionStore) -> None:
        for user in ("7", "8"):
            await store.revoke_user(user)
            clock.advance(86_400)
        clock.advance(5 * 86_400 + 1)
        assert await store.purge(Retention(longest_token=7 * DAY)) == (0, 1)
        assert [(await status_of(store, None, user)).not_before is None for user in ("7", "8")] == [True, False]

    run(clocked_url, test, clock)


@pytest.mark.parametrize("chunk", [1, 3, 7, 8, 1_000])
def test_chunks_of_any_size_delete_the_same(url: str, chunk: int) -> None:
    async def test(store: SessionStore) -> None:
        gone = [await expired(store, 30 * DAY, is_active=number % 2 == 0) for number in range(7)]
        stay = [await expired(store, 2 * DAY, is_active=False) for _ in range(7)]
        for user in range(7):
            await store.revoke_user(str(user))
        assert await store.purge(Retention(longest_token=7 * DAY, chunk=chunk)) == (7, 0)
        assert await known(store, *gone, *stay) == [False] * 7 + [True] * 7
        assert await store.purge(Retention(expired=4 * DAY, longest_token=timedelta(0), chunk=chunk)) == (0, 7)

    run(url, test)


async def test_each_chunk_is_a_statement_of_its_own_and_what_stays_is_passed_over_once(database_url: str) -> None:
    async with created(database_url) as (store, engine):
        for number in range(40):
            await expired(store, (50 - number) * DAY, is_active=number % 2 == 0)
        with statements(engine, "DELETE") as sent:
            assert await store.purge(Retention(longest_token=FOREVER, chunk=5)) == (20, 0)
        assert len(sent) == 4
        with statements(engine, "DELETE") as sent:
            assert await store.purge(Retention(longest_token=FOREVER, chunk=5)) == (0, 0)
        assert sent == []


async def test_two_purges_at_once_delete_each_row_once(database_url: str) -> None:
    async with created(database_url) as (store, _):
        for _ in range(50):
            await expired(store, 2 * DAY)
        both = await asyncio.gather(store.purge(Retention(chunk=10)), store.purge(Retention(chunk=10)))
        assert sum(purged.sessions for purged in both) == 50


async def test_a_session_that_is_renewed_while_it_is_purged_stays(postgres_url: str) -> None:
    async with created(postgres_url) as (store, engine):
        session_id = await expired(store, 2 * DAY)
        async with engine.begin() as connection:
            renewing = sa.update(user_sessions).values(expires_at=datetime.now(UTC) + DAY)
            await connection.execute(renewing)
            purge = asyncio.create_task(store.purge())
            await _waits_for_a_lock(engine)
        assert await purge == (0, 0)
        assert await known(store, session_id) == [True]


async def _waits_for_a_lock(engine: AsyncEngine) -> None:
    """Until some statement of this database waits for another."""
    waiting = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    async with engine.connect() as connection:
        while not (await connection.execute(waiting)).scalar_one():
            await connection.rollback()
            await asyncio.sleep(0.01)


async def test_a_mark_that_is_moved_while_it_is_purged_stays(postgres_url: str) -> None:
    async with created(postgres_url) as (store, engine):
        await store.revoke_user("7")
        async with engine.begin() as connection:
            await connection.execute(sa.update(session_marks).values(not_before=session_marks.c.not_before + 10**12))
            purge = asyncio.create_task(store.purge(Retention(longest_token=timedelta(0))))
            await _waits_for_a_lock(engine)
        assert await purge == (0, 0)
        assert (await status_of(store, None)).not_before is not None


async def test_a_database_that_fails_says_no_more_than_that(database_url: str) -> None:
    engine = create_async_engine(database_url)
    store = SQLAlchemySessionStore(engine)  # its tables do not exist
    try:
        with pytest.raises(Unavailable):
            await store.touch({str(uuid4()): datetime.now(UTC)})
        with pytest.raises(Unavailable):
            await store.purge()
    finally:
        await engine.dispose()


async def test_memory_forgets_what_is_over_by_itself() -> None:
    clock = FakeClock()

    store = MemorySessionStore(clock=clock)
    for _ in range(300):  # ten logins a day, each good for seven days
        for _ in range(10):
            auth_time = await store.stamp("7")
            await store.add(record(began=auth_time))
        clock.advance(86_400)
        assert len(await store.sessions_of("7")) <= 70
    assert len(store._rows) <= 2 * 80


async def test_memory_forgets_nothing_that_is_needed() -> None:
    clock = FakeClock()

    store = MemorySessionStore(clock=clock)
    session = await log_in(store)
    await store.revoke(session[0])
    clock.advance(8 * 86_400 - 1)  # it expired almost a day ago
    for _ in range(10):
        await log_in(store)
    assert (await status_of(store, session[0])).known


@pytest.mark.parametrize(
    "settings",
    [
        {"expired": -DAY},
        {"longest_token": -DAY},
        {"expired": FOREVER + DAY},
        {"longest_token": timedelta.max},
        {"chunk": 0},
        {"chunk": 10_001},
    ],
)
def test_a_retention_that_cannot_be_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="Retention: "):
        Retention(**settings)
