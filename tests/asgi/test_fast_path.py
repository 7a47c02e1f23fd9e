"""What a cache hit costs: calls, allocations, awaits and signals are counted, never seconds."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from jwt_middleware import MemorySessionStore, Reason, Refusal
from jwt_middleware.asgi.fast_path import FastPath
from jwt_middleware.asgi.paths import PublicPaths
from jwt_middleware.asgi.user import SessionUser
from jwt_middleware.names import SCOPE_KEY
from jwt_middleware.sessions.token_cache import Hit
from jwt_middleware.tokens.jws import digest
from tests.support.asgi import Sent, counts, nothing, scope_of
from tests.support.lookups import turns
from tests.support.signals import Signals
from tests.support.world import World

MAX_CALLS = 6
"""Python functions of ours that one cache hit enters; two are for the two messages of the response."""
MAX_BLOCKS = 50
"""Blocks of memory that a thousand cache hits may leave behind: the interpreter's own caches, not one a request."""


class Store(MemorySessionStore):
    """Counts its queries."""

    queries = 0

    async def statuses(self, keys: Any) -> Any:
        self.queries += 1
        return await super().statuses(keys)


class Hits(World):
    """An app behind the middleware with everything on, and a token that was accepted before."""

    def __init__(self) -> None:
        self.signals = Signals()
        super().__init__(store=Store, telemetry=self.signals.telemetry(), public=["/login", "/static/*"])
        self.middleware: Any = self.app
        self.presented, self.session_id = asyncio.run(self.log_in(email="a@example.com"))
        self.headers = [
            (b"accept", b"text/html"),
            (b"accept-language", b"en"),
            (b"cookie", f"theme=dark; {self.authority.cookie.name}={self.presented}; other=1".encode()),
        ]
        asyncio.run(self.request())

    async def request(self, **scope: Any) -> list[Any]:
        return await self.send(scope_of(headers=self.headers, **scope))

    def step(self) -> None:
        """One request without an event loop: whatever suspends ends here."""
        self.echo.scopes.clear()
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


class TestStatus:
    def test_from_half_the_bound_on_the_status_is_fetched_in_the_background(self) -> None:
        hits = Hits()
        asked = hits.store.queries

        async def test() -> None:
            hits.clock.advance(2.6)
            for _ in range(3):
                await hits.request()
            await turns()
            assert hits.store.queries == asked + 1
            before = list(hits.authority.parts.counters.counts)
            await hits.request()
            assert hits.store.queries == asked + 1
            assert sum(hits.authority.parts.counters.counts) == sum(before) + 1
            assert len(hits.recorder.outcomes) == 1, "only the cache miss was reported"
            assert len(hits.authority.parts.activity or ()) == 1

        asyncio.run(test())

    def test_the_request_after_a_recheck_is_as_cheap_as_any(self) -> None:
        hits = Hits()

        async def once_more() -> None:
            hits.clock.advance(2.6)
            await hits.request()
            await turns()
            await hits.request()

        asyncio.run(once_more())

        assert "_recheck" not in entered(hits.step)
        assert len(entered(hits.step)) <= MAX_CALLS

    def test_past_the_bound_the_authenticator_decides(self) -> None:
        hits = Hits()

        hits.clock.advance(5.0)

        assert "decide" in entered(lambda: asyncio.run(hits.request()))

    @pytest.mark.parametrize("whose", ["session", "user"])
    def test_a_session_revoked_elsewhere_passes_no_longer_than_the_bound(self, whose: str) -> None:
        hits = Hits()

        async def test() -> None:
            if whose == "session":
                await hits.store.revoke(hits.session_id)
            else:
                hits.clock.advance(0.1)
                await hits.store.revoke_user("1")
            hits.clock.advance(2.6)
            assert (await hits.request())[0]["status"] == 200
            await turns()
            assert (await hits.request())[0]["status"] == 401
            assert hits.recorder.outcomes[-1].reason is Reason.SESSION_REVOKED

        asyncio.run(test())


def recalled(headers: list[tuple[bytes, bytes]], cookie: str) -> list[bytes]:
    """The digest of the token, if any, that the fast path looks up for these headers."""
    keys: list[bytes] = []
    authority: Any = SimpleNamespace(
        cookie=SimpleNamespace(name=cookie),
        parts=SimpleNamespace(token_cache=SimpleNamespace(recall=keys.append, generation=0)),
        schema=SimpleNamespace(subject_attribute="user_id"),
    )
    assert not isinstance(FastPath(authority, PublicPaths([])).take(scope_of(headers=headers)), Hit)
    return keys


class TestHeaders:
    def test_the_fast_path_reads_a_cookie_as_the_transport_does(self, subtests: pytest.Subtests) -> None:
        for cookies in [
            b"{name}={token}",
            b"a=1; {name}={token}",
            b"{name}={token}; a=1",
            b"a=1; {name}={token};",
            b"a=1;{name}={token}",
            b"a=1; {name} = {token} ",
            b"{name}={token} ",
            b"a=1; {name}=\t{token} ; b=2",
            b"x{name}=other; {name}={token}",
            b"a={name}; {name}={token}",
            b"a =1; {name}={token}",
            b"{name}={token}; a=\t",
        ]:
            with subtests.test(cookies=cookies):
                hits = Hits()
                name, token = hits.authority.cookie.name.encode(), hits.presented.encode()
                header = cookies.replace(b"{name}", name).replace(b"{token}", token)
                given = [(b"accept", b"*/*"), (b"cookie", header)]

                assert hits.authority.transport.read(given).raw.value == token
                assert asyncio.run(hits.send(scope_of(headers=given)))[0]["status"] == 200
                read = recalled(given, hits.authority.cookie.name)
                assert read in ([], [digest(token)], [digest(token + b" ")], [digest(b"\t" + token + b" ")])

    def test_unusual_headers_are_left_to_the_transport(self) -> None:
        for given in [
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
        ]:
            assert recalled(given, "__Host-session") == [], given

    def test_a_short_cookie_name_is_found_though_the_token_contains_it(self) -> None:
        assert recalled([(b"cookie", b"a=1; t=ttt.attt.ttt; b=2")], "t") == [digest(b"ttt.attt.ttt")]


class TestCacheHit:
    def test_no_coroutine_is_suspended(self) -> None:
        hits = Hits()

        hits.step()

        assert hits.echo.session.user_id == "1"

    def test_a_hit_enters_few_functions_and_no_step_of_the_slow_path(self) -> None:
        hits = Hits()
        hits.step()

        found = entered(hits.step)

        assert len(found) <= MAX_CALLS, found
        assert not {"decide", "_verify", "open", "check", "cached", "upgrade", "fill", "finished", "_private"} & set(
            found
        )

    def test_a_hit_queries_and_reports_nothing_and_increments_one_counter(self) -> None:
        hits = Hits()
        asked, before = hits.store.queries, list(hits.authority.parts.counters.counts)
        hits.signals.exporter.clear()
        hits.recorder.outcomes.clear()

        for _ in range(100):
            hits.step()

        cells = hits.authority.parts.counters.counts
        assert [(now - was) for was, now in zip(before, cells, strict=True) if now != was] == [100]
        assert counts(hits.authority, "requests") == {("2", "accepted"): 101}
        assert (hits.store.queries, hits.users.asked, hits.recorder.outcomes) == (asked, 0, [])
        assert hits.signals.exporter.get_finished_spans() == ()

    def test_a_thousand_hits_leave_no_memory_behind(self) -> None:
        hits = Hits()
        for _ in range(1_000):
            hits.step()
        gc.collect()
        before = sys.getallocatedblocks()

        for _ in range(1_000):
            hits.step()

        gc.collect()
        assert sys.getallocatedblocks() - before <= MAX_BLOCKS

    def test_the_garbage_collector_does_not_track_cached_tokens(self) -> None:
        hits = Hits()
        gc.collect()

        ((key, entry),) = hits.authority.parts.token_cache._entries.items()

        assert not gc.is_tracked(key)
        assert not gc.is_tracked(entry)
        assert not any(gc.is_tracked(getattr(entry, name)) for name in entry.__struct_fields__)

    def test_the_user_of_a_request_is_hashable_and_hides_itself_in_repr(self) -> None:
        hits = Hits()

        hits.step()

        user = hits.echo.scopes[0]["user"]
        assert isinstance(user, SessionUser)
        assert (user.identity, user.display_name, user.is_authenticated) == ("1", "1", True)
        assert {user: 1}[user] == 1  # sets, caches
        hits.step()
        assert hits.echo.scopes[0]["user"] != user
        assert "example.com" not in repr(user)
        assert not hasattr(user, "__rich_repr__")

    @pytest.mark.parametrize("begun", [False, True])
    def test_a_refusal_of_the_app_is_answered_before_the_response_begins(self, begun: bool) -> None:
        hits = Hits()

        async def picky(scope: Any, receive: Any, send: Any) -> None:
            if begun:
                await hits.echo(scope, receive, send)
            raise Refusal(Reason.TOKEN_MISSING)

        hits.middleware.app = picky  # another app behind the same cached token
        before = counts(hits.authority, ".requests")
        sent = Sent()
        request = hits.middleware(scope_of(headers=hits.headers), nothing, sent)

        if begun:
            with pytest.raises(Refusal):
                asyncio.run(request)
            assert [message.get("status", 0) for message in sent.messages] == [200, 0]
        else:
            asyncio.run(request)
            start = sent.messages[0]
            assert start["status"] == 401
            assert (b"vary", b"Authorization, Cookie") in start["headers"]
        after = counts(hits.authority, ".requests")
        assert {key: count - before.get(key, 0) for key, count in after.items()} == {("2", "accepted"): 1}

    def test_each_request_has_a_session_of_its_own(self) -> None:
        hits = Hits()
        hits.step()
        first = hits.echo.session
        first.permissions.append("everything")

        hits.step()

        assert hits.echo.session is not first
        assert hits.echo.session.permissions == ["read"]

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "get"])
    def test_an_unsafe_method_meets_the_cross_site_guard(self, method: str) -> None:
        hits = Hits()

        assert "allows" in entered(lambda: asyncio.run(hits.request(method=method)))

    def test_a_request_decided_outside_or_public_is_not_a_hit(self) -> None:
        hits = Hits()
        takes = hits.middleware._take
        assert SCOPE_KEY == "jwt_middleware"

        assert takes(scope_of(headers=hits.headers))
        assert not takes(scope_of(headers=hits.headers, jwt_middleware=(None, None)))
        assert not takes(scope_of("/login", headers=hits.headers))
        assert not takes(scope_of(headers=hits.headers, kind="websocket"))

    def test_a_response_gets_vary_and_keeps_the_rest(self) -> None:
        start, body = asyncio.run(Hits().request())

        assert start == {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"vary", b"Authorization, Cookie")],
            "extra": "kept",
        }
        assert body["body"] == b"ok"
