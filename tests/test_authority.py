"""What the app calls: log in, log out, read the session, revoke."""

from __future__ import annotations

import asyncio
from http.cookies import SimpleCookie
from typing import Any

import pytest
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from jwt_middleware import (
    Adoption,
    ConfigError,
    JWTSessionMiddleware,
    Key,
    KeyRing,
    MemorySessionStore,
    MintError,
    Reason,
    Refusal,
    SessionAuthority,
    SessionCookie,
    SessionNotEnded,
    Unavailable,
)
from jwt_middleware.testing import client, old_token
from tests.support.asgi import Echo, ask, counts, foreign_token, scope_of
from tests.support.world import EPOCH, SECRET, FakeClock, Session, authority_of

ADA = Session(user_id="1", email="ada@example.com")
OLDER = SessionCookie(also_read=["token", "jwt"])
Headers = list[tuple[bytes, bytes]]


class Failing(MemorySessionStore):
    """Writes rows, revokes none."""

    async def revoke(self, session_id: str, *, user_id: str | None = None) -> bool:
        raise Unavailable("down")

    async def revoke_token(self, record: Any) -> None:
        raise Unavailable("down")


def set_cookies(response: Response) -> list[str]:
    return [value.decode() for name, value in response.raw_headers if name == b"set-cookie"]


def request_with(*headers: tuple[bytes, bytes], **scope: Any) -> Request:
    return Request(scope_of(headers=headers, **scope))


def bearer(token: str) -> tuple[bytes, bytes]:
    return b"authorization", f"Bearer {token}".encode()


def cookie(token: str, name: str = "__Host-session") -> tuple[bytes, bytes]:
    return b"cookie", f"{name}={token}".encode()


def issue(authority: Any, session: Session = ADA) -> Any:
    return asyncio.run(authority.issue(session))


# start


def test_start_puts_the_cookie_on_the_response_and_clears_the_older_ones() -> None:
    authority, response = authority_of(cookie=OLDER, store=MemorySessionStore()), Response()
    issued = asyncio.run(authority.start(response, ADA, label="laptop"))
    *cleared, own = set_cookies(response)
    assert own == issued.set_cookie
    assert [value.split(";")[0] for value in cleared] == ["token=", "jwt="]
    assert all("Max-Age=0" in value for value in cleared)
    assert response.headers["cache-control"] == "no-store"
    (row,) = asyncio.run(authority.sessions_of("1"))
    assert (row.id, row.label) == (issued.session_id, "laptop")


def test_start_leaves_what_the_response_says_already() -> None:
    response = Response(headers={"cache-control": "private", "set-cookie": "theme=dark"})
    asyncio.run(authority_of().start(response, ADA))
    assert response.headers["cache-control"] == "private"
    assert set_cookies(response)[0] == "theme=dark"


def test_start_that_fails_puts_nothing_on_the_response() -> None:
    response = Response()
    with pytest.raises(MintError):
        asyncio.run(authority_of(cookie=OLDER).start(response, Session(user_id="1", email="x" * 5_000)))
    assert set_cookies(response) == []


# end


async def test_end_on_a_public_path_revokes_the_session_and_clears_every_cookie() -> None:
    authority = authority_of(cookie=OLDER, store=MemorySessionStore())
    echo = Echo()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] != "/logout":
            return await echo(scope, receive, send)
        response = Response()
        await authority.end(response, Request(scope))
        return await response(scope, receive, send)

    guarded = JWTSessionMiddleware(app, authority=authority, public=["/logout"])
    sent = cookie((await authority.issue(ADA)).token)[1].decode()
    assert (await ask(guarded, cookie=sent)).status_code == 200
    gone = await ask(guarded, "/logout", "POST", cookie=sent)
    assert [value.split(";")[0] for value in gone.headers.get_list("set-cookie")] == [
        "__Host-session=",
        "token=",
        "jwt=",
    ]
    assert (await ask(guarded, cookie=sent)).status_code == 401
    assert await authority.sessions_of("1") == []
    assert counts(authority, "sessions.revocations") == {("session",): 1}


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [cookie("junk")],
        [cookie("a"), cookie("b")],
        [(b"authorization", b"Bearer not a token")],
        [(b"authorization", b"Basic dTpw")],
    ],
)
def test_a_bad_token_is_no_error_at_the_end(headers: Headers) -> None:
    response = Response()
    asyncio.run(authority_of(store=MemorySessionStore()).end(response, request_with(*headers)))
    assert len(set_cookies(response)) == 1


def test_an_expired_or_forged_token_needs_no_revoking() -> None:
    clock = FakeClock()
    authority = authority_of(clock=clock, store=Failing(clock=clock))
    token = issue(authority).token
    cleared = authority.cookie.clear_headers()
    assert asyncio.run(authority.end_token([cookie(token[:-4] + "AAAA")])) == cleared  # a store asked would fail
    clock.advance(8 * 86_400)
    assert asyncio.run(authority.end_token([cookie(token)])) == cleared


def test_without_a_store_the_end_clears_the_cookies() -> None:
    authority = authority_of()
    assert len(asyncio.run(authority.end_token([cookie(issue(authority).token)]))) == 1


def test_a_store_that_fails_is_raised_after_the_cookies_are_cleared() -> None:
    authority, response = authority_of(cookie=OLDER, store=Failing()), Response()
    token = issue(authority).token
    with pytest.raises(SessionNotEnded) as failed:
        asyncio.run(authority.end(response, request_with(cookie(token))))
    assert len(set_cookies(response)) == 3
    assert list(failed.value.set_cookie) == set_cookies(response)
    assert token not in str(failed.value)


def test_a_token_that_nobody_can_check_now_is_not_ended() -> None:
    class NoKeys:
        keys, signing, usable_until = (), None, 0.0

        def attach(self, **parts: Any) -> None:
            """It needs none."""

        def find(self, kid: str | None, alg: str) -> Any:
            raise Refusal(Reason.KEYS_UNAVAILABLE)

        async def refresh(self, kid: str | None) -> bool:
            return False

    token = issue(authority_of()).token
    authority = authority_of(keys=NoKeys(), issuer="us", audience="app", store=MemorySessionStore())
    with pytest.raises(SessionNotEnded):
        asyncio.run(authority.end_token([cookie(token)]))


def test_where_a_bearer_token_came_beside_the_cookie_both_sessions_end() -> None:
    authority = authority_of(store=MemorySessionStore())
    one, two = issue(authority), issue(authority)
    asyncio.run(authority.end_token([bearer(one.token), cookie(two.token)]))
    assert asyncio.run(authority.sessions_of("1")) == []


def test_a_bearer_header_that_is_wrong_does_not_save_the_cookies_session() -> None:
    authority = authority_of(store=MemorySessionStore())
    issued = issue(authority)
    asyncio.run(authority.end_token([bearer("a.b.c"), bearer("d.e.f"), cookie(issued.token)]))
    assert asyncio.run(authority.sessions_of("1")) == []


def test_a_token_without_sid_is_ended_by_its_digest() -> None:
    clock = FakeClock()
    authority = authority_of(
        clock=clock, cookie=OLDER, store=MemorySessionStore(clock=clock), adoption=Adoption(sessions="marks")
    )
    old = foreign_token(SECRET.encode(), {"userId": "1", "iat": EPOCH - 60, "exp": EPOCH + 600})
    headers = [cookie(old, "token")]
    assert asyncio.run(authority.authenticate(headers)).result == "accepted"
    asyncio.run(authority.end_token(headers))
    assert asyncio.run(authority.authenticate(headers)).reason is Reason.SESSION_REVOKED


# verify


def test_verify_reads_the_token_alone() -> None:
    authority = authority_of()
    token = asyncio.run(authority.verify(issue(authority).token))
    assert (token.payload_version, token.claims["email"], token.adopted) == (2, "ada@example.com", ())
    assert "ada@example.com" not in repr(token)


@pytest.mark.parametrize("token", ["", "a.b.c", "ü.b.c", "a" * 9_000])
def test_verify_refuses_with_a_reason_and_without_a_text(token: str) -> None:
    with pytest.raises(Refusal) as refused:
        asyncio.run(authority_of().verify(token))
    assert refused.value.reason in (Reason.TOKEN_MALFORMED, Reason.TOKEN_OVERSIZE)
    assert str(refused.value) == refused.value.reason.value
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


# session, dependency, still_active


def test_the_accessor_returns_the_very_object_on_the_state() -> None:
    authority = authority_of()
    request = request_with(state={"session": ADA})
    assert authority.session(request) is request.state.session
    assert asyncio.run(authority.dependency(request)) is ADA


def test_the_accessor_refuses_where_there_is_no_session() -> None:
    with pytest.raises(Refusal) as refused:
        authority_of().session(HTTPConnection(scope_of(state={"session": None})))
    assert refused.value.reason is Reason.TOKEN_MISSING


@pytest.mark.parametrize("scope", [{}, {"state": {}}])
def test_the_accessor_says_where_the_middleware_was_forgotten(scope: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="wrap the app"):
        authority_of().session(HTTPConnection(scope_of(**scope)))


def test_a_long_stream_can_ask_whether_its_session_still_stands() -> None:
    clock = FakeClock()
    authority = authority_of(clock=clock, store=MemorySessionStore(clock=clock))
    issued = issue(authority)
    mine = request_with(cookie(issued.token))
    assert asyncio.run(authority.still_active(mine))
    assert counts(authority, "requests") == {}
    assert not asyncio.run(authority.still_active(request_with()))
    asyncio.run(authority.revoke(issued.session_id))
    assert not asyncio.run(authority.still_active(mine))


def test_a_stream_of_a_store_that_cannot_say_does_not_go_on() -> None:
    class Gone(MemorySessionStore):
        async def statuses(self, keys: Any) -> Any:
            raise Unavailable("down")

    authority = authority_of(store=Gone())
    assert not asyncio.run(authority.still_active(request_with(cookie(issue(authority).token))))


# revoke


async def test_one_a_users_and_everybodys_sessions_are_revoked() -> None:
    authority = authority_of(store=MemorySessionStore())
    one, two = [await authority.issue(ADA) for _ in range(2)]
    other = await authority.issue(Session(user_id="2"))

    async def alive() -> list[bool]:
        return [(await authority.authenticate([cookie(each.token)])).result == "accepted" for each in (one, two, other)]

    assert await alive() == [True, True, True]
    await authority.revoke_user("1", keep=two.session_id)
    assert await alive() == [False, True, True]
    assert await authority.revoke(two.session_id)
    assert not await authority.revoke(two.session_id)
    assert await alive() == [False, False, True]
    await authority.revoke_all()
    assert await alive() == [False, False, False]
    again = await authority.issue(ADA)
    assert (await authority.authenticate([cookie(again.token)])).result == "accepted"


def test_without_a_store_nothing_can_be_listed_or_revoked() -> None:
    authority = authority_of()
    for call, arguments in (
        (authority.sessions_of, ["1"]),
        (authority.revoke, ["x"]),
        (authority.revoke_user, ["1"]),
        (authority.revoke_all, []),
    ):
        with pytest.raises(ConfigError, match="store"):
            asyncio.run(call(*arguments))


# Its life


async def test_it_reports_its_configuration_once_and_withdraws_its_gauges_at_the_end() -> None:
    async with authority_of(store=MemorySessionStore()) as authority:
        authority.open()
        await authority.issue(ADA)
        assert list(authority.parts.counters.gauges())
    assert list(authority.parts.counters.gauges()) == []
    assert counts(authority, "tokens.issued") == {("2", "start"): 1}
    await authority.aclose()


async def test_it_ends_without_a_store_too() -> None:
    async with authority_of() as authority:
        assert authority.migration.version == 2


def test_two_authorities_accept_each_others_tokens_only_by_shared_keys() -> None:
    one, two = authority_of(issuer="one"), authority_of(issuer="two")
    outcome = asyncio.run(two.authenticate([cookie(issue(one).token)]))
    assert outcome.reason is Reason.ISSUER_MISMATCH


async def test_a_browser_keeps_the_cookie_that_start_sets() -> None:
    authority = authority_of()
    response = Response()
    issued = await authority.start(response, ADA)
    jar: SimpleCookie = SimpleCookie(set_cookies(response)[0])
    assert jar["__Host-session"].value == issued.token
    async with client(JWTSessionMiddleware(Echo(), authority=authority)) as http:
        http.cookies.set("__Host-session", issued.token)
        assert (await http.get("/")).status_code == 200


def test_an_old_token_is_one_of_this_authoritys_key() -> None:
    authority = authority_of()
    assert asyncio.run(authority.verify(old_token(authority, {"userId": "1"}))).payload_version == 1


async def test_remote_keys_begin_and_end_with_the_authority() -> None:
    class Remote:
        keys, signing, usable_until = (), None, 0.0

        def __init__(self) -> None:
            self.life: list[str] = []

        def attach(self, **parts: Any) -> None:
            self.life.append("attached")

        def open(self) -> None:
            self.life.append("opened")

        async def aclose(self) -> None:
            self.life.append("closed")

        async def refresh(self, kid: str | None) -> bool:
            return False

    remote = Remote()

    async with authority_of(keys=remote, issuer="us", audience="app") as authority:
        authority.open()
    assert remote.life == ["attached", "opened", "closed"]


def test_a_session_class_is_no_schema_and_the_error_says_how_to_make_one() -> None:
    given: Any = Session
    with pytest.raises(ConfigError, match=r"SessionSchema\(Session, version=1"):
        SessionAuthority(given, keys=KeyRing([Key.hmac(SECRET)]))


async def test_an_integer_names_a_user_as_it_does_in_a_token() -> None:
    authority = authority_of(store=MemorySessionStore())

    issued = await authority.issue(Session(user_id="7"))
    bearer = [(b"authorization", b"Bearer " + issued.token.encode())]
    assert [row.user_id for row in await authority.sessions_of(7)] == ["7"]
    assert (await authority.authenticate(bearer)).result == "accepted"
    assert not await authority.revoke(issued.session_id, user_id=8)
    await authority.revoke_user(7)
    assert (await authority.authenticate(bearer)).reason is Reason.SESSION_REVOKED
    with pytest.raises(ConfigError, match="a user id is"):
        await authority.revoke_user(None)
