"""Cached tokens: what a later request skips, when the session is checked again, and what a revocation drops."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, make_dataclass
from datetime import timedelta
from enum import Enum
from hashlib import sha256
from typing import Annotated, Any

import pytest

from jwt_middleware import Claim, Outcome, Reason, Revocation, SessionKey, SessionStatus, TokenInfo
from jwt_middleware.sessions.token_cache import CurrentEntry, Hit, TokenCache
from jwt_middleware.tokens.jws import digest
from tests.support.lookups import turns
from tests.support.stores import FakeStore
from tests.support.world import ADA, DAY, EPOCH, Session, World, authority_of, bearer, cookie

Who = Enum("Who", {"ADA": "ada"})


class Cached(World):
    """A world, and a token of today's payload that it accepted once."""

    def __init__(self, cls: type[Any] = Session, session: Any = ADA, **settings: Any) -> None:
        super().__init__(cls, store=settings.pop("store", FakeStore), **{"sources": (), **settings})
        self.session = session

    async def begin(self) -> None:
        self.issued = await self.authority.issue(self.session)
        assert (await self.decide()).result == "accepted"
        self.recorder.outcomes.clear()
        if self.store is not None:
            self.store.asked = 0

    async def decide(self, after: float = 0.0) -> Outcome[Any]:
        """One request, so many seconds later."""
        self.clock.advance(after)
        outcome: Outcome[Any] = await self.authority.authenticate(cookie(self.issued.token, self.authority.cookie.name))
        return outcome


def entry_of(cache: TokenCache[Any]) -> CurrentEntry:
    """An entry that holds for a minute."""
    now = cache._monotonic()
    info = TokenInfo(version=2, iat=EPOCH, exp=EPOCH + DAY, session_id="s")
    claims = b'{"user_id":"1"}'
    return CurrentEntry(claims, info, 0, now + 60.0, now + 60.0)


class TestAge:
    async def test_past_the_bound_the_session_is_checked_and_the_token_not_read(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cached = Cached()
        await cached.begin()
        monkeypatch.setattr(cached.authority.parts.authenticator.tokens, "open", None)
        for times in (1, 2):
            outcome = await cached.decide(after=6.0)
            assert (outcome.result, outcome.session, cached.store.asked) == ("accepted", ADA, times)
        assert (await cached.decide()).result == "accepted"
        assert cached.store.asked == 2
        assert cached.counts("requests") == {("2", "accepted"): 4}
        assert cached.recorder.outcomes == [], "nothing about it is new"
        await cached.authority.parts.activity.aclose()
        assert (await cached.row()).last_activity_at.timestamp() == cached.clock.wall

    async def test_after_a_minute_the_token_is_read_again(self) -> None:
        cached = Cached()
        await cached.begin()
        for _ in range(9):
            await cached.decide(after=6.0)
        assert cached.recorder.outcomes == []
        await cached.decide(after=6.0)
        assert [outcome.result for outcome in cached.recorder.outcomes] == ["accepted"]

    async def test_a_session_revoked_elsewhere_is_refused_with_all_facts(self) -> None:
        cached = Cached()
        await cached.begin()
        await cached.store.revoke(cached.issued.session_id)
        outcome = await cached.decide(after=6.0)
        assert (outcome.reason, outcome.payload_version, outcome.key_id, outcome.subject, outcome.token_age) == (
            Reason.SESSION_REVOKED,
            "2",
            "key-1",
            "1",
            6.0,
        )
        assert (await cached.decide()).reason is Reason.SESSION_REVOKED
        assert cached.store.asked == 1
        assert cached.recorder.reasons == ["session_revoked"] * 2

    async def test_a_store_that_is_down_gets_one_query_a_request(self) -> None:
        cached = Cached()
        await cached.begin()
        cached.store.down = True
        outcome = await cached.decide(after=6.0)
        assert (outcome.reason, outcome.payload_version) == (Reason.SESSIONS_UNAVAILABLE, "2")
        assert cached.store.asked == 1
        cached.store.down = False
        assert (await cached.decide()).result == "accepted"

    async def test_a_stale_pass_is_counted_once_and_reported(self) -> None:
        cached = Cached(revocation=Revocation(on_unavailable="allow"))
        await cached.begin()
        cached.store.down = True
        outcome = await cached.decide(after=6.0)
        assert (outcome.result, outcome.stale, cached.store.asked) == ("accepted", True, 1)
        assert cached.counts("revocation.stale") == {(): 1}
        assert [each.stale for each in cached.recorder.outcomes] == [True]

    async def test_nothing_is_cached_if_a_revocation_ran_meanwhile(self) -> None:
        class Meanwhile(FakeStore):
            async def statuses(self, keys: Collection[SessionKey]) -> Mapping[SessionKey, SessionStatus]:
                statuses = await super().statuses(keys)
                if cached.clock.now() > EPOCH:
                    await cached.authority.revoke_all()
                return statuses

        cached = Cached(store=Meanwhile)
        await cached.begin()
        await cached.decide(after=6.0)
        assert len(cached.authority.parts.token_cache) == 0
        assert (await cached.decide()).reason is Reason.SESSION_REVOKED

    async def test_a_session_class_that_begins_to_raise_is_refused(self) -> None:
        allowed = {"1"}

        @dataclass(kw_only=True)
        class Picky:
            user_id: Annotated[str, Claim("userId")]

            def __post_init__(self) -> None:
                if self.user_id not in allowed:
                    raise ValueError

        cached = Cached(Picky, Picky(user_id="1"), schema={"version": 1})
        await cached.begin()
        allowed.clear()
        assert (await cached.decide(after=6.0)).reason is Reason.PAYLOAD_INVALID

    async def test_without_a_store_a_token_is_read_again_after_a_minute(self) -> None:
        cached = Cached(store=None)
        await cached.begin()
        await cached.decide(after=59.0)
        assert cached.recorder.outcomes == []
        await cached.decide(after=1.0)
        assert len(cached.recorder.outcomes) == 1


class TestSubject:
    async def test_a_release_that_spells_the_subject_otherwise_logs_out_no_user(self) -> None:
        @dataclass(kw_only=True)
        class Today:
            user_id: Annotated[str, Claim("userId")]

        @dataclass(kw_only=True)
        class Tomorrow:
            user_id: Annotated[str, Claim("userId")]

            def __post_init__(self) -> None:
                self.user_id = self.user_id.lower()

        cached = Cached(Today, Today(user_id="Ada@X"), schema={"version": 1})
        await cached.begin()
        cached.authority = authority_of(
            Tomorrow, clock=cached.clock, store=cached.store, observers=[cached.recorder], schema={"version": 1}
        )
        for seconds in (0.0, 3.0, 3.0, 6.0, 6.0, 61.0):
            assert (await cached.decide(after=seconds)).result == "accepted"

    @pytest.mark.parametrize(("kind", "subject"), [(Who, Who.ADA), (bytes, b"\x01\x02"), (int, 7)])
    async def test_a_session_is_checked_by_the_subject_of_the_token(self, kind: Any, subject: Any) -> None:
        typed = make_dataclass("Typed", [("user_id", Annotated[kind, Claim("userId")])], kw_only=True)

        cached = Cached(typed, typed(user_id=subject), schema={"version": 1})
        await cached.begin()
        for seconds in (3.0, 3.0, 6.0):
            assert (await cached.decide(after=seconds)).result == "accepted"
        assert cached.recorder.outcomes == []


class TestMeanwhile:
    @pytest.mark.parametrize("pause", [3.0, 6.0])
    @pytest.mark.parametrize(("jump", "reason"), [(8 * DAY, "token_expired"), (-3600.0, "token_not_yet_valid")])
    async def test_each_check_reads_the_wall_clock(self, pause: float, jump: float, reason: str) -> None:
        cached = Cached()
        await cached.begin()
        cached.clock.wall += jump
        cached.clock.ticks += pause
        assert (await cached.decide()).reason == reason

    def test_a_revocation_by_another_thread_is_seen_by_the_next_request(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def test() -> None:
            cached = Cached()
            await cached.begin()
            await cached.decide(after=2.6)  # the status is fetched in the background
            await turns()
            checker = cached.authority.parts.checker
            looked = checker.cached

            def racing(*args: Any, **settings: Any) -> Any:
                found = looked(*args, **settings)
                monkeypatch.setattr(checker, "cached", looked)
                other = threading.Thread(target=lambda: asyncio.run(cached.authority.revoke_all()))
                other.start()
                other.join()
                return found

            monkeypatch.setattr(checker, "cached", racing)
            await cached.decide()
            assert (await cached.decide()).reason is Reason.SESSION_REVOKED

        asyncio.run(test())

    def test_threads_may_share_an_authority(self) -> None:
        cached = Cached(revocation=Revocation(max_staleness=timedelta(milliseconds=2)))
        cached.clock.monotonic = time.monotonic  # real time passes
        tokens = [asyncio.run(cached.authority.issue(Session(user_id=str(n)))).token for n in range(500)]
        found: list[str] = []

        async def ask(token: str) -> None:
            outcome = await cached.authority.authenticate(bearer(token))
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


class TestTable:
    @pytest.mark.parametrize("name", ["revoke", "revoke_user", "revoke_all"])
    async def test_after_a_revocation_others_stay_cached_and_it_is_seen_at_once(self, name: str) -> None:
        cached = Cached()
        await cached.begin()
        mine, other = cached.issued, await cached.authority.issue(Session(user_id="2"))
        await cached.authority.authenticate(cookie(other.token))
        cached.store.asked = 0
        arguments = {"revoke": [mine.session_id], "revoke_user": ["1"], "revoke_all": []}[name]
        await getattr(cached.authority, name)(*arguments)
        cached.clock.advance(0.1)
        assert (await cached.decide()).reason is Reason.SESSION_REVOKED
        assert cached.store.asked == 1
        outcome = await cached.authority.authenticate(cookie(other.token))
        assert (outcome.reason, cached.store.asked) == (
            (Reason.SESSION_REVOKED, 2) if name == "revoke_all" else (None, 1)
        )

    async def test_the_kept_session_of_a_revoked_user_is_checked_once_and_cached(self) -> None:
        cached = Cached()
        await cached.begin()
        await cached.authority.revoke_user("1", keep=cached.issued.session_id)
        for _ in range(3):
            assert (await cached.decide(after=0.1)).result == "accepted"
        assert cached.store.asked == 1
        assert cached.recorder.outcomes == []

    async def test_revoked_names_are_kept_no_longer_than_entries_live(self) -> None:
        cached = Cached()
        await cached.begin()
        await cached.authority.revoke_user("2")
        await cached.authority.revoke_user("3")
        assert (await cached.decide(after=1.0)).result == "accepted"
        assert list(cached.authority.parts.token_cache._ended) == ["2", "3"]
        cached.clock.advance(59.0)
        await cached.authority.revoke_user("4")
        assert list(cached.authority.parts.token_cache._ended) == ["4"]

    async def test_too_many_revoked_names_empty_the_cache(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("jwt_middleware.sessions.token_cache._MOST_ENDED", 2)
        cached = Cached()
        await cached.begin()
        for user_id in ("2", "3"):
            await cached.authority.revoke_user(user_id)
        assert len(cached.authority.parts.token_cache) == 1
        await cached.authority.revoke_user("4")
        assert len(cached.authority.parts.token_cache) == 0
        assert list(cached.authority.parts.token_cache._ended) == ["4"]

    def test_the_key_is_a_digest_of_the_whole_token(self) -> None:
        assert digest(b"a.b.c") == sha256(b"a.b.c").digest()
        assert digest(b"a.b.c") != digest(b"a.b.d")

    def test_a_full_table_drops_its_oldest_entries(self) -> None:
        cache = Cached(cache_entries=3).authority.parts.token_cache
        for key in (b"a", b"b", b"c", b"a", b"d"):
            cache.put(key, entry_of(cache), generation=0)
        assert len(cache) == 3
        assert [isinstance(cache.recall(key), Hit) for key in (b"a", b"b", b"c", b"d")] == [True, False, True, True]

    def test_a_large_table_makes_room_for_many_at_once(self) -> None:
        cache = Cached(cache_entries=1_000).authority.parts.token_cache
        for number in range(5_000):
            cache.put(number.to_bytes(2, "big"), entry_of(cache), generation=0)
            assert min(number + 1, 980) <= len(cache) <= 1_000
