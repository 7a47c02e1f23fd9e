"""What the app calls: log in, log out, read the session, revoke, purge."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from typing import Any

import pytest
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from jwt_middleware import (
    ConfigError,
    Envelope,
    Key,
    KeyRing,
    MemorySessionStore,
    MintError,
    Reason,
    Refusal,
    SessionAuthority,
    SessionCookie,
    SessionNotEnded,
)
from jwt_middleware.testing import client, old_token
from jwt_middleware.tokens.rules import is_session
from tests.support.asgi import counts, foreign_token, scope_of
from tests.support.stores import FakeStore
from tests.support.world import ADA, DAY, EPOCH, SECRET, Session, World, authority_of, bearer, cookie

LATER = datetime(2030, 1, 1, tzinfo=UTC)
OLDER = [
    Envelope.before(LATER, cookie=SessionCookie("token")),
    Envelope.before(LATER - timedelta(days=1), cookie=SessionCookie("jwt")),
]


class Remote:
    """Remote keys that are not there yet, and their life."""

    keys, signing, usable_until = (), None, 0.0
    typs, recognise = frozenset({"session+jwt"}), staticmethod(is_session)

    def __init__(self) -> None:
        self.life: list[str] = []

    def attach(self, **parts: Any) -> None:
        self.life.append("attached")

    def open(self) -> None:
        self.life.append("opened")

    def find(self, kid: str | None, alg: str) -> Any:
        raise Refusal(Reason.KEYS_UNAVAILABLE)

    async def refresh(self, kid: str | None) -> bool:
        return False

    async def aclose(self) -> None:
        self.life.append("closed")


def set_cookies(response: Response) -> list[str]:
    return [value.decode() for name, value in response.raw_headers if name == b"set-cookie"]


def request_with(*headers: tuple[bytes, bytes], **scope: Any) -> Request:
    return Request(scope_of(headers=headers, **scope))


class TestStart:
    async def test_start_puts_the_cookie_on_the_response_and_clears_the_older_ones(self) -> None:
        world, response = World(also_accept=OLDER), Response()
        issued = await world.authority.start(response, ADA, label="laptop")
        *cleared, own = set_cookies(response)
        assert [*cleared, own] == issued.set_cookie
        assert own.startswith(f"__Host-session={issued.token};")
        assert [value.split(";")[0] for value in cleared] == ["token=", "jwt="]
        assert all("Max-Age=0" in value for value in cleared)
        assert response.headers["cache-control"] == "no-store"
        row = await world.row()
        assert (row.id, row.label) == (issued.session_id, "laptop")

    async def test_start_leaves_what_the_response_says_already(self) -> None:
        response = Response(headers={"cache-control": "private", "set-cookie": "theme=dark"})
        await authority_of().start(response, ADA)
        assert response.headers["cache-control"] == "private"
        assert set_cookies(response)[0] == "theme=dark"

    async def test_start_that_fails_puts_nothing_on_the_response(self) -> None:
        response = Response()
        with pytest.raises(MintError):
            await authority_of(also_accept=OLDER).start(response, Session(user_id="1", email="x" * 5_000))
        assert set_cookies(response) == []

    async def test_a_browser_keeps_the_cookie_that_start_sets(self) -> None:
        world, response = World(), Response()
        issued = await world.authority.start(response, ADA)
        jar: SimpleCookie = SimpleCookie(set_cookies(response)[0])
        assert jar["__Host-session"].value == issued.token
        async with client(world.app) as http:
            http.cookies.set("__Host-session", issued.token)
            assert (await http.get("/")).status_code == 200


class TestEnd:
    async def test_end_on_a_public_path_revokes_the_session_and_clears_every_cookie(self) -> None:
        world = World(also_accept=OLDER)
        world.with_login()
        token = await world.token()
        assert (await world.get(token)).status_code == 200
        gone = (await world.get(token, "/logout", method="POST")).headers.get_list("set-cookie")
        assert [value.split(";")[0] for value in gone] == ["__Host-session=", "token=", "jwt="]
        assert (await world.get(token)).status_code == 401
        assert await world.authority.sessions_of("1") == []
        assert world.counts("sessions.revocations") == {("session",): 1}

    @pytest.mark.parametrize(
        "headers",
        [[], cookie("junk"), cookie("a") + cookie("b"), bearer("not a token"), [(b"authorization", b"Basic dTpw")]],
    )
    async def test_a_bad_token_is_no_error_at_the_end(self, headers: list[tuple[bytes, bytes]]) -> None:
        response = Response()
        await authority_of(store=MemorySessionStore()).end(response, request_with(*headers))
        assert len(set_cookies(response)) == 1

    async def test_an_expired_or_forged_token_needs_no_revoking(self) -> None:
        world = World(store=FakeStore)
        token = await world.token()
        world.store.writes_fail = "before"
        cleared = [world.authority.cookie.clear_header()]
        assert await world.authority.end_token(cookie(token[:-4] + "AAAA")) == cleared  # the store would fail
        world.clock.advance(8 * DAY)
        assert await world.authority.end_token(cookie(token)) == cleared

    async def test_without_a_store_the_end_clears_the_cookies(self) -> None:
        world = World(store=None)
        assert len(await world.authority.end_token(cookie(await world.token()))) == 1

    async def test_a_store_that_fails_is_raised_after_the_cookies_are_cleared(self) -> None:
        world, response = World(also_accept=OLDER, store=FakeStore), Response()
        token = await world.token()
        world.store.writes_fail = "before"
        with pytest.raises(SessionNotEnded) as failed:
            await world.authority.end(response, request_with(*cookie(token)))
        assert len(set_cookies(response)) == 3
        assert list(failed.value.set_cookie) == set_cookies(response)
        assert token not in str(failed.value)

    async def test_a_token_that_cannot_be_verified_now_is_not_ended(self) -> None:
        token = await World().token()
        authority = authority_of(keys=Remote(), issuer="us", audience="app", store=MemorySessionStore())
        with pytest.raises(SessionNotEnded):
            await authority.end_token(cookie(token))

    async def test_where_a_bearer_token_came_beside_the_cookie_both_sessions_end(self) -> None:
        world = World()
        await world.authority.end_token(bearer(await world.token()) + cookie(await world.token()))
        assert await world.authority.sessions_of("1") == []

    async def test_a_bearer_header_that_is_wrong_does_not_save_the_cookies_session(self) -> None:
        world = World()
        await world.authority.end_token(bearer("a.b.c") + bearer("d.e.f") + cookie(await world.token()))
        assert await world.authority.sessions_of("1") == []

    async def test_a_foreign_token_is_ended_by_its_digest(self) -> None:
        authority = World(also_accept=[Envelope.foreign(cookie=SessionCookie("token"))]).authority
        old = foreign_token(SECRET.encode(), {"userId": "1", "iat": EPOCH - 60, "exp": EPOCH + 600})
        headers = cookie(old, "token")
        assert (await authority.authenticate(headers)).result == "accepted"
        await authority.end_token(headers)
        assert (await authority.authenticate(headers)).reason is Reason.SESSION_REVOKED


class TestVerify:
    async def test_verify_reads_the_token_alone(self) -> None:
        world = World()
        token = await world.authority.verify(await world.token())
        assert (token.payload_version, token.claims["email"], token.needed) == (2, "ada@example.com", ())
        assert "ada@example.com" not in repr(token)

    @pytest.mark.parametrize("token", ["", "a.b.c", "ü.b.c", "a" * 9_000])
    async def test_verify_refuses_with_a_reason_and_without_a_text(self, token: str) -> None:
        with pytest.raises(Refusal) as refused:
            await authority_of().verify(token)
        assert refused.value.reason in (Reason.TOKEN_MALFORMED, Reason.TOKEN_OVERSIZE)
        assert str(refused.value) == refused.value.reason.value
        assert refused.value.__suppress_context__ or refused.value.__context__ is None

    async def test_an_old_token_is_one_of_this_authoritys_key(self) -> None:
        authority = authority_of()
        assert (await authority.verify(old_token(authority, {"userId": "1"}))).payload_version == 1

    async def test_two_authorities_accept_each_others_tokens_only_by_shared_parties(self) -> None:
        token = await World(issuer="one").token()
        assert await World(issuer="two").reason(token) == "issuer_mismatch"


class TestAccessor:
    async def test_the_accessor_returns_the_very_object_on_the_state(self) -> None:
        authority = authority_of()
        request = request_with(state={"session": ADA})
        assert authority.session(request) is request.state.session
        assert await authority.dependency(request) is ADA

    def test_the_accessor_refuses_where_there_is_no_session(self) -> None:
        with pytest.raises(Refusal) as refused:
            authority_of().session(HTTPConnection(scope_of(state={"session": None})))
        assert refused.value.reason is Reason.TOKEN_MISSING

    @pytest.mark.parametrize("scope", [{}, {"state": {}}])
    def test_the_accessor_says_where_the_middleware_was_forgotten(self, scope: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match="wrap the app"):
            authority_of().session(HTTPConnection(scope_of(**scope)))

    async def test_a_long_stream_can_ask_whether_its_session_is_still_active(self) -> None:
        world = World()
        token, session_id = await world.log_in()
        mine = request_with(*cookie(token))
        assert await world.authority.still_active(mine)
        assert world.counts("requests") == {}
        assert not await world.authority.still_active(request_with())
        await world.authority.revoke(session_id)
        assert not await world.authority.still_active(mine)

    async def test_a_stream_ends_where_the_store_cannot_say(self) -> None:
        world = World(store=FakeStore)
        world.store.down = True
        assert not await world.authority.still_active(request_with(*cookie(await world.token())))


class TestRevoke:
    async def test_the_sessions_of_one_of_a_user_and_of_all_are_revoked(self) -> None:
        world = World(sources=[])
        (one, _), (two, second), (other, _) = [await world.log_in(user) for user in ("1", "1", "2")]

        async def alive() -> list[bool]:
            return [await world.reason(token) is None for token in (one, two, other)]

        assert await alive() == [True, True, True]
        await world.authority.revoke_user("1", keep=second)
        assert await alive() == [False, True, True]
        assert await world.authority.revoke(second)
        assert not await world.authority.revoke(second)
        assert await alive() == [False, False, True]
        await world.authority.revoke_all()
        assert await alive() == [False, False, False]
        assert await world.reason(await world.token()) is None

    async def test_an_integer_names_a_user_as_it_does_in_a_token(self) -> None:
        world = World()
        token, session_id = await world.log_in("7", email="x")
        assert [row.user_id for row in await world.authority.sessions_of(7)] == ["7"]
        assert await world.reason(token) is None
        assert not await world.authority.revoke(session_id, user_id=8)
        await world.authority.revoke_user(7)
        assert await world.reason(token) == "session_revoked"
        with pytest.raises(ConfigError, match="user_id must be an integer"):
            await world.authority.revoke_user(None)


class TestPurge:
    async def test_purging_keeps_what_the_settings_may_need(self) -> None:
        world = World()
        _, session_id = await world.log_in("7")
        await world.log_in("8")
        await world.authority.revoke(session_id)
        await world.authority.revoke_user("7")
        world.clock.advance(7 * DAY + 29)
        assert await world.authority.purge(expired=timedelta(0)) == (0, 0)
        world.clock.advance(3)
        assert await world.authority.purge(expired=timedelta(0)) == (1, 1)
        assert await world.authority.purge() == (0, 0)
        world.clock.advance(7 * DAY)
        assert await world.authority.purge() == (1, 0)
        await world.authority.aclose()

    async def test_marks_and_revoked_rows_stay_while_tokens_without_iat_are_accepted(self) -> None:
        """The life of such a token has no known end, and to delete them would revive it."""
        world = World(also_accept=[Envelope.foreign(iat=False)])
        _, session_id = await world.log_in("7")
        await world.authority.revoke(session_id)
        await world.authority.revoke_user("7")
        world.clock.advance(700 * DAY)
        assert await world.authority.purge() == (0, 0)
        await world.authority.aclose()


class TestLife:
    async def test_it_withdraws_its_gauges_at_the_end_and_may_be_closed_again(self) -> None:
        async with authority_of(store=MemorySessionStore()) as authority:
            authority.parts.open()
            await authority.issue(ADA)
            assert list(authority.parts.counters.gauges())
        assert list(authority.parts.counters.gauges()) == []
        assert counts(authority, "tokens.issued") == {("2", "start"): 1}
        await authority.aclose()

    async def test_it_ends_without_a_store_too(self) -> None:
        async with authority_of() as authority:
            assert authority.migration.version == 2

    async def test_remote_keys_begin_and_end_with_the_authority(self) -> None:
        remote = Remote()
        async with authority_of(keys=remote, issuer="us", audience="app") as authority:
            authority.parts.open()
        assert remote.life == ["attached", "opened", "closed"]

    def test_a_session_class_is_no_schema_and_the_error_says_how_to_make_one(self) -> None:
        given: Any = Session
        with pytest.raises(ConfigError, match=r"SessionSchema\(Session, version=1"):
            SessionAuthority(given, keys=KeyRing([Key.hmac(SECRET)]))
