"""What every session store keeps: memory, SQLite, PostgreSQL."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from jwt_middleware import SessionStore
from jwt_middleware.types import SessionKey, SessionStatus, moment
from tests.support.stores import log_in, record, run, stands, status_of
from tests.support.world import FakeClock


def test_a_session_that_was_added_is_known_and_active(url: str) -> None:
    async def test(store: SessionStore) -> None:
        session = await log_in(store)
        assert await status_of(store, session[0]) == SessionStatus(known=True, active=True, not_before=None)

    run(url, test)


def test_a_row_of_another_user_is_unknown(url: str) -> None:
    async def test(store: SessionStore) -> None:
        session = await log_in(store, "7")
        assert await status_of(store, session[0], "8") == SessionStatus(known=False, active=False)

    run(url, test)


@pytest.mark.parametrize("session_id", [None, "", "no uuid", str(uuid4()), str(uuid4()).upper(), uuid4().hex])
def test_an_id_without_a_row_is_unknown(url: str, session_id: str | None) -> None:
    async def test(store: SessionStore) -> None:
        await log_in(store)
        assert await status_of(store, session_id) == SessionStatus(known=False, active=False)

    run(url, test)


def test_an_id_has_one_spelling(url: str) -> None:
    async def test(store: SessionStore) -> None:
        session_id, _ = await log_in(store, id="a0a0a0a0-b1b1-4c2c-8d3d-e4e4e4e4e4e4")
        assert (await status_of(store, session_id)).known
        assert not (await status_of(store, session_id.upper())).known
        assert not (await status_of(store, session_id.replace("-", ""))).known
        assert not await store.revoke(session_id.upper())

    run(url, test)


def test_many_are_asked_about_at_once_and_each_has_an_answer(url: str) -> None:
    async def test(store: SessionStore) -> None:
        sessions = [await log_in(store, str(user)) for user in range(5)]
        keys = [SessionKey(session_id=each[0], user_id=str(user)) for user, each in enumerate(sessions)]
        nobody = SessionKey(session_id=str(uuid4()), user_id="0")
        await store.revoke(sessions[2][0])
        await store.revoke_user("3")
        statuses = await store.statuses([*keys, nobody])
        assert [statuses[key].active for key in keys] == [True, True, False, True, True]
        assert [statuses[key].not_before is None for key in keys] == [True, True, True, False, True]
        assert not statuses[nobody].known
        assert len(statuses) == 6

    run(url, test)


def test_a_thousand_keys_fit_into_one_batch(url: str) -> None:
    async def test(store: SessionStore) -> None:
        session = await log_in(store, "7")
        keys = [SessionKey(session_id=str(uuid4()), user_id=str(user)) for user in range(1_000)]
        mine = SessionKey(session_id=session[0], user_id="7")
        statuses = await store.statuses([*keys, mine])
        assert len(statuses) == 1_001
        assert [key for key, status in statuses.items() if status.known] == [mine]

    run(url, test)


def test_a_revoked_session_stays_known_and_is_revoked_once(url: str) -> None:
    async def test(store: SessionStore) -> None:
        session, other = await log_in(store), await log_in(store)
        assert await store.revoke(session[0])
        assert not await store.revoke(session[0])
        assert await status_of(store, session[0]) == SessionStatus(known=True, active=False)
        assert await stands(store, other)

    run(url, test)


@pytest.mark.parametrize("session_id", ["", "no uuid", str(uuid4())])
def test_revoking_what_does_not_exist_says_so(url: str, session_id: str) -> None:
    async def test(store: SessionStore) -> None:
        assert not await store.revoke(session_id)

    run(url, test)


def test_a_mark_ends_the_sessions_of_one_user_and_a_login_after_it_works(url: str) -> None:
    async def test(store: SessionStore) -> None:
        before, elsewhere = await log_in(store, "7"), await log_in(store, "8")
        await store.revoke_user("7")
        after = await log_in(store, "7")
        assert not await stands(store, before, "7")
        assert await stands(store, elsewhere, "8")
        assert await stands(store, after, "7")

    run(url, test)


def test_a_mark_on_everybody_ends_all_and_logins_after_it_work(url: str) -> None:
    async def test(store: SessionStore) -> None:
        before = [(user, await log_in(store, user)) for user in ("7", "8")]
        await store.revoke_all()
        after = [(user, await log_in(store, user)) for user in ("7", "8")]
        assert [await stands(store, session, user) for user, session in before] == [False, False]
        assert [await stands(store, session, user) for user, session in after] == [True, True]

    run(url, test)


def test_the_later_of_the_two_marks_counts(url: str) -> None:
    async def test(store: SessionStore) -> None:
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

    run(url, test)


def test_marks_apply_to_a_token_that_never_had_a_row(url: str) -> None:
    async def test(store: SessionStore) -> None:
        stamp = await store.stamp("7")
        await store.revoke_user("7")
        status = await status_of(store, None)
        assert not status.known
        assert status.not_before is not None
        assert status.not_before >= stamp

    run(url, test)


def test_a_stamp_is_later_than_every_mark_and_to_the_microsecond(url: str) -> None:
    async def test(store: SessionStore) -> None:
        for _ in range(20):
            await store.revoke_user("7")
            not_before = (await status_of(store, None)).not_before
            stamp = await store.stamp("7")
            assert not_before is not None
            assert stamp > not_before
            assert stamp == round(stamp * 1e6) / 1e6
            assert moment(stamp).timestamp() == stamp

    run(url, test)


def test_all_but_this_one(url: str) -> None:
    async def test(store: SessionStore) -> None:
        others, mine = [await log_in(store), await log_in(store)], await log_in(store)
        await store.revoke_user("7", keep=mine[0])
        assert [await stands(store, other) for other in others] == [False, False]
        assert await stands(store, mine)
        assert [row.id for row in await store.sessions_of("7")] == [mine[0]]

    run(url, test)


def test_a_session_that_was_kept_falls_with_the_next_mark(url: str) -> None:
    async def test(store: SessionStore) -> None:
        mine = await log_in(store)
        await store.revoke_user("7", keep=mine[0])
        await store.revoke_user("7")
        assert not await stands(store, mine)

    run(url, test)


def test_a_session_that_was_kept_falls_with_everybodys(url: str) -> None:
    async def test(store: SessionStore) -> None:
        mine = await log_in(store)
        await store.revoke_user("7", keep=mine[0])
        await store.revoke_all()
        assert not await stands(store, mine)

    run(url, test)


@pytest.mark.parametrize("how", ["revoked", "marked", "of another user", "no row", "no id"])
def test_what_is_not_active_is_not_kept(url: str, how: str) -> None:
    async def test(store: SessionStore) -> None:
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

    run(url, test)


def test_sessions_of_a_user_come_by_their_latest_activity(url: str) -> None:
    async def test(store: SessionStore) -> None:
        now = moment(await store.stamp("7"))
        ids = [
            (await log_in(store, last_activity_at=now - timedelta(minutes=ago), label=f"{ago} minutes"))[0]
            for ago in (2, 1, 3)
        ]
        await log_in(store, "8")
        rows = await store.sessions_of("7")
        assert [row.id for row in rows] == [ids[1], ids[0], ids[2]]
        assert [row.label for row in rows] == ["1 minutes", "2 minutes", "3 minutes"]

    run(url, test)


def test_a_row_comes_back_as_it_was_written(url: str) -> None:
    async def test(store: SessionStore) -> None:
        written = record(label="Firefox on Linux")
        await store.add(written)
        assert await store.sessions_of("7") == [written]

    run(url, test)


def test_expired_revoked_and_marked_sessions_are_not_listed(url: str) -> None:
    async def test(store: SessionStore) -> None:
        now = moment(await store.stamp("7"))
        await log_in(store, expires_at=now - timedelta(seconds=1))
        revoked, _ = await log_in(store), await log_in(store)
        await store.revoke(revoked[0])
        assert len(await store.sessions_of("7")) == 1
        await store.revoke_user("7")
        assert await store.sessions_of("7") == []
        assert await store.sessions_of("nobody") == []

    run(url, test)


def test_a_token_that_never_had_a_row_is_revoked_by_one(url: str) -> None:
    async def test(store: SessionStore) -> None:
        row = record(is_active=False, revoked_at=moment(await store.stamp("7")))
        await store.revoke_token(row)
        await store.revoke_token(row)
        assert await status_of(store, row.id) == SessionStatus(known=True, active=False)
        assert await store.sessions_of("7") == []

    run(url, test)


def test_revoking_a_token_revokes_a_row_that_exists(url: str) -> None:
    async def test(store: SessionStore) -> None:
        session_id, auth_time = await log_in(store)
        await store.revoke_token(record(id=session_id, is_active=False, revoked_at=moment(auth_time)))
        assert not (await status_of(store, session_id)).active
        assert not await store.revoke(session_id)

    run(url, test)


def test_the_moment_of_a_mark_is_revoked_and_a_login_in_that_moment_works(clocked_url: str) -> None:
    async def test(store: SessionStore) -> None:
        for _ in range(3):  # the clock stands still
            session, elsewhere = await log_in(store), await log_in(store, "8")
            await store.revoke_user("7")
            assert not await stands(store, session)
            assert await stands(store, elsewhere, "8")
            session = await log_in(store)
            assert await stands(store, session)
            await store.revoke_all()
            assert not await stands(store, session)
            assert not await stands(store, elsewhere, "8")

    run(clocked_url, test, FakeClock())


def test_a_clock_that_is_set_back_revives_nothing_and_saves_nobody(clocked_url: str) -> None:
    clock = FakeClock()

    async def test(store: SessionStore) -> None:
        first = await log_in(store)
        await store.revoke_user("7")
        clock.wall -= 3_600
        assert not await stands(store, first)
        second = await log_in(store)
        assert await stands(store, second)
        await store.revoke_user("7")
        assert not await stands(store, second)
        third = await log_in(store)
        await store.revoke_all()
        assert not await stands(store, third)
        assert await stands(store, await log_in(store))

    run(clocked_url, test, clock)


def test_a_session_ends_when_its_time_has_come(clocked_url: str) -> None:
    clock = FakeClock()

    async def test(store: SessionStore) -> None:
        await log_in(store)
        clock.advance(7 * 86_400 - 1)
        assert len(await store.sessions_of("7")) == 1
        clock.advance(1)
        assert await store.sessions_of("7") == []

    run(clocked_url, test, clock)


def test_the_row_of_an_active_session_learns_of_a_newer_token(url: str) -> None:
    async def test(store: SessionStore) -> None:
        session_id, _ = await log_in(store)
        (before,) = await store.sessions_of("7")
        assert await store.replace_token(session_id, user_id="7", session_token="1" * 64)
        (row,) = await store.sessions_of("7")
        assert row.session_token == "1" * 64
        assert row.expires_at == before.expires_at
        assert (row.created_at, row.label) == (before.created_at, before.label)

    run(url, test)


def test_a_renewed_session_ends_later_and_never_earlier(url: str) -> None:
    async def test(store: SessionStore) -> None:
        session_id, began = await log_in(store)
        later, latest = moment(began + 8 * 86_400), moment(began + 9 * 86_400)
        for expires_at in (latest, later):  # of two at once, the earlier one is written last
            assert await store.replace_token(session_id, user_id="7", session_token="2" * 64, expires_at=expires_at)
            assert [row.expires_at for row in await store.sessions_of("7")] == [latest]

    run(url, test)


def test_only_an_active_row_of_that_user_learns_of_a_newer_token(url: str) -> None:
    async def test(store: SessionStore) -> None:
        revoked, active = await log_in(store), await log_in(store)
        await store.revoke(revoked[0])
        for session_id, user_id in ((revoked[0], "7"), (active[0], "8"), (str(uuid4()), "7"), ("no uuid", "7")):
            assert not await store.replace_token(session_id, user_id=user_id, session_token="3" * 64)
        assert [row.session_token for row in await store.sessions_of("7")] == ["0" * 64]
        assert not await stands(store, revoked)

    run(url, test)


def test_a_newer_token_of_a_session_that_a_mark_ended_stays_ended(url: str) -> None:
    async def test(store: SessionStore) -> None:
        session = await log_in(store)
        await store.revoke_user("7")
        await store.replace_token(session[0], user_id="7", session_token="4" * 64)
        assert not await stands(store, session)

    run(url, test)
