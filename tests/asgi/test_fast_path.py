"""The guard of the plain hit's price: calls, allocations, awaits and signals are counted, never seconds."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable
from types import FrameType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from jwt_middleware import JWTSessionMiddleware, MemorySessionStore, Reason, Refusal, source
from jwt_middleware.asgi.fast_path import FastPath
from jwt_middleware.asgi.paths import PublicPaths
from jwt_middleware.asgi.user import SessionUser
from jwt_middleware.names import DECIDED
from jwt_middleware.tokens.jws import digest
from tests.support.asgi import Echo, Sent, counts, nothing, scope_of
from tests.support.lookups import turns
from tests.support.signals import Signals
from tests.support.world import FakeClock, Recorder, Session, authority_of

MOST_CALLS = 4
"""Python functions of ours that one plain hit enters."""
MOST_BLOCKS = 50
"""Blocks of memory that a thousand plain hits may leave behind: the interpreter's own caches, not one a request."""


class Store(MemorySessionStore):
    """Counts what it is asked."""

    def __init__(self, *, clock: Any) -> None:
        super().__init__(clock=clock)
        self.asked = 0

    async def statuses(self, keys: Any) -> Any:
        self.asked += 1
        return await super().statuses(keys)


class Plain:
    """An app behind the middleware with everything on, and a token that was seen before."""

    def __init__(self, **settings: Any) -> None:
        self.clock, self.recorder, self.signals, self.fetched = FakeClock(), Recorder(), Signals(), 0
        self.store = Store(clock=self.clock)

        @source("email")
        async def emails(keys: Any) -> Any:
            self.fetched += 1
            return {key: {"email": "a@example.com"} for key in keys}

        self.authority = authority_of(
            clock=self.clock,
            store=self.store,
            sources=[emails],
            observers=[self.recorder],
            telemetry=self.signals.telemetry(),
            **settings,
        )
        self.app = Echo()
        self.middleware = JWTSessionMiddleware(self.app, authority=self.authority, public=["/login", "/static/*"])
        issued = asyncio.run(self.authority.issue(Session(user_id="1", email="a@example.com")))
        self.token, self.session_id = issued.token, issued.session_id
        self.headers = [
            (b"accept", b"text/html"),
            (b"accept-language", b"en"),
            (b"cookie", f"theme=dark; {self.authority.cookie.name}={self.token}; other=1".encode()),
        ]
        asyncio.run(self.request())

    async def request(self, **more: Any) -> list[Any]:
        sent = Sent()
        await self.middleware(scope_of(headers=self.headers, **more), nothing, sent)
        return sent.messages

    def step(self) -> None:
        """One request without an event loop: whatever suspends ends here."""
        self.app.scopes.clear()
        with pytest.raises(StopIteration):
            self.middleware(scope_of(headers=self.headers), nothing, _take).send(None)


async def _take(message: Any) -> None:
    """A client that keeps nothing."""


def entered(call: Callable[[], object]) -> list[str]:
    """The Python functions of the package that a call enters."""
    found: list[str] = []

    def look(frame: FrameType, event: str, _: object) -> None:
        if (
            event == "call"
            and "jwt_middleware" in frame.f_code.co_filename
            and "/tests/" not in frame.f_code.co_filename
        ):
            found.append(frame.f_code.co_name)

    sys.setprofile(look)
    try:
        call()
    finally:
        sys.setprofile(None)
    return found


def test_no_coroutine_is_suspended() -> None:
    plain = Plain()

    plain.step()

    assert plain.app.session.user_id == "1"


def test_it_enters_few_functions_and_none_of_the_steps_that_a_known_token_spares() -> None:
    plain = Plain()
    plain.step()

    found = entered(plain.step)

    assert len(found) <= MOST_CALLS, found
    assert not {"run", "verify", "open", "check", "check_now", "upgrade", "fill", "finished", "_private"} & set(found)


def test_nothing_is_asked_reported_or_counted_but_one_cell() -> None:
    plain = Plain()
    asked, before = plain.store.asked, list(plain.authority.parts.counters.counts)
    plain.signals.exporter.clear()
    plain.recorder.outcomes.clear()

    for _ in range(100):
        plain.step()

    cells = plain.authority.parts.counters.counts
    assert [(now - was) for was, now in zip(before, cells, strict=True) if now != was] == [100]
    assert counts(plain.authority, "requests") == {("2", "accepted"): 101}
    assert (plain.store.asked, plain.fetched, plain.recorder.outcomes) == (asked, 0, [])
    assert plain.signals.exporter.get_finished_spans() == ()


def test_a_thousand_leave_no_memory_behind() -> None:
    plain = Plain()
    for _ in range(1_000):
        plain.step()
    gc.collect()
    before = sys.getallocatedblocks()

    for _ in range(1_000):
        plain.step()

    gc.collect()
    assert sys.getallocatedblocks() - before <= MOST_BLOCKS


def test_a_remembered_token_adds_nothing_that_the_garbage_collector_follows() -> None:
    plain = Plain()
    gc.collect()

    ((key, entry),) = plain.authority.parts.known.seen._entries.items()

    assert not gc.is_tracked(key)
    assert not gc.is_tracked(entry)
    assert not any(gc.is_tracked(part) for part in entry)


def test_the_user_of_a_request_is_itself_and_shows_nobody_who_it_is() -> None:
    plain = Plain()

    plain.step()

    user = plain.app.scopes[0]["user"]
    assert isinstance(user, SessionUser)
    assert (user.identity, user.display_name, user.is_authenticated) == ("1", "1", True)
    assert {user: 1}[user] == 1  # sets, caches
    plain.step()
    assert plain.app.scopes[0]["user"] != user
    assert "example.com" not in repr(user)
    assert not hasattr(user, "__rich_repr__")


@pytest.mark.parametrize("begun", [False, True])
def test_a_refusal_of_the_app_is_answered_where_the_response_has_not_begun(begun: bool) -> None:
    plain = Plain()

    async def picky(scope: Any, receive: Any, send: Any) -> None:
        if begun:
            await plain.app(scope, receive, send)
        raise Refusal(Reason.TOKEN_MISSING)

    plain.middleware.app = picky  # type: ignore[misc]  # another app behind the same remembered token
    before = counts(plain.authority, ".requests")
    sent = Sent()
    request = plain.middleware(scope_of(headers=plain.headers), nothing, sent)

    if begun:
        with pytest.raises(Refusal):
            asyncio.run(request)
        assert [message.get("status", 0) for message in sent.messages] == [200, 0]
    else:
        asyncio.run(request)
        start = sent.messages[0]
        assert start["status"] == 401
        assert (b"vary", b"Authorization, Cookie") in start["headers"]
    after = counts(plain.authority, ".requests")
    assert {key: count - before.get(key, 0) for key, count in after.items()} == {("2", "accepted"): 1}


def test_each_request_has_a_session_of_its_own() -> None:
    plain = Plain()
    plain.step()
    first = plain.app.session
    first.permissions.append("everything")

    plain.step()

    assert plain.app.session is not first
    assert plain.app.session.permissions == ["read"]


def test_half_way_to_the_next_check_the_session_is_looked_up_beside_the_request_and_the_token_not_again() -> None:
    plain = Plain()
    asked = plain.store.asked

    async def test() -> None:
        plain.clock.advance(2.6)
        for _ in range(3):
            await plain.request()
        await turns()
        assert plain.store.asked == asked + 1
        before = list(plain.authority.parts.counters.counts)
        await plain.request()
        assert plain.store.asked == asked + 1
        assert sum(plain.authority.parts.counters.counts) == sum(before) + 1
        assert len(plain.recorder.outcomes) == 1, "only the first sight was reported"
        assert len(plain.authority.parts.activity or ()) == 1

    asyncio.run(test())


def test_the_request_after_the_next_check_is_as_cheap_as_any() -> None:
    plain = Plain()

    async def once_more() -> None:
        plain.clock.advance(2.6)
        await plain.request()
        await turns()
        await plain.request()

    asyncio.run(once_more())

    assert "_stands" not in entered(plain.step)
    assert len(entered(plain.step)) <= MOST_CALLS


def test_past_the_bound_the_whole_path_decides() -> None:
    plain = Plain()

    plain.clock.advance(5.0)

    assert "run" in entered(lambda: asyncio.run(plain.request()))


@pytest.mark.parametrize("whose", ["session", "user"])
def test_a_session_that_was_ended_elsewhere_passes_no_longer_than_the_answer_is_believed(whose: str) -> None:
    plain = Plain()

    async def test() -> None:
        if whose == "session":
            await plain.store.revoke(plain.session_id)
        else:
            plain.clock.advance(0.1)
            await plain.store.revoke_user("1")
        plain.clock.advance(2.6)
        assert (await plain.request())[0]["status"] == 200
        await turns()
        assert (await plain.request())[0]["status"] == 401
        assert plain.recorder.outcomes[-1].reason is Reason.SESSION_REVOKED

    asyncio.run(test())


def asked_for(headers: list[tuple[bytes, bytes]], cookie: str) -> list[bytes]:
    """The digest of the token, if any, that the plain hit finds in these headers."""
    asked: list[bytes] = []
    known = MagicMock(find=asked.append)
    authority: Any = SimpleNamespace(
        cookie=SimpleNamespace(name=cookie),
        parts=SimpleNamespace(known=known),
        schema=SimpleNamespace(subject_attribute="user_id"),
    )
    assert not FastPath(authority, PublicPaths([])).take(scope_of(headers=headers))
    return asked


@pytest.mark.parametrize(
    "cookies",
    [
        b"{name}={token}",
        b"a=1; {name}={token}",
        b"{name}={token}; a=1",
        b"a=1; {name}={token};",
        b"a=1;{name}={token}",
        b"a=1; {name} = {token} ",
        b"x{name}=other; {name}={token}",
        b"a={name}; {name}={token}",
        b"a =1; {name}={token}",
        b"{name}={token}; a=\t",
    ],
)
def test_however_the_cookie_is_written_plain_and_full_reading_agree(cookies: bytes) -> None:
    plain = Plain()
    name, token = plain.authority.cookie.name.encode(), plain.token.encode()
    header = cookies.replace(b"{name}", name).replace(b"{token}", token)
    given = [(b"accept", b"*/*"), (b"cookie", header)]

    assert plain.authority.transport.read(given).raw.value == token
    assert asked_for(given, plain.authority.cookie.name) in ([], [digest(token)], [digest(token + b" ")])


@pytest.mark.parametrize(
    "given",
    [
        [],
        [(b"cookie", b"a=1")],
        [(b"cookie", b"__Host-session=a; __Host-session=b")],
        [(b"cookie", b"__Host-session=a; __Host-session =b")],
        [(b"cookie", b"__Host-session=a; __Host-session\t=b")],
        [(b"cookie", b"__Host-session\t=b; __Host-session=a")],
        [(b"cookie", b"x__Host-session=b; __Host-session=a")],
        [(b"cookie", b"__Host-session=a"), (b"cookie", b"b=1")],
        [(b"cookie", b"__Host-session=a"), (b"authorization", b"Bearer b")],
        [(b"authorization", b"Basic b"), (b"cookie", b"__Host-session=a")],
        [(b"cookie", b"__Host-session=a; x=" + b"y" * 70_000)],
        [(b"cookie", b"not__Host-session=a")],
    ],
)
def test_what_is_unusual_is_left_to_the_full_reading(given: list[tuple[bytes, bytes]]) -> None:
    assert asked_for(given, "__Host-session") == []


def test_a_short_cookie_name_is_found_though_the_token_holds_its_letters() -> None:
    assert asked_for([(b"cookie", b"a=1; t=ttt.attt.ttt; b=2")], "t") == [digest(b"ttt.attt.ttt")]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "get"])
def test_an_unsafe_method_takes_the_way_past_the_guard(method: str) -> None:
    plain = Plain()

    assert "allows" in entered(lambda: asyncio.run(plain.request(method=method)))


def test_a_request_decided_outside_and_a_public_one_are_no_plain_hits() -> None:
    plain = Plain()
    takes = plain.middleware._takes
    assert DECIDED == "jwt_middleware"

    assert takes(scope_of(headers=plain.headers))
    assert not takes(scope_of(headers=plain.headers, jwt_middleware=(None, None)))
    assert not takes(scope_of("/login", headers=plain.headers))
    assert not takes(scope_of(headers=plain.headers, kind="websocket"))


def test_a_response_says_what_it_depends_on_and_keeps_the_rest() -> None:
    start, body = asyncio.run(Plain().request())

    assert start == {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"vary", b"Authorization, Cookie")],
        "extra": "kept",
    }
    assert body["body"] == b"ok"
