"""A token that was accepted before, once its session must be asked for again: what is spared, and what is said then."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, make_dataclass
from datetime import timedelta
from enum import Enum
from typing import Annotated, Any

import pytest

from jwt_middleware import Claim, MemorySessionStore, Outcome, Reason, Revocation, SessionKey, SessionStatus, names
from tests.support.asgi import counts
from tests.support.lookups import turns
from tests.support.world import DAY, FakeClock, Recorder, Session, authority_of

ADA = Session(user_id="1")


class Store(MemorySessionStore):
    """Counts what it is asked, fails when it is told to, and lets a test act while it is asked."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock=clock)
        self.asked, self.down = 0, False
        self.meanwhile: Any = None

    async def statuses(self, keys: Collection[SessionKey]) -> Mapping[SessionKey, SessionStatus]:
        self.asked += 1
        if self.down:
            raise OSError("gone")
        found = await super().statuses(keys)
        if self.meanwhile is not None:
            await self.meanwhile()
        return found


class Known:
    """An authority, and a token of today's payload that it accepted once."""

    def __init__(self, cls: type[Any] = Session, session: Any = ADA, **settings: Any) -> None:
        self.clock, self.recorder = FakeClock(), Recorder()
        self.store = Store(self.clock)
        self.authority = authority_of(
            cls, clock=self.clock, store=self.store, observers=[self.recorder], **{"schema": {"version": 2}, **settings}
        )
        self.session = session

    async def begin(self) -> None:
        self.issued = await self.authority.issue(self.session)
        assert (await self.ask()).result == "accepted"
        self.recorder.outcomes.clear()
        self.store.asked = 0

    async def ask(self) -> Outcome[Any]:
        token = f"{self.authority.cookie.name}={self.issued.token}"
        outcome: Outcome[Any] = await self.authority.authenticate([(b"cookie", token.encode())])
        return outcome

    async def last_activity(self) -> float:
        await self.authority.parts.activity.aclose()
        (record,) = await self.store.sessions_of("1", limit=1)
        return float(record.last_activity_at.timestamp())

    @property
    def stale(self) -> int:
        counters = self.authority.parts.counters.series()
        return sum(count for metric, _, count in counters if metric is names.REVOCATION_STALE)


async def test_past_the_bound_the_store_is_asked_and_the_token_is_not_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = Known()
    await known.begin()
    monkeypatch.setattr(known.authority.parts.pipeline, "verify", None)
    for times in (1, 2):
        known.clock.advance(6.0)
        outcome = await known.ask()
        assert (outcome.result, outcome.session, known.store.asked) == ("accepted", ADA, times)
    assert (await known.ask()).result == "accepted"
    assert known.store.asked == 2
    assert counts(known.authority, "requests") == {("2", "accepted"): 4}
    assert known.recorder.outcomes == [], "nothing about it is new"
    assert await known.last_activity() == known.clock.wall


async def test_a_minute_after_it_was_read_it_is_read_again() -> None:
    known = Known()
    await known.begin()
    for _ in range(9):
        known.clock.advance(6.0)
        await known.ask()
    assert known.recorder.outcomes == []
    known.clock.advance(6.0)
    await known.ask()
    assert [outcome.result for outcome in known.recorder.outcomes] == ["accepted"]


async def test_a_session_that_ended_elsewhere_is_refused_with_all_that_its_token_says() -> None:
    known = Known()
    await known.begin()
    await known.store.revoke(known.issued.session_id)
    known.clock.advance(6.0)
    outcome = await known.ask()
    assert (outcome.reason, outcome.payload_version, outcome.key_id, outcome.subject, outcome.token_age) == (
        Reason.SESSION_REVOKED,
        "2",
        "key-1",
        "1",
        6.0,
    )
    assert (await known.ask()).reason is Reason.SESSION_REVOKED
    assert known.store.asked == 1
    assert known.recorder.reasons == ["session_revoked"] * 2


async def test_a_store_that_is_down_is_asked_once_a_request() -> None:
    known = Known()
    await known.begin()
    known.store.down = True
    known.clock.advance(6.0)
    outcome = await known.ask()
    assert (outcome.reason, outcome.payload_version) == (Reason.SESSIONS_UNAVAILABLE, "2")
    assert known.store.asked == 1
    known.store.down = False
    assert (await known.ask()).result == "accepted"


async def test_what_passes_although_the_store_is_down_is_counted_once_and_said() -> None:
    known = Known(revocation=Revocation(on_unavailable="allow"))
    await known.begin()
    known.store.down = True
    known.clock.advance(6.0)
    outcome = await known.ask()
    assert (outcome.result, outcome.stale, known.stale, known.store.asked) == ("accepted", True, 1, 1)
    assert [each.stale for each in known.recorder.outcomes] == [True]


async def test_a_revocation_while_the_store_is_asked_lets_nothing_be_remembered() -> None:
    known = Known()
    await known.begin()
    known.store.meanwhile = known.authority.revoke_all
    known.clock.advance(6.0)
    await known.ask()
    known.store.meanwhile = None
    assert len(known.authority.parts.known.seen) == 0
    assert (await known.ask()).reason is Reason.SESSION_REVOKED


async def test_a_session_class_that_changes_its_mind_is_asked_on_the_path() -> None:
    allowed = {"1"}

    @dataclass(kw_only=True)
    class Picky:
        user_id: Annotated[str, Claim("userId")]

        def __post_init__(self) -> None:
            if self.user_id not in allowed:
                raise ValueError

    known = Known(Picky, Picky(user_id="1"), schema={"version": 1})
    await known.begin()
    allowed.clear()
    known.clock.advance(6.0)
    assert (await known.ask()).reason is Reason.PAYLOAD_INVALID


async def test_without_a_store_a_token_is_read_again_when_its_minute_is_over() -> None:
    known = Known()
    known.authority = authority_of(clock=known.clock, observers=[known.recorder])
    await known.begin()
    known.clock.advance(59.0)
    await known.ask()
    assert known.recorder.outcomes == []
    known.clock.advance(1.0)
    await known.ask()
    assert len(known.recorder.outcomes) == 1


# Who it is asked for


async def test_a_later_release_may_spell_the_subject_otherwise_and_nobody_is_logged_out() -> None:
    @dataclass(kw_only=True)
    class Today:
        user_id: Annotated[str, Claim("userId")]

    @dataclass(kw_only=True)
    class Tomorrow:
        user_id: Annotated[str, Claim("userId")]

        def __post_init__(self) -> None:
            self.user_id = self.user_id.lower()

    known = Known(Today, Today(user_id="Ada@X"), schema={"version": 1})
    await known.begin()
    known.authority = authority_of(
        Tomorrow, clock=known.clock, store=known.store, observers=[known.recorder], schema={"version": 1}
    )
    for seconds in (0.0, 3.0, 3.0, 6.0, 6.0, 61.0):
        known.clock.advance(seconds)
        assert (await known.ask()).result == "accepted"


class Who(Enum):
    ADA = "ada"


@pytest.mark.parametrize(("kind", "subject"), [(Who, Who.ADA), (bytes, b"\x01\x02"), (int, 7)])
async def test_a_subject_of_any_type_is_asked_for_as_its_token_spells_it(kind: Any, subject: Any) -> None:
    typed = make_dataclass("Typed", [("user_id", Annotated[kind, Claim("userId")])], kw_only=True)

    known = Known(typed, typed(user_id=subject), schema={"version": 1})
    await known.begin()
    for seconds in (3.0, 3.0, 6.0):
        known.clock.advance(seconds)
        assert (await known.ask()).result == "accepted"
    assert known.recorder.outcomes == []


# What may change meanwhile


@pytest.mark.parametrize("pause", [3.0, 6.0])
@pytest.mark.parametrize(("jump", "reason"), [(8 * DAY, "token_expired"), (-3600.0, "token_not_yet_valid")])
async def test_a_wall_clock_that_was_set_is_read_whenever_the_session_is_asked_for(
    pause: float, jump: float, reason: str
) -> None:
    known = Known()
    await known.begin()
    known.clock.wall += jump
    known.clock.ticks += pause
    assert (await known.ask()).reason == reason


def test_a_revocation_by_another_thread_is_seen_by_the_next_request(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        known = Known()
        await known.begin()
        known.clock.advance(2.6)
        await known.ask()  # the answer is asked for beside it
        await turns()
        view = known.authority.parts.revocation
        looked = view.check_now

        def racing(*args: Any, **settings: Any) -> Any:
            found = looked(*args, **settings)
            monkeypatch.setattr(view, "check_now", looked)
            other = threading.Thread(target=lambda: asyncio.run(known.authority.revoke_all()))
            other.start()
            other.join()
            return found

        monkeypatch.setattr(view, "check_now", racing)
        await known.ask()
        assert (await known.ask()).reason is Reason.SESSION_REVOKED

    asyncio.run(test())


def test_threads_that_share_an_authority_do_not_trip_over_each_other() -> None:
    known = Known(revocation=Revocation(max_staleness=timedelta(milliseconds=2)))
    known.clock.monotonic = time.monotonic  # type: ignore[method-assign]  # real time passes
    tokens = [asyncio.run(known.authority.issue(Session(user_id=str(n)))).token for n in range(500)]
    found: list[str] = []

    async def ask(token: str) -> None:
        outcome = await known.authority.authenticate([(b"authorization", f"Bearer {token}".encode())])
        found.append(outcome.result)

    async def asking(first: int) -> None:
        for start in range(first, len(tokens), 20):
            await asyncio.gather(*map(ask, tokens[start : start + 20]))

    threads = [threading.Thread(target=lambda first=first: asyncio.run(asking(first))) for first in range(4)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert found == ["accepted"] * sum(len(tokens) - first for first in range(4))
