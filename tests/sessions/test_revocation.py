"""Ending sessions: the store is told, and the next request of this process sees it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from jwt_middleware import Adoption, MemorySessionStore, SessionAuthority, names
from jwt_middleware.errors import ConfigError, Reason, SessionNotEnded, Unavailable
from jwt_middleware.sessions.revocation import Revoker
from jwt_middleware.testing import old_token
from jwt_middleware.types import SessionRecord
from tests.support.world import FakeClock, Session, authority_of

Authority = SessionAuthority[Any]
BEARER = b"authorization"


class Failing(MemorySessionStore):
    """A store whose revocations fail, before or after they are written."""

    failing = False
    late = False

    async def _fail(self) -> None:
        if self.failing:
            raise Unavailable("the database could not answer")

    async def revoke(self, session_id: str, *, user_id: str | None = None) -> bool:
        if not self.late:
            await self._fail()
        revoked = await super().revoke(session_id, user_id=user_id)
        await self._fail()
        return revoked

    async def revoke_token(self, record: SessionRecord) -> None:
        await self._fail()
        await super().revoke_token(record)

    async def revoke_user(self, user_id: str, *, keep: str | None = None) -> None:
        await self._fail()
        await super().revoke_user(user_id, keep=keep)

    async def revoke_all(self) -> None:
        await self._fail()
        await super().revoke_all()


def authority(store: MemorySessionStore | None, **settings: Any) -> Authority:
    made: Authority = authority_of(store=store, **settings)
    return made


async def log_in(at: Authority, user: str = "7") -> tuple[str, str]:
    issued = await at.issue(Session(user_id=user))
    return issued.token, issued.session_id


async def verdict(at: Authority, token: str) -> str:
    outcome = await at.authenticate([(BEARER, f"Bearer {token}".encode())])
    return outcome.result if outcome.reason is None else outcome.reason.value


async def end(at: Authority, token: str) -> list[str]:
    return await at.end_token([(BEARER, f"Bearer {token}".encode())])


def revocations(at: Authority) -> dict[str, int]:
    return {
        dict(attributes)[names.REVOCATION_SCOPE]: count
        for metric, attributes, count in at.parts.counters.series()
        if metric is names.SESSIONS_REVOCATIONS
    }


async def test_a_revoked_session_is_seen_by_the_next_request() -> None:
    at = authority(MemorySessionStore())
    (token, session_id), (other, _) = await log_in(at), await log_in(at)
    assert [await verdict(at, token) for _ in range(3)] == ["accepted"] * 3
    assert await at.revoke(session_id)
    assert not await at.revoke(session_id)
    assert await verdict(at, token) == Reason.SESSION_REVOKED
    assert await verdict(at, other) == "accepted"
    assert revocations(at) == {"session": 2, "user": 0, "all": 0}


async def test_all_of_a_user_and_everybodys_are_seen_by_the_next_request() -> None:
    at = authority(MemorySessionStore())
    (here, session_id), (there, _), (other, _) = await log_in(at), await log_in(at), await log_in(at, "8")
    assert [await verdict(at, token) for token in (here, there, other)] == ["accepted"] * 3
    await at.revoke_user("7", keep=session_id)
    assert [await verdict(at, token) for token in (here, there, other)] == [
        "accepted",
        "session_revoked",
        "accepted",
    ]
    await at.revoke_all()
    assert [await verdict(at, token) for token in (here, other)] == ["session_revoked"] * 2
    again, _ = await log_in(at)
    assert await verdict(at, again) == "accepted"
    assert revocations(at) == {"session": 0, "user": 1, "all": 1}


async def test_sessions_are_listed() -> None:
    at = authority(MemorySessionStore())
    _, session_id = await log_in(at)
    assert [row.id for row in await at.sessions_of("7")] == [session_id]


async def test_logging_out_revokes_the_session_of_the_token() -> None:
    at = authority(MemorySessionStore())
    token, _ = await log_in(at)
    assert await verdict(at, token) == "accepted"
    await end(at, token)
    assert await verdict(at, token) == Reason.SESSION_REVOKED
    await end(at, token)
    assert revocations(at)["session"] == 2


@pytest.mark.parametrize("claims", [{"userId": "7", "email": "a@b.c"}, {"userId": "7"}], ids=["whole", "lacking"])
async def test_logging_out_revokes_a_token_that_never_had_a_row(claims: dict[str, str]) -> None:
    at = authority(MemorySessionStore(), adoption=Adoption(sessions="marks"))
    token, other = (old_token(at, claims, n=n, sid=None, auth_time=None) for n in "ab")
    assert [await verdict(at, each) for each in (token, other)] == ["accepted"] * 2
    await end(at, token)
    assert [await verdict(at, each) for each in (token, other)] == ["session_revoked", "accepted"]
    assert await at.sessions_of("7") == []
    await at.revoke_user("7")
    assert await verdict(at, other) == "session_revoked"


async def test_marks_apply_to_tokens_of_before_up_to_the_leeway() -> None:
    clock = FakeClock()
    at = authority(
        MemorySessionStore(clock=clock),
        clock=clock,
        adoption=Adoption(sessions="marks", iat_required=False),
        leeway=timedelta(seconds=30),
    )

    def token(age: float) -> str:
        return old_token(at, {"userId": "7"}, sid=None, auth_time=None, age=timedelta(seconds=age))

    before, just_after, later = (
        token(100),
        token(-20),
        old_token(at, {"userId": "7"}, sid=None, auth_time=None, iat=int(clock.now()) + 31, exp=int(clock.now()) + 500),
    )
    undated = old_token(at, {"userId": "7"}, sid=None, auth_time=None, iat=None)
    await at.revoke_user("7")
    clock.advance(60.0)
    assert [await verdict(at, each) for each in (before, just_after, later, undated)] == [
        "session_revoked",
        "session_revoked",
        "accepted",
        "session_revoked",
    ]


async def test_logging_out_with_a_token_that_opens_nothing_tells_the_store_nothing() -> None:
    clock = FakeClock()
    at = authority(MemorySessionStore(clock=clock), clock=clock)
    token, _ = await log_in(at)
    clock.advance(8 * 86_400)
    assert len(await end(at, token)) == 1
    assert len(await end(at, "no.token.x")) == 1
    assert len(await at.end_token([])) == 1
    assert revocations(at)["session"] == 0


async def test_a_store_that_fails_is_told_and_what_was_known_is_asked_again() -> None:
    store = Failing()
    at = authority(store, adoption=Adoption(sessions="marks"))
    token, session_id = await log_in(at)
    adopted = old_token(at, {"userId": "7"}, sid=None, auth_time=None)
    store.failing = True
    for call in (lambda: at.revoke(session_id), lambda: at.revoke_user("7"), at.revoke_all):
        with pytest.raises(Unavailable):
            await call()
    for each in (token, adopted):
        with pytest.raises(SessionNotEnded) as failed:
            await end(at, each)
        assert failed.value.set_cookie
    assert await verdict(at, token) == "accepted"
    assert set(revocations(at).values()) == {0}


async def test_a_revocation_that_was_written_before_it_failed_is_seen_by_the_next_request() -> None:
    store = Failing()
    at = authority(store)
    token, session_id = await log_in(at)
    assert await verdict(at, token) == "accepted"
    store.failing = store.late = True
    with pytest.raises(Unavailable):
        await at.revoke(session_id)
    assert await verdict(at, token) == Reason.SESSION_REVOKED
    assert revocations(at)["session"] == 0


async def test_without_a_store_nothing_can_be_revoked_and_logging_out_clears_the_cookie() -> None:
    at = authority(None)
    token, session_id = await log_in(at)
    for call in (lambda: at.revoke(session_id), lambda: at.revoke_user("7"), at.revoke_all):
        with pytest.raises(ConfigError, match=r"SessionAuthority\(store=…\)"):
            await call()
    with pytest.raises(ConfigError):
        await at.sessions_of("7")
    assert len(await end(at, token)) == 1
    assert await verdict(at, token) == "accepted"
    assert revocations(at) == {}


async def test_revoking_while_requests_come_leaves_none_accepted_afterwards() -> None:
    for _ in range(200):
        at = authority(MemorySessionStore())
        token, session_id = await log_in(at)
        await asyncio.gather(*(verdict(at, token) for _ in range(5)), at.revoke(session_id))
        assert await verdict(at, token) == Reason.SESSION_REVOKED


async def test_a_store_may_be_revoked_in_where_no_answers_are_kept() -> None:
    store = MemorySessionStore()
    at = authority(store)
    token, session_id = await log_in(at)
    alone = Revoker(
        store=store,
        revocation=None,
        token_cache=at.parts.known,
        counters=at.parts.counters,
    )
    assert await alone.revoke(session_id)
    assert await verdict(at, token) == Reason.SESSION_REVOKED
