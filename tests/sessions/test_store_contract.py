"""What every session store keeps: memory, SQLite, PostgreSQL; and what is the memory store's own."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from jwt_middleware import MemorySessionStore, Retention, SessionStore
from jwt_middleware.types import SessionCursor, SessionKey, SessionRecord, SessionStatus, UserSessions, moment
from tests.support.stores import expired, known, log_in, record, stands, status_of
from tests.support.world import FakeClock

DAY = timedelta(days=1)
LATER = timedelta(minutes=3)
ABSENT = "0af76519-16cd-43dd-8448-eb211c80319c"
"""A session id without a row."""


async def all_pages(store: SessionStore, limit: int) -> list[SessionRecord]:
    """The sessions of user 7 page by page, as an administrator goes through them."""
    found, after = list[SessionRecord](), None
    while page := await store.sessions_of("7", limit=limit, after=after):
        assert len(page) <= limit
        found += page
        after = SessionCursor(last_activity_at=page[-1].last_activity_at, id=page[-1].id)
    return found


async def all_users(store: SessionStore, limit: int) -> list[UserSessions]:
    found = list[UserSessions]()
    while page := await store.active_users(limit=limit, after=found[-1].user_id if found else None):
        assert len(page) <= limit
        found += page
    return found


class TestStatuses:
    async def test_a_session_that_was_added_is_known_and_active(self, store: SessionStore) -> None:
        session = await log_in(store)
        assert await status_of(store, session[0]) == SessionStatus(known=True, active=True, not_before=None)

    async def test_a_row_of_another_user_is_unknown(self, store: SessionStore) -> None:
        session = await log_in(store, "7")
        assert await status_of(store, session[0], "8") == SessionStatus(known=False, active=False)

    @pytest.mark.parametrize("session_id", [None, "", "no uuid", ABSENT, ABSENT.upper(), ABSENT.replace("-", "")])
    async def test_an_id_without_a_row_is_unknown(self, store: SessionStore, session_id: str | None) -> None:
        await log_in(store)
        assert await status_of(store, session_id) == SessionStatus(known=False, active=False)

    async def test_an_id_has_one_spelling(self, store: SessionStore) -> None:
        session_id, _ = await log_in(store, id="a0a0a0a0-b1b1-4c2c-8d3d-e4e4e4e4e4e4")
        assert (await status_of(store, session_id)).known
        assert not (await status_of(store, session_id.upper())).known
        assert not (await status_of(store, session_id.replace("-", ""))).known
        assert not await store.revoke(session_id.upper())

    async def test_each_of_many_keys_has_its_status(self, store: SessionStore) -> None:
        sessions = [await log_in(store, str(user)) for user in range(5)]
        keys = [SessionKey(session_id=id_, user_id=str(user)) for user, (id_, _) in enumerate(sessions)]
        unknown = SessionKey(session_id=str(uuid4()), user_id="0")
        await store.revoke(sessions[2][0])
        await store.revoke_user("3")
        statuses = await store.statuses([*keys, unknown])
        assert [statuses[key].active for key in keys] == [True, True, False, True, True]
        assert [statuses[key].not_before is None for key in keys] == [True, True, True, False, True]
        assert not statuses[unknown].known
        assert len(statuses) == 6

    async def test_a_thousand_keys_fit_into_one_batch(self, store: SessionStore) -> None:
        session = await log_in(store, "7")
        keys = [SessionKey(session_id=str(uuid4()), user_id=str(user)) for user in range(1_000)]
        mine = SessionKey(session_id=session[0], user_id="7")
        statuses = await store.statuses([*keys, mine])
        assert len(statuses) == 1_001
        assert [key for key, status in statuses.items() if status.known] == [mine]


class TestRevoking:
    async def test_a_revoked_session_stays_known_and_is_revoked_once(self, store: SessionStore) -> None:
        session, other = await log_in(store), await log_in(store)
        assert await store.revoke(session[0])
        assert not await store.revoke(session[0])
        assert await status_of(store, session[0]) == SessionStatus(known=True, active=False)
        assert await stands(store, other)

    @pytest.mark.parametrize("session_id", ["", "no uuid", ABSENT])
    async def test_revoking_a_session_that_does_not_exist_returns_false(
        self, store: SessionStore, session_id: str
    ) -> None:
        assert not await store.revoke(session_id)


class TestMarks:
    async def test_a_mark_ends_the_sessions_of_one_user_and_a_login_after_it_works(self, store: SessionStore) -> None:
        before, elsewhere = await log_in(store, "7"), await log_in(store, "8")
        await store.revoke_user("7")
        after = await log_in(store, "7")
        assert not await stands(store, before, "7")
        assert await stands(store, elsewhere, "8")
        assert await stands(store, after, "7")

    async def test_a_mark_on_all_users_ends_all_and_logins_after_it_work(self, store: SessionStore) -> None:
        before = [(user, await log_in(store, user)) for user in ("7", "8")]
        await store.revoke_all()
        after = [(user, await log_in(store, user)) for user in ("7", "8")]
        assert [await stands(store, session, user) for user, session in before] == [False, False]
        assert [await stands(store, session, user) for user, session in after] == [True, True]

    async def test_the_later_of_the_two_marks_counts(self, store: SessionStore) -> None:
        await store.revoke_all()
        of_all = (await status_of(store, None)).not_before
        await store.revoke_user("7")
        of_user = (await status_of(store, None)).not_before
        await store.revoke_all()
        latest = (await status_of(store, None)).not_before
        assert of_all is not None
        assert of_user is not None
        assert latest is not None
        assert of_all < of_user < latest
        assert (await status_of(store, None, "8")).not_before == latest

    async def test_marks_apply_to_a_token_that_never_had_a_row(self, store: SessionStore) -> None:
        stamp = await store.stamp("7")
        await store.revoke_user("7")
        status = await status_of(store, None)
        assert not status.known
        assert status.not_before is not None
        assert status.not_before >= stamp

    async def test_a_stamp_is_later_than_every_mark_and_to_the_microsecond(self, store: SessionStore) -> None:
        for _ in range(20):
            await store.revoke_user("7")
            not_before = (await status_of(store, None)).not_before
            stamp = await store.stamp("7")
            assert not_before is not None
            assert stamp > not_before
            assert stamp == round(stamp * 1e6) / 1e6
            assert moment(stamp).timestamp() == stamp


class TestKeeping:
    async def test_a_mark_does_not_end_the_session_that_it_keeps(self, store: SessionStore) -> None:
        others, mine = [await log_in(store), await log_in(store)], await log_in(store)
        await store.revoke_user("7", keep=mine[0])
        assert [await stands(store, other) for other in others] == [False, False]
        assert await stands(store, mine)
        assert [row.id for row in await store.sessions_of("7")] == [mine[0]]

    async def test_the_next_mark_ends_a_session_that_was_kept(self, store: SessionStore) -> None:
        mine = await log_in(store)
        await store.revoke_user("7", keep=mine[0])
        await store.revoke_user("7")
        assert not await stands(store, mine)

    async def test_a_mark_on_all_users_ends_a_session_that_was_kept(self, store: SessionStore) -> None:
        mine = await log_in(store)
        await store.revoke_user("7", keep=mine[0])
        await store.revoke_all()
        assert not await stands(store, mine)

    @pytest.mark.parametrize("how", ["revoked", "marked", "of another user", "no row", "no id"])
    async def test_a_session_that_is_not_active_is_not_kept(self, store: SessionStore, how: str) -> None:
        session = await log_in(store, "8" if how == "of another user" else "7")
        if how == "revoked":
            await store.revoke(session[0])
        elif how == "marked":
            await store.revoke_user("7")
        keep = {"no row": str(uuid4()), "no id": "no uuid"}.get(how, session[0])
        await store.revoke_user("7", keep=keep)
        status = await status_of(store, keep, "7")
        assert status.not_before is not None
        assert status.not_before >= session[1]
        assert not await stands(store, session, "7")


class TestRows:
    async def test_sessions_of_a_user_come_by_their_latest_activity(self, store: SessionStore) -> None:
        now = moment(await store.stamp("7"))
        ids = [
            (await log_in(store, last_activity_at=now - timedelta(minutes=ago), label=f"{ago} minutes"))[0]
            for ago in (2, 1, 3)
        ]
        await log_in(store, "8")
        rows = await store.sessions_of("7")
        assert [row.id for row in rows] == [ids[1], ids[0], ids[2]]
        assert [row.label for row in rows] == ["1 minutes", "2 minutes", "3 minutes"]

    async def test_a_row_comes_back_as_it_was_written(self, store: SessionStore) -> None:
        written = record(label="Firefox on Linux")
        await store.add(written)
        assert await store.sessions_of("7") == [written]

    async def test_expired_revoked_and_marked_sessions_are_not_listed(self, store: SessionStore) -> None:
        now = moment(await store.stamp("7"))
        await log_in(store, expires_at=now - timedelta(seconds=1))
        revoked, _ = await log_in(store), await log_in(store)
        await store.revoke(revoked[0])
        assert len(await store.sessions_of("7")) == 1
        await store.revoke_user("7")
        assert await store.sessions_of("7") == []
        assert await store.sessions_of("unknown") == []


class TestRevokingTokens:
    async def test_a_token_that_never_had_a_row_is_revoked_by_one(self, store: SessionStore) -> None:
        row = record(is_active=False, revoked_at=moment(await store.stamp("7")))
        await store.revoke_token(row)
        await store.revoke_token(row)
        assert await status_of(store, row.id) == SessionStatus(known=True, active=False)
        assert await store.sessions_of("7") == []

    async def test_revoking_a_token_revokes_a_row_that_exists(self, store: SessionStore) -> None:
        session_id, auth_time = await log_in(store)
        await store.revoke_token(record(id=session_id, is_active=False, revoked_at=moment(auth_time)))
        assert not (await status_of(store, session_id)).active
        assert not await store.revoke(session_id)


class TestClock:
    async def test_in_the_moment_of_a_mark_earlier_sessions_end_and_logins_work(
        self, clocked_store: SessionStore
    ) -> None:
        for _ in range(3):  # the clock stands still
            session, elsewhere = await log_in(clocked_store), await log_in(clocked_store, "8")
            await clocked_store.revoke_user("7")
            assert not await stands(clocked_store, session)
            assert await stands(clocked_store, elsewhere, "8")
            session = await log_in(clocked_store)
            assert await stands(clocked_store, session)
            await clocked_store.revoke_all()
            assert not await stands(clocked_store, session)
            assert not await stands(clocked_store, elsewhere, "8")

    async def test_a_clock_that_is_set_back_revives_no_session(
        self, clocked_store: SessionStore, clock: FakeClock
    ) -> None:
        first = await log_in(clocked_store)
        await clocked_store.revoke_user("7")
        clock.wall -= 3_600
        assert not await stands(clocked_store, first)
        second = await log_in(clocked_store)
        assert await stands(clocked_store, second)
        await clocked_store.revoke_user("7")
        assert not await stands(clocked_store, second)
        third = await log_in(clocked_store)
        await clocked_store.revoke_all()
        assert not await stands(clocked_store, third)
        assert await stands(clocked_store, await log_in(clocked_store))

    async def test_a_session_ends_when_its_time_has_come(self, clocked_store: SessionStore, clock: FakeClock) -> None:
        await log_in(clocked_store)
        clock.advance(7 * 86_400 - 1)
        assert len(await clocked_store.sessions_of("7")) == 1
        clock.advance(1)
        assert await clocked_store.sessions_of("7") == []


class TestReplacing:
    async def test_a_newer_token_is_written_to_the_row_of_an_active_session(self, store: SessionStore) -> None:
        session_id, _ = await log_in(store)
        (before,) = await store.sessions_of("7")
        assert await store.replace_token(
            SessionKey(session_id=session_id, user_id="7"), user_id="7", session_token="1" * 64
        )
        (row,) = await store.sessions_of("7")
        assert row.session_token == "1" * 64
        assert row.expires_at == before.expires_at
        assert (row.created_at, row.label) == (before.created_at, before.label)

    async def test_a_renewed_session_ends_later_and_never_earlier(self, store: SessionStore) -> None:
        session_id, began = await log_in(store)
        later, latest = moment(began + 8 * 86_400), moment(began + 9 * 86_400)
        for expires_at in (latest, later):  # of two at once, the earlier one is written last
            assert await store.replace_token(
                SessionKey(session_id=session_id, user_id="7"),
                user_id="7",
                session_token="2" * 64,
                expires_at=expires_at,
            )
            assert [row.expires_at for row in await store.sessions_of("7")] == [latest]

    async def test_a_newer_token_is_written_to_no_other_row(self, store: SessionStore) -> None:
        revoked, active = await log_in(store), await log_in(store)
        await store.revoke(revoked[0])
        for session_id, user_id in ((revoked[0], "7"), (active[0], "8"), (str(uuid4()), "7"), ("no uuid", "7")):
            assert not await store.replace_token(
                SessionKey(session_id=session_id, user_id=user_id), user_id=user_id, session_token="3" * 64
            )
        assert [row.session_token for row in await store.sessions_of("7")] == ["0" * 64]
        assert not await stands(store, revoked)

    async def test_a_newer_token_of_a_session_that_a_mark_ended_stays_ended(self, store: SessionStore) -> None:
        session = await log_in(store)
        await store.revoke_user("7")
        await store.replace_token(SessionKey(session_id=session[0], user_id="7"), user_id="7", session_token="4" * 64)
        assert not await stands(store, session)


class TestPages:
    @pytest.mark.parametrize("limit", [1, 2, 3, 100])
    async def test_pages_hold_every_session_once_in_order(self, store: SessionStore, limit: int) -> None:
        same = moment(await store.stamp("7"))
        times = [same, same, same, same - timedelta(minutes=1), same + timedelta(microseconds=1)]
        ids = {(await log_in(store, last_activity_at=at))[0] for at in times}
        await log_in(store, "8")
        everything = await store.sessions_of("7")
        assert {row.id for row in everything} == ids
        keys = [(row.last_activity_at, row.id) for row in everything]
        assert keys == sorted(keys, reverse=True)
        assert await all_pages(store, limit) == everything

    async def test_pages_leave_out_sessions_that_ended(self, store: SessionStore) -> None:
        now = moment(await store.stamp("7"))
        await log_in(store, expires_at=now - timedelta(seconds=1))
        await log_in(store)
        kept = await log_in(store)
        await store.revoke_user("7", keep=kept[0])
        revoked, later = await log_in(store), await log_in(store)
        await store.revoke(revoked[0])
        assert [row.id for row in await all_pages(store, 1)] == [later[0], kept[0]]

    @pytest.mark.parametrize("limit", [1, 2, 100])
    async def test_users_come_with_their_count_and_latest_activity(self, store: SessionStore, limit: int) -> None:
        now = moment(await store.stamp("7"))
        await log_in(store, "7", last_activity_at=now)
        await log_in(store, "7", last_activity_at=now + timedelta(seconds=3, microseconds=7))
        await log_in(store, "8", last_activity_at=now - timedelta(hours=1))
        await log_in(store, "9", last_activity_at=now)
        assert await all_users(store, limit) == [
            UserSessions(user_id="7", sessions=2, last_activity_at=now + timedelta(seconds=3, microseconds=7)),
            UserSessions(user_id="8", sessions=1, last_activity_at=now - timedelta(hours=1)),
            UserSessions(user_id="9", sessions=1, last_activity_at=now),
        ]

    async def test_users_are_counted_without_sessions_that_ended(self, store: SessionStore) -> None:
        now = moment(await store.stamp("1"))
        await log_in(store, "1", expires_at=now - timedelta(seconds=1))
        revoked = await log_in(store, "2")
        await store.revoke(revoked[0])
        await log_in(store, "3")
        await store.revoke_user("3")
        kept, _ = await log_in(store, "4"), await log_in(store, "4")
        await store.revoke_user("4", keep=kept[0])
        await log_in(store, "5")
        await store.revoke_user("5")
        again = [await log_in(store, "5"), await log_in(store, "5")]
        assert [(user.user_id, user.sessions) for user in await all_users(store, 10)] == [("4", 1), ("5", 2)]
        assert all([await stands(store, session, "5") for session in again])
        await store.revoke_all()
        assert await all_users(store, 10) == []
        await log_in(store, "6")
        assert [user.user_id for user in await all_users(store, 10)] == ["6"]

    async def test_a_mark_counts_to_the_microsecond(self, clocked_store: SessionStore, clock: FakeClock) -> None:
        clock.wall = 1_795_600_000.000001
        for microseconds in range(5):  # the clock stands still: marks and logins are a microsecond apart
            before = await log_in(clocked_store, "7")
            await clocked_store.revoke_user("7")
            after = await log_in(clocked_store, "7")
            assert not await stands(clocked_store, before)
            assert await stands(clocked_store, after)
            assert [(user.user_id, user.sessions) for user in await clocked_store.active_users(limit=9)] == [("7", 1)]
            assert [row.id for row in await clocked_store.sessions_of("7", limit=9)] == [after[0]]
            clock.wall += 0.9 + microseconds / 1e6

    async def test_a_session_is_revoked_by_its_user_and_by_no_other(self, store: SessionStore) -> None:
        session = await log_in(store, "7")
        assert not await store.revoke(session[0], user_id="8")
        assert await stands(store, session)
        assert await store.revoke(session[0], user_id="7")
        assert not await stands(store, session)
        assert not await store.revoke(session[0], user_id="7")


class TestActivity:
    async def test_activity_is_listed_and_moves_a_session_to_the_front(self, store: SessionStore) -> None:
        first, second = await log_in(store), await log_in(store)
        at = moment(first[1]) + LATER
        await store.touch({first[0]: at})
        rows = await store.sessions_of("7")
        assert [(row.id, row.last_activity_at) for row in rows] == [(first[0], at), (second[0], moment(second[1]))]
        assert rows[0].created_at == moment(first[1])
        assert rows[0].expires_at > at

    async def test_activity_never_moves_back(self, store: SessionStore) -> None:
        session_id, began = await log_in(store)
        for minutes in (-5, 0, 3, 2):
            await store.touch({session_id: moment(began) + timedelta(minutes=minutes)})
        (row,) = await store.sessions_of("7")
        assert row.last_activity_at == moment(began) + LATER

    async def test_many_sessions_are_touched_at_once_each_with_its_time(self, store: SessionStore) -> None:
        sessions = [await log_in(store) for _ in range(5)]
        moments = {id_: moment(began) + n * LATER for n, (id_, began) in enumerate(sessions)}
        unknown = {str(uuid4()): datetime.now(UTC) for _ in range(994)} | {"no uuid": datetime.now(UTC)}
        await store.touch(moments | unknown)
        assert {row.id: row.last_activity_at for row in await store.sessions_of("7")} == moments

    async def test_touching_no_session_changes_nothing(self, store: SessionStore) -> None:
        await store.touch({})
        await store.touch({"no uuid": datetime.now(UTC)})
        assert await store.sessions_of("7") == []


class TestPurging:
    async def test_a_purge_deletes_what_expired_long_ago_and_no_more(self, store: SessionStore) -> None:
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

    async def test_a_revoked_row_stays_as_long_as_a_token_may_outlive_it(self, store: SessionStore) -> None:
        revoked, active, long_ago = [
            await expired(store, ago, is_active=active)
            for ago, active in ((2 * DAY, False), (2 * DAY, True), (9 * DAY, False))
        ]
        assert await store.purge(Retention(longest_token=7 * DAY)) == (2, 0)
        assert await known(store, revoked, active, long_ago) == [True, False, False]
        assert not (await status_of(store, revoked)).active

    async def test_marks_stay_unless_the_longest_token_is_configured(self, store: SessionStore) -> None:
        sessions = [(user, await log_in(store, user)) for user in ("7", "8")]
        await store.revoke_user("7")
        await store.revoke_all()
        assert await store.purge(Retention(expired=timedelta(0))) == (0, 0)
        assert await store.purge(Retention(longest_token=timedelta(hours=1))) == (0, 0)
        assert [await stands(store, session, user) for user, session in sessions] == [False, False]
        assert await store.purge(Retention(longest_token=timedelta(0))) == (0, 2)
        assert (await status_of(store, None)).not_before is None

    async def test_marks_outlive_the_longest_token(self, clocked_store: SessionStore, clock: FakeClock) -> None:
        for user in ("7", "8"):
            await clocked_store.revoke_user(user)
            clock.advance(86_400)
        clock.advance(5 * 86_400 + 1)
        assert await clocked_store.purge(Retention(longest_token=7 * DAY)) == (0, 1)
        assert [(await status_of(clocked_store, None, user)).not_before is None for user in ("7", "8")] == [True, False]

    @pytest.mark.parametrize("chunk", [1, 3, 7, 8, 1_000])
    async def test_chunks_of_any_size_delete_the_same(self, store: SessionStore, chunk: int) -> None:
        gone = [await expired(store, 30 * DAY, is_active=number % 2 == 0) for number in range(7)]
        stay = [await expired(store, 2 * DAY, is_active=False) for _ in range(7)]
        for user in range(7):
            await store.revoke_user(str(user))
        assert await store.purge(Retention(longest_token=7 * DAY, chunk=chunk)) == (7, 0)
        assert await known(store, *gone, *stay) == [False] * 7 + [True] * 7
        assert await store.purge(Retention(expired=4 * DAY, longest_token=timedelta(0), chunk=chunk)) == (0, 7)


class TestMemory:
    def test_activity_written_by_another_thread_revives_no_session(self) -> None:
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

    async def test_expired_rows_are_deleted_by_new_sessions(self, clock: FakeClock) -> None:
        store = MemorySessionStore(clock=clock)
        for _ in range(300):  # ten logins a day, each good for seven days
            for _ in range(10):
                auth_time = await store.stamp("7")
                await store.add(record(began=auth_time))
            clock.advance(86_400)
            assert len(await store.sessions_of("7")) <= 70
        assert len(store._rows) <= 2 * 80

    async def test_a_row_that_is_still_needed_stays(self, clock: FakeClock) -> None:
        store = MemorySessionStore(clock=clock)
        session = await log_in(store)
        await store.revoke(session[0])
        clock.advance(8 * 86_400 - 1)  # it expired almost a day ago
        for _ in range(10):
            await log_in(store)
        assert (await status_of(store, session[0])).known
