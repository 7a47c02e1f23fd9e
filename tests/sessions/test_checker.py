"""Whether a session is still active: how old its status may be, what counts in an outage, what never revives."""

from __future__ import annotations

import asyncio
import gc
from datetime import timedelta
from typing import Any

import pytest

from jwt_middleware import Revocation
from jwt_middleware.counters import Counters
from jwt_middleware.errors import ConfigError, Reason
from jwt_middleware.lookup.batch import Found, LookupFailed
from jwt_middleware.sessions import status_cache
from jwt_middleware.sessions.checker import SessionChecker, Standing
from jwt_middleware.types import FillOutcome, SessionKey, SessionStatus
from tests.support.asgi import counted
from tests.support.lookups import runtime, turns
from tests.support.world import EPOCH, FakeClock

KEY = SessionKey(session_id="s", user_id="7")
ACTIVE = SessionStatus(known=True, active=True)
REVOKED = SessionStatus(known=True, active=False)
NO_ROW = SessionStatus(known=False, active=False)
BEGAN = EPOCH - 100.0


class Store:
    """Returns statuses as a lookup does: at once, or when a test lets a query go."""

    down: bool | Exception = False
    joined_at: float | None = None
    """When the query left that the next one joins."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock, self.status = clock, {KEY: ACTIVE}
        self.queries, self.gates = list[tuple[SessionKey, bool]](), list[asyncio.Event]()

    async def get(self, key: SessionKey, *, fresh: bool = False) -> Found[SessionStatus]:
        self.queries.append((key, fresh))
        status = self.status.get(key)  # as it was when the query left
        joined = self.joined_at is not None and not fresh
        sent_at = self.joined_at if joined and self.joined_at is not None else self.clock.monotonic()
        if self.gates:
            await self.gates.pop(0).wait()
        if isinstance(self.down, Exception):
            raise self.down
        if self.down:
            raise LookupFailed(FillOutcome.ERROR)
        return Found(value=status, origin="coalesced" if joined else "database", sent_at=sent_at)


class Checked:
    """A checker over that store."""

    def __init__(self, *, staleness: float = 10.0, **settings: Any) -> None:
        self.clock, self.counters = FakeClock(), Counters()
        self.store = Store(self.clock)
        revocation = Revocation(max_staleness=timedelta(seconds=staleness), **settings)
        self.checker = SessionChecker(revocation, self.store, runtime(clock=self.clock, counters=self.counters))

    async def check(self, key: SessionKey = KEY, *, began: float | None = BEGAN, **how: bool) -> str:
        """`passes`, or the reason why it does not."""
        reason = (await self.checker.check(key, began, **{"listed": True, **how})).reason
        return "passes" if reason is None else reason.value

    def revoke(self, *, session: str = "", user: str = "", keep: str | None = None, done: bool = True) -> None:
        """This process revokes a session, a user, or every session."""
        if session:
            self.checker.session_revoked(session, done=done)
        elif user:
            self.checker.user_revoked(user, keep=keep, done=done)
        else:
            self.checker.all_revoked(done=done)

    @property
    def queries(self) -> int:
        return len(self.store.queries)

    @property
    def stale(self) -> int:
        return counted(self.counters, "stale", zeros=True)[()]


class TestBound:
    async def test_a_status_counts_within_the_bound_and_is_fetched_again_past_it(self) -> None:
        checked = Checked()
        assert [await checked.check() for _ in range(3)] == ["passes"] * 3
        checked.clock.advance(4.9)
        assert await checked.check() == "passes"
        assert checked.queries == 1
        checked.store.status[KEY] = REVOKED
        checked.clock.advance(5.1)
        assert await checked.check() == Reason.SESSION_REVOKED
        assert checked.queries == 2

    async def test_until_half_the_bound_a_caller_need_not_check_again(self) -> None:
        checked = Checked()
        asked_at = checked.clock.monotonic()
        assert await checked.checker.check(KEY, BEGAN, listed=True) == Standing(until=asked_at + 5.0)
        checked.clock.advance(1.0)
        assert checked.checker.cached(KEY, BEGAN, listed=True) == Standing(until=asked_at + 5.0)

    async def test_from_half_the_bound_on_it_is_rechecked_in_the_background_once(self) -> None:
        checked = Checked()
        await checked.check()
        checked.clock.advance(5.0)
        checked.store.status[KEY] = REVOKED
        assert [await checked.check() for _ in range(5)] == ["passes"] * 5  # no request waits
        await turns()
        assert checked.queries == 2
        assert await checked.check() == Reason.SESSION_REVOKED
        assert checked.queries == 2

    async def test_a_status_is_as_old_as_its_query(self) -> None:
        checked = Checked()
        gate = asyncio.Event()
        checked.store.gates = [gate]
        asking = asyncio.create_task(checked.check())
        await turns()
        checked.clock.advance(9.0)
        gate.set()
        assert await asking == "passes"
        checked.clock.advance(1.0)
        await checked.check()
        assert checked.queries == 2

    async def test_a_bound_of_zero_fetches_for_each_request(self) -> None:
        checked = Checked(staleness=0.0)
        assert [await checked.check() for _ in range(3)] == ["passes"] * 3
        assert checked.queries == 3

    async def test_joining_a_query_that_left_before_the_bound_is_not_enough(self) -> None:
        checked = Checked(staleness=1.0)
        checked.store.joined_at = checked.clock.monotonic() - 1.5
        assert await checked.check() == "passes"
        assert checked.store.queries == [(KEY, False), (KEY, True)]
        checked.store.joined_at = checked.clock.monotonic() - 0.5
        assert await checked.check(SessionKey(session_id="t", user_id="7"), listed=False) == "passes"
        assert checked.queries == 3


class TestStatus:
    async def test_what_a_row_and_a_mark_say(self) -> None:
        for status, listed, verdict in (
            (ACTIVE, True, "passes"),
            (ACTIVE, False, "passes"),
            (REVOKED, True, "session_revoked"),
            (REVOKED, False, "session_revoked"),
            (NO_ROW, True, "session_unknown"),
            (NO_ROW, False, "passes"),
            (None, True, "session_unknown"),
            (None, False, "passes"),
            (SessionStatus(known=True, active=True, not_before=BEGAN - 1e-6), True, "passes"),
            (SessionStatus(known=True, active=True, not_before=BEGAN), True, "session_revoked"),
            (SessionStatus(known=False, active=False, not_before=BEGAN), False, "session_revoked"),
            (SessionStatus(known=False, active=False, not_before=BEGAN - 1), False, "passes"),
        ):
            checked = Checked()
            checked.store.status = {} if status is None else {KEY: status}
            verdicts = [await checked.check(listed=listed) for _ in range(2)]
            assert (verdicts, checked.queries) == ([verdict] * 2, 1), (status, listed)

    async def test_without_a_beginning_any_mark_revokes(self) -> None:
        checked = Checked()
        checked.store.status[KEY] = SessionStatus(known=False, active=False, not_before=1.0)
        assert await checked.check(began=None, listed=False) == Reason.SESSION_REVOKED


class TestOutage:
    async def test_in_an_outage_the_last_status_counts_within_bound_and_grace(self) -> None:
        checked = Checked(stale_if_error=timedelta(seconds=20))
        await checked.check()
        checked.store.down = True
        for seconds, verdict in ((9.9, "passes"), (0.2, "passes"), (19.8, "passes"), (0.2, "sessions_unavailable")):
            checked.clock.advance(seconds)
            assert await checked.check() == verdict
            await turns()
        assert checked.stale == 2  # past the bound
        checked.store.down = False
        assert await checked.check() == "passes"

    async def test_without_a_grace_an_outage_refuses_past_the_bound(self) -> None:
        checked = Checked()
        await checked.check()
        checked.store.down = True
        checked.clock.advance(9.0)
        assert await checked.check() == "passes"
        await turns()
        checked.clock.advance(1.0)
        assert await checked.check() == Reason.SESSIONS_UNAVAILABLE
        assert await checked.check(SessionKey(session_id="never seen", user_id="7")) == Reason.SESSIONS_UNAVAILABLE
        assert checked.stale == 0

    async def test_allow_lets_pass_and_counts(self) -> None:
        checked = Checked(on_unavailable="allow")
        await checked.check()
        checked.store.down = True
        checked.clock.advance(1_000.0)
        assert await checked.check() == "passes"
        assert await checked.check(SessionKey(session_id="never seen", user_id="7")) == "passes"
        assert checked.stale == 2
        assert await checked.checker.check(KEY, BEGAN, listed=True) == Standing(stale=True)

    @pytest.mark.parametrize("policy", ["refuse", "allow"])
    @pytest.mark.parametrize("status", [REVOKED, NO_ROW, SessionStatus(known=True, active=True, not_before=BEGAN)])
    async def test_what_was_revoked_stays_revoked_whatever_the_store_does(
        self, policy: str, status: SessionStatus
    ) -> None:
        checked = Checked(on_unavailable=policy, stale_if_error=timedelta(days=1))
        checked.store.status[KEY] = status
        verdict = await checked.check()
        assert verdict in ("session_revoked", "session_unknown")
        checked.store.down = True
        checked.clock.advance(100_000.0)
        assert await checked.check() == verdict

    @pytest.mark.parametrize("revoked", [{"session": "s"}, {"user": "7"}, {"user": "7", "keep": "another"}, {}])
    @pytest.mark.parametrize("known", [True, False])
    async def test_what_was_revoked_here_is_not_revived_by_an_outage(
        self, revoked: dict[str, Any], known: bool
    ) -> None:
        checked = Checked(on_unavailable="allow")
        if known:
            await checked.check()
        checked.revoke(**revoked)
        checked.store.down = True
        assert await checked.check() == Reason.SESSION_REVOKED
        assert await checked.check(SessionKey(session_id="t", user_id="8")) == (
            "passes" if revoked else "session_revoked"
        )

    async def test_the_kept_session_and_a_later_log_in_pass_during_an_outage(self) -> None:
        checked = Checked(on_unavailable="allow")
        checked.revoke(user="7", keep="s")
        checked.store.down = True
        assert await checked.check() == "passes"
        assert await checked.check(SessionKey(session_id="t", user_id="7"), began=checked.clock.now() + 1.0) == "passes"
        assert await checked.check(SessionKey(session_id="u", user_id="7")) == Reason.SESSION_REVOKED

    async def test_a_status_fetched_after_the_revocation_counts_in_an_outage(self) -> None:
        checked = Checked(stale_if_error=timedelta(seconds=20))
        checked.revoke(user="7")  # the store's clock knows better: this login was later
        assert await checked.check() == "passes"
        checked.store.down = True
        checked.clock.advance(15.0)
        assert await checked.check() == "passes"


class TestRevocation:
    @pytest.mark.parametrize("revoked", [{"session": "s"}, {"user": "7"}, {}], ids=str)
    async def test_the_next_request_sees_what_was_revoked_here(self, revoked: dict[str, Any]) -> None:
        checked = Checked()
        await checked.check()
        checked.store.status[KEY] = REVOKED
        checked.revoke(**revoked)
        assert await checked.check() == Reason.SESSION_REVOKED
        assert checked.queries == 2

    async def test_a_revocation_of_others_costs_no_query(self) -> None:
        checked = Checked()
        await checked.check()
        checked.revoke(session="t")
        checked.revoke(user="8")
        assert await checked.check() == "passes"
        assert checked.queries == 1

    async def test_a_revocation_that_failed_makes_the_status_doubtful(self) -> None:
        checked = Checked(on_unavailable="allow")
        await checked.check()
        reaches: list[dict[str, Any]] = [{"session": "s"}, {"user": "7"}, {}]
        for reach in reaches:
            checked.revoke(**reach, done=False)
        assert await checked.check() == "passes"
        assert checked.queries == 2
        checked.revoke(session="s", done=False)
        checked.store.down = True
        assert await checked.check() == "passes"  # nothing was revoked, and "allow" is what they asked for

    async def test_a_query_that_left_before_the_revocation_is_not_cached(self) -> None:
        checked = Checked()
        gate = asyncio.Event()
        checked.store.gates = [gate]
        asking = asyncio.create_task(checked.check())
        await turns()  # the row was read: still active
        checked.store.status[KEY] = REVOKED
        checked.revoke(session="s")
        gate.set()
        assert await asking == "passes"  # that request came before
        assert await checked.check() == Reason.SESSION_REVOKED

    async def test_a_request_after_the_revocation_joins_no_earlier_query(self) -> None:
        checked = Checked()
        checked.store.joined_at = checked.clock.monotonic()
        checked.revoke(session="s")
        checked.store.status[KEY] = REVOKED
        assert await checked.check() == Reason.SESSION_REVOKED
        assert checked.store.queries == [(KEY, False), (KEY, True)]

    async def test_an_older_query_that_returns_later_revives_nothing(self) -> None:
        checked = Checked()
        gate = asyncio.Event()
        checked.store.gates = [gate]
        older = asyncio.create_task(checked.check(fresh=True))
        await turns()  # the row was read: still active
        checked.clock.advance(1.0)
        checked.store.status[KEY] = REVOKED
        assert await checked.check(fresh=True) == Reason.SESSION_REVOKED
        gate.set()
        await older
        assert await checked.check() == Reason.SESSION_REVOKED


class TestCache:
    async def test_a_fresh_check_never_uses_the_cache(self) -> None:
        checked = Checked(on_unavailable="allow", stale_if_error=timedelta(days=1))
        await checked.check()
        assert await checked.check(fresh=True) == "passes"
        assert checked.store.queries[-1] == (KEY, True)
        checked.store.down = True
        assert await checked.check(fresh=True) == Reason.SESSIONS_UNAVAILABLE
        checked.store.down = False
        checked.store.status[KEY] = REVOKED
        assert await checked.check(fresh=True) == Reason.SESSION_REVOKED

    @pytest.mark.parametrize("status", [ACTIVE, REVOKED])
    async def test_the_status_cache_is_bounded(self, status: SessionStatus, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(status_cache, "MAX_STATUSES", 10)

        checked = Checked()
        keys = [SessionKey(session_id=str(number), user_id="7") for number in range(50)]
        checked.store.status = dict.fromkeys(keys, status)
        for key in keys:
            await checked.check(key)
            assert len(checked.checker) <= 10
        for key in keys[-6:]:
            await checked.check(key)
        assert checked.queries == 50

    async def test_a_useless_status_is_dropped_and_one_of_an_ended_session_kept(self) -> None:
        ended = SessionKey(session_id="ended", user_id="7")

        checked = Checked(stale_if_error=timedelta(seconds=20))
        checked.store.status[ended] = REVOKED
        assert await checked.check(ended) == Reason.SESSION_REVOKED
        for number in range(100):
            assert await checked.check(SessionKey(session_id=str(number), user_id="8"), listed=False) == "passes"
            checked.clock.advance(1.0)
        assert 30 <= len(checked.checker) - 1 <= 60, "what is of use, and at most as much again"
        checked.clock.advance(3600.0)
        checked.store.down = True
        assert await checked.check(ended) == Reason.SESSION_REVOKED

    async def test_where_an_outage_lets_all_pass_a_status_is_kept_for_good(self) -> None:
        """It may be newer than what this process revoked, and then it says that the session stands."""

        checked = Checked(on_unavailable="allow")
        checked.revoke(user="7")
        checked.clock.advance(0.1)
        # by the store's clock it is the later one
        assert await checked.check(began=checked.clock.wall - 1.0) == "passes"
        for _ in range(5):
            checked.clock.advance(100.0)
            await checked.check(SessionKey(session_id="other", user_id="8"), listed=False)
        checked.store.down = True
        assert await checked.check(began=checked.clock.wall - 501.0) == "passes"

    async def test_the_newest_status_replaces_the_earlier_one(self) -> None:
        checked = Checked()
        for status, verdict in ((REVOKED, Reason.SESSION_REVOKED), (ACTIVE, "passes"), (REVOKED, "session_revoked")):
            checked.store.status[KEY] = status
            assert await checked.check(fresh=True) == verdict
            assert len(checked.checker) == 1

    async def test_a_status_of_one_user_says_nothing_of_another(self) -> None:
        checked = Checked()
        assert await checked.check() == "passes"
        assert await checked.check(SessionKey(session_id="s", user_id="8")) == Reason.SESSION_UNKNOWN
        assert checked.queries == 2

    async def test_the_garbage_collector_does_not_track_statuses(self) -> None:
        checked = Checked()
        await checked.check()
        status = checked.checker._statuses.get(KEY)
        assert not gc.is_tracked(status)
        assert "7" not in repr(status)

    async def test_local_revocations_are_bounded_and_dropped_ones_are_fetched(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(status_cache, "MAX_REVOCATIONS", 10)

        checked = Checked()
        await checked.check()
        checked.revoke(session="s")
        checked.store.status[KEY] = REVOKED
        for number in range(20):
            checked.revoke(session=f"other {number}")
        assert await checked.check() == Reason.SESSION_REVOKED
        assert len(checked.checker._revocations._entries) == 10


class TestBackground:
    @pytest.mark.parametrize("failure", [True, ConfigError("another loop")])
    async def test_a_background_check_that_fails_harms_no_request_and_is_repeated(self, failure: Any) -> None:
        checked = Checked()
        await checked.check()
        checked.clock.advance(6.0)
        checked.store.down = failure
        for expected in (2, 3):
            assert await checked.check() == "passes"
            await turns()
            assert checked.queries == expected
        await checked.checker.aclose()

    async def test_closing_ends_the_checks_in_the_background(self) -> None:
        checked, tasks = Checked(), asyncio.all_tasks()
        await checked.check()
        checked.clock.advance(6.0)
        checked.store.gates = [asyncio.Event()]
        await checked.check()
        await turns()
        assert len(asyncio.all_tasks() - tasks) == 1
        await checked.checker.aclose()
        assert asyncio.all_tasks() == tasks


class TestSettings:
    def test_settings_that_cannot_work_are_refused(self) -> None:
        past = timedelta(seconds=-1)
        wrong: dict[str, Any] = {"max_staleness": past, "stale_if_error": past, "on_unavailable": "ignore"}
        for name, value in wrong.items():
            with pytest.raises(ConfigError, match=rf"{name}\b.* must"):
                Revocation(**{name: value})

    def test_the_defaults_are_those_of_the_contract(self) -> None:
        assert Revocation() == Revocation(
            max_staleness=timedelta(seconds=5), stale_if_error=timedelta(0), on_unavailable="refuse"
        )
