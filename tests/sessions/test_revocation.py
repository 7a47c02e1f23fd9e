"""Ending sessions: the store records it, and the next request of this process sees it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from jwt_middleware import Envelope, Revocation
from jwt_middleware.errors import ConfigError, SessionNotEnded, Unavailable
from jwt_middleware.testing import old_token
from tests.support.stores import FakeStore
from tests.support.world import DAY, EPOCH, ROWLESS, World, bearer


async def reasons(world: World, *tokens: str) -> list[str | None]:
    return [await world.reason(token) for token in tokens]


async def end(world: World, token: str) -> list[str]:
    """Log out with the token: the Set-Cookie values."""
    set_cookies: list[str] = await world.authority.end_token(bearer(token))
    return set_cookies


def rowless(world: World, user_id: str = "7", **envelope: Any) -> str:
    """A token of the app's former code."""
    return old_token(world.authority, {"userId": user_id}, **{"sid": None, "auth_time": None, "typ": "JWT", **envelope})


class TestRevoking:
    async def test_a_revoked_session_is_seen_by_the_next_request(self) -> None:
        world = World()
        (token, session_id), (other, _) = await world.log_in(), await world.log_in()
        assert await reasons(world, token, token, token) == [None] * 3
        assert await world.authority.revoke(session_id)
        assert not await world.authority.revoke(session_id)
        assert await reasons(world, token, other) == ["session_revoked", None]
        assert world.counts("sessions.revocations") == {("session",): 2}

    async def test_revoking_a_user_or_all_is_seen_by_the_next_request(self) -> None:
        world = World(sources=[])
        (here, session_id), (there, _), (other, _) = [await world.log_in(user) for user in ("7", "7", "8")]
        assert await reasons(world, here, there, other) == [None] * 3
        await world.authority.revoke_user("7", keep=session_id)
        assert await reasons(world, here, there, other) == [None, "session_revoked", None]
        await world.authority.revoke_all()
        assert await reasons(world, here, other) == ["session_revoked"] * 2
        assert await reasons(world, (await world.log_in("7"))[0]) == [None]
        assert world.counts("sessions.revocations") == {("user",): 1, ("all",): 1}

    async def test_in_an_outage_only_the_session_that_was_kept_goes_on(self) -> None:
        world = World(store=FakeStore, sources=[], revocation=Revocation(on_unavailable="allow"))
        (here, session_id), (there, _) = await world.log_in("7"), await world.log_in("7")
        await world.authority.revoke_user("7", keep=session_id)
        world.store.down = True
        assert await reasons(world, here, there) == [None, "session_revoked"]

    async def test_sessions_are_listed(self) -> None:
        world = World()
        _, session_id = await world.log_in()
        assert [row.id for row in await world.authority.sessions_of("1")] == [session_id]


class TestLoggingOut:
    async def test_logging_out_revokes_the_session_of_the_token(self) -> None:
        world = World()
        token = await world.token()
        assert await world.reason(token) is None
        await end(world, token)
        assert await world.reason(token) == "session_revoked"
        await end(world, token)
        assert world.counts("sessions.revocations") == {("session",): 2}

    @pytest.mark.parametrize("claims", [{"userId": "7", "email": "a@b.c"}, {"userId": "7"}], ids=["whole", "lacking"])
    async def test_logging_out_revokes_a_token_that_never_had_a_row(self, claims: dict[str, str]) -> None:
        world = World(sources=[], also_accept=[ROWLESS])
        token, other = (old_token(world.authority, claims, sid=None, auth_time=EPOCH - n) for n in (0, 1))
        assert await reasons(world, token, other) == [None, None]
        await end(world, token)
        assert await reasons(world, token, other) == ["session_revoked", None]
        assert await world.authority.sessions_of("7") == []
        await world.authority.revoke_user("7")
        assert await world.reason(other) == "session_revoked"

    async def test_marks_revoke_earlier_tokens_without_sid_up_to_the_leeway(self) -> None:
        world = World(also_accept=[Envelope.foreign(iat=False)], leeway=timedelta(seconds=30))
        now = int(world.clock.now())
        before, just_after, later, undated = [
            rowless(world, iat=iat, exp=now + 500) for iat in (now - 100, now + 20, now + 31, None)
        ]
        await world.authority.revoke_user("7")
        world.clock.advance(60.0)
        assert await reasons(world, before, just_after, undated) == ["session_revoked"] * 3
        assert await world.reason(later) is None

    async def test_logging_out_with_a_token_that_is_refused_revokes_nothing(self) -> None:
        world = World()
        token = await world.token()
        world.clock.advance(8 * DAY)
        assert len(await end(world, token)) == 1
        assert len(await end(world, "no.token.x")) == 1
        assert len(await world.authority.end_token([])) == 1
        assert world.counts("sessions.revocations") == {}


class TestFailures:
    async def test_after_a_revocation_that_failed_the_store_is_queried_again(self) -> None:
        world = World(store=FakeStore, also_accept=[Envelope.foreign()])
        token, session_id = await world.log_in()
        world.store.writes_fail, at = "before", world.authority
        for call in (at.revoke(session_id), at.revoke_user("7"), at.revoke_all()):
            with pytest.raises(Unavailable):
                await call
        for each in (token, rowless(world)):
            with pytest.raises(SessionNotEnded) as failed:
                await end(world, each)
            assert failed.value.set_cookie
        assert await world.reason(token) is None
        assert world.counts("sessions.revocations") == {}

    async def test_a_revocation_that_fails_after_its_write_is_seen_by_the_next_request(self) -> None:
        world = World(store=FakeStore)
        token, session_id = await world.log_in()
        assert await world.reason(token) is None
        world.store.writes_fail = "after"
        with pytest.raises(Unavailable):
            await world.authority.revoke(session_id)
        assert await world.reason(token) == "session_revoked"
        assert world.counts("sessions.revocations") == {}

    async def test_without_a_store_revoking_is_an_error_and_logging_out_is_not(self) -> None:
        world = World(store=None)
        token, session_id = await world.log_in()
        at = world.authority
        for call in (at.revoke(session_id), at.revoke_user("7"), at.revoke_all(), at.sessions_of("7"), at.purge()):
            with pytest.raises(ConfigError, match=r"SessionAuthority\(store=…\)"):
                await call
        assert len(await end(world, token)) == 1
        assert await world.reason(token) is None
        assert world.counts("sessions.revocations") == {}

    async def test_revoking_while_requests_come_leaves_none_accepted_afterwards(self) -> None:
        world = World()
        for _ in range(200):
            token, session_id = await world.log_in()
            await asyncio.gather(*(world.reason(token) for _ in range(5)), world.authority.revoke(session_id))
            assert await world.reason(token) == "session_revoked"
