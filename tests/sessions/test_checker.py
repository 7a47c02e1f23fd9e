"""Whether a session is still active: how old an answer may be, what stands while there is none, what never revives."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

import pytest

from jwt_middleware import Revocation, names
from jwt_middleware.counters import Counters
from jwt_middleware.errors import ConfigError, Reason, Refusal
from jwt_middleware.lookup.batch import Found, LookupFailed
from jwt_middleware.sessions import status_cache
from jwt_middleware.sessions.checker import STALE, SessionChecker
from jwt_middleware.types import FillOutcome, SessionKey, SessionStatus
from tests.support.lookups import turns
from tests.support.world import EPOCH, FakeClock

KEY = SessionKey(session_id="s", user_id="7")
ACTIVE = SessionStatus(known=True, active=True)
REVOKED = SessionStatus(known=True, active=False)
NO_ROW = SessionStatus(known=False, active=False)
BEGAN = EPOCH - 100.0


@dataclass
class Store:
    """StatusCache as a lookup does: at once, or when a test lets a query go."""

    clock: FakeClock
    status: dict[SessionKey, SessionStatus] = field(default_factory=dict)
    down: bool | Exception = False
    origin: Literal["database", "coalesced"] = "database"
    asked: list[tuple[SessionKey, bool]] = field(default_factory=list)
    gates: list[asyncio.Event] = field(default_factory=list)
    joined_at: float | None = None
    """When the query left that the next question joins."""

    async def get(self, key: SessionKey, *, fresh: bool = False) -> Found[SessionStatus]:
        self.asked.append((key, fresh))
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


class World:
    """A view over that store, asked as the pipeline asks."""

    def __init__(self, *, staleness: float = 10.0, **settings: Any) -> None:
        self.clock = FakeClock()
        self.store = Store(self.clock, {KEY: ACTIVE})
        self.counters = Counters()
        self.view = SessionChecker(
            Revocation(max_staleness=timedelta(seconds=staleness), **settings),
            self.store,
            clock=self.clock,
            counters=self.counters,
        )

    async def ask(
        self, key: SessionKey = KEY, *, began: float = BEGAN, listed: bool = True, fresh: bool = False
    ) -> str:
        """`passes`, or the reason why it does not."""
        try:
            if fresh or self.view.check_now(key, began, listed=listed) is None:
                await self.view.check(key, began, listed=listed, fresh=fresh)
        except Refusal as refusal:
            return refusal.reason.value
        return "passes"

    @property
    def queries(self) -> int:
        return len(self.store.asked)

    @property
    def stale(self) -> int:
        return next(count for metric, _, count in self.counters.series() if metric is names.REVOCATION_STALE)


async def test_an_answer_is_believed_within_the_bound_and_asked_for_again_past_it() -> None:
    world = World()
    assert [await world.ask() for _ in range(3)] == ["passes"] * 3
    world.clock.advance(4.9)
    assert await world.ask() == "passes"
    assert world.queries == 1
    world.store.status[KEY] = REVOKED
    world.clock.advance(5.1)
    assert await world.ask() == Reason.SESSION_REVOKED
    assert world.queries == 2


async def test_until_half_the_bound_the_answer_need_not_be_looked_at_again() -> None:
    world = World()
    asked_at = world.clock.monotonic()
    assert await world.view.check(KEY, BEGAN, listed=True) == asked_at + 5.0
    world.clock.advance(1.0)
    assert world.view.check_now(KEY, BEGAN, listed=True) == asked_at + 5.0


async def test_from_half_the_bound_on_it_is_checked_in_the_background_once() -> None:
    world = World()
    await world.ask()
    world.clock.advance(5.0)
    world.store.status[KEY] = REVOKED
    assert [await world.ask() for _ in range(5)] == ["passes"] * 5  # no request waits
    await turns()
    assert world.queries == 2
    assert await world.ask() == Reason.SESSION_REVOKED
    assert world.queries == 2


async def test_an_answer_is_as_old_as_its_query() -> None:
    world = World()
    gate = asyncio.Event()
    world.store.gates = [gate]
    asking = asyncio.create_task(world.ask())
    await turns()
    world.clock.advance(9.0)
    gate.set()
    assert await asking == "passes"
    world.clock.advance(1.0)
    await world.ask()
    assert world.queries == 2


async def test_a_bound_of_zero_asks_for_each_request() -> None:
    world = World(staleness=0.0)
    assert [await world.ask() for _ in range(3)] == ["passes"] * 3
    assert world.queries == 3


async def test_joining_a_query_that_left_before_the_bound_is_not_enough() -> None:
    world = World(staleness=1.0)
    world.store.joined_at = world.clock.monotonic() - 1.5
    assert await world.ask() == "passes"
    assert world.store.asked == [(KEY, False), (KEY, True)]
    world.store.joined_at = world.clock.monotonic() - 0.5
    assert await world.ask(SessionKey(session_id="t", user_id="7"), listed=False) == "passes"
    assert world.queries == 3


@pytest.mark.parametrize(
    ("status", "listed", "verdict"),
    [
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
    ],
)
async def test_what_a_row_and_a_mark_say(status: SessionStatus | None, listed: bool, verdict: str) -> None:
    world = World()
    world.store.status = {} if status is None else {KEY: status}
    assert await world.ask(listed=listed) == verdict
    assert await world.ask(listed=listed) == verdict
    assert world.queries == 1


async def test_without_a_beginning_any_mark_revokes() -> None:
    world = World()
    world.store.status[KEY] = SessionStatus(known=False, active=False, not_before=1.0)
    assert await world.ask(began=float("-inf"), listed=False) == Reason.SESSION_REVOKED


async def test_while_the_store_is_down_the_last_answer_stands_within_the_bound_and_the_grace() -> None:
    world = World(stale_if_error=timedelta(seconds=20))
    await world.ask()
    world.store.down = True
    for seconds, verdict in ((9.9, "passes"), (0.2, "passes"), (19.8, "passes"), (0.2, "sessions_unavailable")):
        world.clock.advance(seconds)
        assert await world.ask() == verdict
        await turns()
    assert world.stale == 2  # past the bound
    world.store.down = False
    assert await world.ask() == "passes"


async def test_without_a_grace_a_store_that_is_down_refuses_past_the_bound() -> None:
    world = World()
    await world.ask()
    world.store.down = True
    world.clock.advance(9.0)
    assert await world.ask() == "passes"
    await turns()
    world.clock.advance(1.0)
    assert await world.ask() == Reason.SESSIONS_UNAVAILABLE
    assert await world.ask(SessionKey(session_id="never seen", user_id="7")) == Reason.SESSIONS_UNAVAILABLE
    assert world.stale == 0


async def test_allow_lets_pass_and_counts() -> None:
    world = World(on_unavailable="allow")
    await world.ask()
    world.store.down = True
    world.clock.advance(1_000.0)
    assert await world.ask() == "passes"
    assert await world.ask(SessionKey(session_id="never seen", user_id="7")) == "passes"
    assert world.stale == 2
    assert await world.view.check(KEY, BEGAN, listed=True) == STALE


@pytest.mark.parametrize("policy", ["refuse", "allow"])
@pytest.mark.parametrize("status", [REVOKED, NO_ROW, SessionStatus(known=True, active=True, not_before=BEGAN)])
async def test_what_was_revoked_stays_revoked_whatever_the_store_does(policy: str, status: SessionStatus) -> None:
    world = World(on_unavailable=policy, stale_if_error=timedelta(days=1))
    world.store.status[KEY] = status
    verdict = await world.ask()
    assert verdict in ("session_revoked", "session_unknown")
    world.store.down = True
    world.clock.advance(100_000.0)
    assert await world.ask() == verdict


@pytest.mark.parametrize(
    "revoked", [{"session_id": "s"}, {"user_id": "7"}, {"user_id": "7", "keep": "another"}, {}], ids=str
)
@pytest.mark.parametrize("known", [True, False])
async def test_what_was_revoked_here_is_not_revived_by_an_outage(revoked: dict[str, Any], known: bool) -> None:
    world = World(on_unavailable="allow")
    if known:
        await world.ask()
    world.view.revoked_here(**revoked)
    world.store.down = True
    assert await world.ask() == Reason.SESSION_REVOKED
    assert await world.ask(SessionKey(session_id="t", user_id="8")) == ("passes" if revoked else "session_revoked")


async def test_the_kept_one_and_a_login_after_the_mark_stand_during_an_outage() -> None:
    world = World(on_unavailable="allow")
    world.view.revoked_here(user_id="7", keep="s")
    world.store.down = True
    assert await world.ask() == "passes"
    assert await world.ask(SessionKey(session_id="t", user_id="7"), began=world.clock.now() + 1.0) == "passes"
    assert await world.ask(SessionKey(session_id="u", user_id="7")) == Reason.SESSION_REVOKED


async def test_an_answer_after_the_revocation_stands_in_an_outage() -> None:
    world = World(stale_if_error=timedelta(seconds=20))
    world.view.revoked_here(user_id="7")  # the store's clock knows better: this login was later
    assert await world.ask() == "passes"
    world.store.down = True
    world.clock.advance(15.0)
    assert await world.ask() == "passes"


@pytest.mark.parametrize("revoked", [{"session_id": "s"}, {"user_id": "7"}, {}], ids=str)
async def test_the_next_request_sees_what_was_revoked_here(revoked: dict[str, Any]) -> None:
    world = World()
    await world.ask()
    world.store.status[KEY] = REVOKED
    world.view.revoked_here(**revoked)
    assert await world.ask() == Reason.SESSION_REVOKED
    assert world.queries == 2


async def test_what_was_revoked_here_of_others_costs_nothing() -> None:
    world = World()
    await world.ask()
    world.view.revoked_here(session_id="t")
    world.view.revoked_here(user_id="8")
    assert await world.ask() == "passes"
    assert world.queries == 1


async def test_a_revocation_that_failed_is_asked_about() -> None:
    world = World(on_unavailable="allow")
    await world.ask()
    reaches: list[dict[str, Any]] = [{"session_id": "s"}, {"user_id": "7"}, {}]
    for reach in reaches:
        world.view.revoked_here(**reach, done=False)
    assert await world.ask() == "passes"
    assert world.queries == 2
    world.view.revoked_here(session_id="s", done=False)
    world.store.down = True
    assert await world.ask() == "passes"  # nothing was revoked, and "allow" is what they asked for


async def test_a_query_that_left_before_the_revocation_fills_nothing() -> None:
    world = World()
    gate = asyncio.Event()
    world.store.gates = [gate]
    asking = asyncio.create_task(world.ask())
    await turns()  # the row was read: still active
    world.store.status[KEY] = REVOKED
    world.view.revoked_here(session_id="s")
    gate.set()
    assert await asking == "passes"  # that request came before
    assert await world.ask() == Reason.SESSION_REVOKED


async def test_a_request_after_the_revocation_does_not_rely_on_a_query_that_left_before() -> None:
    world = World()
    world.store.joined_at = world.clock.monotonic()
    world.view.revoked_here(session_id="s")
    world.store.status[KEY] = REVOKED
    assert await world.ask() == Reason.SESSION_REVOKED
    assert world.store.asked == [(KEY, False), (KEY, True)]


async def test_an_older_query_that_is_answered_later_revives_nothing() -> None:
    world = World()
    gate = asyncio.Event()
    world.store.gates = [gate]
    older = asyncio.create_task(world.ask(fresh=True))
    await turns()  # the row was read: still active
    world.clock.advance(1.0)
    world.store.status[KEY] = REVOKED
    assert await world.ask(fresh=True) == Reason.SESSION_REVOKED
    gate.set()
    await older
    assert await world.ask() == Reason.SESSION_REVOKED


async def test_an_uncached_check_is_never_answered_from_memory() -> None:
    world = World(on_unavailable="allow", stale_if_error=timedelta(days=1))
    await world.ask()
    assert await world.ask(fresh=True) == "passes"
    assert world.store.asked[-1] == (KEY, True)
    world.store.down = True
    assert await world.ask(fresh=True) == Reason.SESSIONS_UNAVAILABLE
    world.store.down = False
    world.store.status[KEY] = REVOKED
    assert await world.ask(fresh=True) == Reason.SESSION_REVOKED


@pytest.mark.parametrize("status", [ACTIVE, REVOKED])
async def test_what_is_known_is_bounded(status: SessionStatus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_cache, "MOST_KNOWN", 10)

    world = World()
    keys = [SessionKey(session_id=str(number), user_id="7") for number in range(50)]
    world.store.status = dict.fromkeys(keys, status)
    for key in keys:
        await world.ask(key)
        assert len(world.view) <= 10
    for key in keys[-6:]:
        await world.ask(key)
    assert world.queries == 50


async def test_an_answer_is_forgotten_once_it_is_of_no_use_and_one_that_ended_a_session_never() -> None:
    ended = SessionKey(session_id="ended", user_id="7")

    world = World(stale_if_error=timedelta(seconds=20))
    world.store.status[ended] = REVOKED
    assert await world.ask(ended) == Reason.SESSION_REVOKED
    for number in range(100):
        assert await world.ask(SessionKey(session_id=str(number), user_id="8"), listed=False) == "passes"
        world.clock.advance(1.0)
    assert 30 <= len(world.view) - 1 <= 60, "what is of use, and at most as much again"
    world.clock.advance(3600.0)
    world.store.down = True
    assert await world.ask(ended) == Reason.SESSION_REVOKED


async def test_where_all_may_pass_in_an_outage_an_answer_is_of_use_for_good() -> None:
    """It may be newer than what this process revoked, and then it says that the session stands."""

    world = World(on_unavailable="allow")
    world.view.revoked_here(user_id="7")
    world.clock.advance(0.1)
    assert await world.ask(began=world.clock.wall - 1.0) == "passes"  # by the store's clock it is the later one
    for _ in range(5):
        world.clock.advance(100.0)
        await world.ask(SessionKey(session_id="other", user_id="8"), listed=False)
    world.store.down = True
    assert await world.ask(began=world.clock.wall - 501.0) == "passes"


async def test_a_session_that_is_asked_about_again_is_remembered_again() -> None:
    world = World()
    for status, verdict in ((REVOKED, Reason.SESSION_REVOKED), (ACTIVE, "passes"), (REVOKED, "session_revoked")):
        world.store.status[KEY] = status
        assert await world.ask(fresh=True) == verdict
        assert len(world.view) == 1


async def test_an_answer_for_one_user_is_none_for_another() -> None:
    world = World()
    assert await world.ask() == "passes"
    assert await world.ask(SessionKey(session_id="s", user_id="8")) == Reason.SESSION_UNKNOWN
    assert world.queries == 2


async def test_what_is_known_of_a_session_is_nothing_that_the_garbage_collector_follows() -> None:
    world = World()
    await world.ask()
    answer = world.view._answers.of(KEY)
    assert not gc.is_tracked(answer)
    assert "7" not in repr(answer)


async def test_what_was_revoked_here_is_bounded_and_what_is_forgotten_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(status_cache, "MOST_REVOKED", 10)

    world = World()
    await world.ask()
    world.view.revoked_here(session_id="s")
    world.store.status[KEY] = REVOKED
    for number in range(20):
        world.view.revoked_here(session_id=f"other {number}")
    assert await world.ask() == Reason.SESSION_REVOKED
    assert len(world.view._here._entries) == 10


@pytest.mark.parametrize("failure", [True, ConfigError("another loop")])
async def test_a_background_check_that_fails_harms_nobody_and_is_tried_again(failure: Any) -> None:
    world = World()
    await world.ask()
    world.clock.advance(6.0)
    world.store.down = failure
    for expected in (2, 3):
        assert await world.ask() == "passes"
        await turns()
        assert world.queries == expected
    await world.view.aclose()


def test_closing_ends_the_checks_in_the_background() -> None:
    async def main() -> None:
        world = World()
        await world.ask()
        world.clock.advance(6.0)
        world.store.gates = [asyncio.Event()]
        await world.ask()
        await turns()
        assert len(asyncio.all_tasks()) == 2
        await world.view.aclose()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    "settings",
    [
        {"max_staleness": timedelta(seconds=-1)},
        {"stale_if_error": timedelta(seconds=-1)},
        {"on_unavailable": "ignore"},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="Revocation"):
        Revocation(**settings)


def test_the_defaults_are_those_of_the_contract() -> None:
    assert Revocation() == Revocation(
        max_staleness=timedelta(seconds=5), stale_if_error=timedelta(0), on_unavailable="refuse"
    )
