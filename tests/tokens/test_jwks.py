"""The snapshot of remote keys: when it is fetched, how long it is used, and when a request waits for it."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import threading
import time
import warnings
import weakref
from datetime import timedelta
from typing import Any

import pytest

from jwt_middleware import ConfigError, Key, MemorySessionStore, Outcome, Refusal, RemoteKeys, names
from jwt_middleware.tokens.jwks import FETCH_OUTCOMES
from tests.support.asgi import counts
from tests.support.issuer import (
    PARTIES,
    Issuer,
    at_once,
    fetches,
    pair,
    public,
    remote,
    response,
    unsigned,
    until,
    verifier,
)
from tests.support.processes import python
from tests.support.target import forged, reason
from tests.support.world import SECRET, FakeClock, Session, authority_of, bearer

HOUR = 3600
SOON = timedelta(milliseconds=10)


class TestFirstFetch:
    async def test_the_first_request_waits_for_the_set_and_later_ones_do_not(self) -> None:
        async with Issuer("k1", "k2").serving() as issuer:
            authority = verifier(remote(issuer))
            assert await reason(authority, await issuer.token("k1")) is None
            for kid in ("k1", "k2") * 5:
                at_once(authority, await issuer.token(kid))
            assert len(issuer.requests) == 1
            await authority.aclose()

    async def test_concurrent_first_requests_share_one_fetch(self) -> None:
        async with Issuer("k1").serving() as issuer:
            authority = verifier(remote(issuer))
            tokens = [await issuer.token("k1") for _ in range(50)]
            assert await asyncio.gather(*(reason(authority, token) for token in tokens)) == [None] * 50
            assert len(issuer.requests) == 1
            await authority.aclose()

    async def test_an_opened_authority_fetches_before_the_first_request(self) -> None:
        async with Issuer("k1").serving() as issuer, verifier(remote(issuer)) as authority:
            token = await issuer.token("k1")
            await until(lambda: fetches(authority)["ok"] == 1)
            assert at_once(authority, token).claims["userId"]
            assert len(issuer.requests) == 1

    async def test_a_cancelled_request_does_not_cancel_the_fetch_of_others(self) -> None:
        async with Issuer("k1").serving() as issuer:
            issuer.respond = issuer.stalling
            authority, token = verifier(remote(issuer)), await issuer.token("k1")
            gone, waiting = (asyncio.create_task(reason(authority, token)) for _ in range(2))
            await until(lambda: len(issuer.requests) == 1)
            gone.cancel()
            await asyncio.sleep(0)
            issuer.over.set()
            assert await waiting is None
            assert len(issuer.requests) == 1
            await authority.aclose()

    async def test_without_a_set_requests_get_503_and_fetches_back_off(self) -> None:
        clock, issuer = FakeClock(), Issuer("k1")
        async with issuer.serving():
            pass
        authority = verifier(remote(issuer), clock)
        token = await issuer.token("k1", clock)
        for attempt, pause in enumerate([1, 2, 4, 8, 16, 30, 30], start=1):
            for _ in range(5):
                assert await reason(authority, token) == "keys_unavailable"
            assert fetches(authority)["error"] == attempt
            clock.advance(pause - 0.01)
            assert await reason(authority, token) == "keys_unavailable"
            assert fetches(authority)["error"] == attempt
            clock.advance(0.02)
        async with issuer.serving():
            assert await reason(authority, token) is None
        await authority.aclose()


class TestUnknownKeys:
    async def test_a_new_key_is_found_by_its_first_token(self) -> None:
        async with Issuer("k1").serving() as issuer:
            authority = verifier(remote(issuer))
            assert await reason(authority, await issuer.token("k1")) is None
            issuer.rotate("k1", "k2")
            tokens = [await issuer.token("k2") for _ in range(20)]
            assert await asyncio.gather(*(reason(authority, token) for token in tokens)) == [None] * 20
            issuer.rotate("k1", "k2", "k3")
            assert await reason(authority, await issuer.token("k3")) == "key_unknown"  # 30 s are not over
            assert len(issuer.requests) == 2
            await authority.aclose()

    @pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
    async def test_unknown_kids_cause_one_fetch_in_thirty_seconds(self, up: bool) -> None:
        clock, issuer = FakeClock(), Issuer("k1")
        async with issuer.serving():
            authority = verifier(remote(issuer), clock)
            assert await reason(authority, await issuer.token("k1", clock)) is None
            if not up:
                await issuer.cut()
            for fetched in (1, 2, 3):
                for place in range(20):
                    assert await reason(authority, unsigned(f"kid-{place}")) == "key_unknown"
                clock.advance(29.99)
                assert await reason(authority, unsigned("late")) == "key_unknown"
                assert sum(fetches(authority).values()) == 1 + fetched
                at_once(authority, await issuer.token("k1", clock))
                clock.advance(0.02)
            await authority.aclose()

    async def test_a_process_that_gets_only_unknown_kids_fetches_once(self) -> None:
        async with Issuer("k1").serving() as issuer:
            authority = verifier(remote(issuer))
            reasons = [await reason(authority, unsigned(f"kid-{place}")) for place in range(20)]
            assert set(reasons) == {"key_unknown"}
            assert len(issuer.requests) == 1
            await authority.aclose()

    async def test_a_token_without_kid_is_verified_by_keys_without_kid_alone(self) -> None:
        async with Issuer("k1").serving() as issuer:
            issuer.pairs["nameless"] = pair(None)
            authority = verifier(remote(issuer))
            assert await reason(authority, await issuer.token("nameless")) == "key_unknown"
            issuer.rotate("k1", "nameless")
            other = verifier(remote(issuer))
            assert await reason(other, await issuer.token("nameless")) is None
            await authority.aclose()
            await other.aclose()

    async def test_the_algorithm_comes_from_the_key(self) -> None:
        async with Issuer("k1").serving() as issuer:
            authority = verifier(remote(issuer))
            assert await reason(authority, unsigned("k1", alg="HS256")) == "algorithm_mismatch"
            assert await reason(authority, unsigned("k1")) == "signature_invalid"
            await authority.aclose()

    async def test_the_location_of_a_key_in_a_token_opens_no_connection(self) -> None:
        async with Issuer("k1").serving() as issuer, Issuer("evil").serving() as listener:
            authority = verifier(remote(issuer))
            key = public(listener.pairs["evil"])
            for header in ({"jku": listener.url}, {"x5u": listener.url}, {"jwk": key}, {"jku": issuer.url, "jwk": key}):
                assert await reason(authority, unsigned("evil", **header)) == "key_unknown"
            assert listener.requests == []
            assert len(issuer.requests) == 1
            await authority.aclose()


class TestRenewal:
    async def test_a_set_is_renewed_in_the_background_while_requests_go_on(self) -> None:
        clock, issuer = FakeClock(), Issuer("k1")
        async with issuer.serving():
            authority = verifier(remote(issuer), clock)
            tokens = [await issuer.token("k1", clock) for _ in range(10)]
            assert await reason(authority, tokens.pop()) is None
            clock.advance(299)
            at_once(authority, tokens.pop())
            await asyncio.sleep(0)
            assert len(issuer.requests) == 1
            issuer.respond = issuer.stalling
            clock.advance(2)
            for token in tokens:
                at_once(authority, token)
                await asyncio.sleep(0)
            await until(lambda: len(issuer.requests) == 2)
            issuer.over.set()
            await until(lambda: fetches(authority)["ok"] == 2)
            await authority.aclose()

    @pytest.mark.parametrize("settings", [{"refresh_every": SOON}, {"usable_for": 2 * SOON}], ids=str)
    async def test_a_set_is_renewed_in_time_without_requests_too(self, settings: dict[str, Any]) -> None:
        """After ``refresh_every``, or half of the time that it is usable."""
        async with Issuer("k1").serving() as issuer, verifier(remote(issuer, **settings)) as authority:
            await until(lambda: len(issuer.requests) == 3)
            assert fetches(authority)["ok"] >= 2
            assert fetches(authority)["error"] == 0

    @pytest.mark.parametrize("cached", [True, False], ids=["a cached token", "a new token"])
    async def test_while_the_endpoint_is_down_the_set_is_used_for_an_hour(self, cached: bool) -> None:
        clock, issuer = FakeClock(), Issuer("k1")
        async with issuer.serving():
            authority = verifier(remote(issuer), clock)
            first, second, third = [await issuer.token("k1", clock) for _ in range(3)]
            assert (await authority.authenticate(bearer(first))).result == "accepted"
        clock.advance(HOUR - 1)
        assert (await authority.authenticate(bearer(second))).result == "accepted"
        clock.advance(1)
        refused = await authority.authenticate(bearer(second if cached else third))
        assert (refused.result, refused.reason) == ("refused", "keys_unavailable")
        async with issuer.serving():
            clock.advance(30)
            assert (await authority.authenticate(bearer(second))).result == "accepted"
            await authority.aclose()

    async def test_the_hour_is_a_setting(self) -> None:
        clock, issuer = FakeClock(), Issuer("k1")
        async with issuer.serving():
            authority = verifier(remote(issuer, usable_for=timedelta(hours=5)), clock)
            token = await issuer.token("k1", clock)
            assert await reason(authority, token) is None
        clock.advance(5 * HOUR - 1)
        assert await reason(authority, token) is None
        clock.advance(2)
        assert await reason(authority, token) == "keys_unavailable"
        await authority.aclose()


class TestChangedKeys:
    async def test_a_key_that_left_the_set_ends_cached_tokens_too(self) -> None:
        clock, issuer = FakeClock(), Issuer("k1", "k2")
        async with issuer.serving():
            authority = verifier(remote(issuer), clock)
            leaving, staying = await issuer.token("k1", clock), await issuer.token("k2", clock)
            for token in (leaving, staying):
                assert (await authority.authenticate(bearer(token))).result == "accepted"
            issuer.rotate("k2", "k3")
            assert await reason(authority, await issuer.token("k3", clock)) is None
            assert (await authority.authenticate(bearer(leaving))).reason == "key_unknown"
            assert (await authority.authenticate(bearer(staying))).result == "accepted"
            await authority.aclose()

    async def test_a_key_that_was_replaced_under_its_kid_is_gone(self) -> None:
        clock, issuer = FakeClock(), Issuer("k1")
        async with issuer.serving():
            authority = verifier(remote(issuer), clock)
            token = await issuer.token("k1", clock)
            assert (await authority.authenticate(bearer(token))).result == "accepted"
            issuer.pairs["k1"] = pair("k1")
            assert await reason(authority, unsigned("other")) == "key_unknown"
            assert (await authority.authenticate(bearer(token))).reason == "signature_invalid"
            await authority.aclose()

    async def test_a_key_that_is_added_clears_no_cached_token(self) -> None:
        async with Issuer("k1").serving() as issuer:
            authority = verifier(remote(issuer))
            token = await issuer.token("k1")
            assert (await authority.authenticate(bearer(token))).result == "accepted"
            issuer.rotate("k2", "k1")
            assert await reason(authority, await issuer.token("k2")) is None
            before = counts(authority, "verifications")  # the first token is still cached: it is not verified again
            assert (await authority.authenticate(bearer(token))).result == "accepted"
            assert counts(authority, "verifications") == before
            await authority.aclose()


class TestEventLoops:
    def test_one_authority_serves_one_event_loop_after_the_other(self) -> None:
        issuer, clock = Issuer("k1"), FakeClock()

        async def first() -> Any:
            async with issuer.serving():
                authority = verifier(remote(issuer), clock)
                assert await reason(authority, await issuer.token("k1", clock)) is None
                return authority

        async def second(authority: Any) -> None:
            async with issuer.serving():
                at_once(authority, await issuer.token("k1", clock))
                clock.advance(301)
                at_once(authority, await issuer.token("k1", clock))
                await until(lambda: fetches(authority)["ok"] == 2)
                await authority.aclose()

        asyncio.run(second(asyncio.run(first())))

    def test_event_loops_of_two_threads_share_one_fetch(self) -> None:
        async def run() -> None:
            async with Issuer("k1").serving() as issuer:
                issuer.respond = issuer.stalling
                authority, token = verifier(remote(issuer)), await issuer.token("k1")
                here = asyncio.create_task(reason(authority, token))
                await until(lambda: len(issuer.requests) == 1)
                there: list[str | None] = []
                thread = threading.Thread(target=lambda: there.append(asyncio.run(reason(authority, token))))
                thread.start()
                issuer.over.set()
                await until(lambda: not thread.is_alive())
                assert [await here, *there] == [None, None]
                assert len(issuer.requests) == 1
                await authority.aclose()

        asyncio.run(run())

    def test_a_forked_process_goes_on_with_the_set_and_fetches_for_itself(self) -> None:
        issuer, clock = Issuer("k1"), FakeClock()

        async def before() -> Any:
            async with issuer.serving():
                authority = verifier(remote(issuer), clock)
                assert await reason(authority, await issuer.token("k1", clock)) is None
                return authority

        async def after(authority: Any) -> int:
            async with issuer.serving():
                at_once(authority, await issuer.token("k1", clock))
                issuer.rotate("k1", "k2")
                return 0 if await reason(authority, await issuer.token("k2", clock)) is None else 2

        authority = asyncio.run(before())
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # Python 3.12 warns where other tests left threads behind
            child = os.fork()
        if child == 0:
            status = 1
            try:
                status = asyncio.run(after(authority))
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0

    async def test_a_fetch_that_its_event_loop_left_behind_is_abandoned(self) -> None:
        clock, issuer = FakeClock(), Issuer("k1")
        async with issuer.serving():
            issuer.respond = issuer.stalling
            authority, token = verifier(remote(issuer), clock), await issuer.token("k1", clock)
            behind = asyncio.create_task(reason(authority, token))
            await until(lambda: len(issuer.requests) == 1)
            clock.advance(21)
            issuer.respond = issuer.publishing
            assert await reason(authority, token) is None
            assert len(issuer.requests) == 2
            issuer.over.set()
            assert await behind is None
            await authority.aclose()

    def test_outside_an_event_loop_the_snapshot_is_used_without_a_fetch(self) -> None:
        clock, issuer = FakeClock(), Issuer("k1")

        async def inside(keys: RemoteKeys) -> None:
            async with issuer.serving():
                assert await keys.refresh("k1")
                assert not await keys.refresh("k1") or len(issuer.requests) == 2
                await keys.aclose()

        async def place() -> RemoteKeys:
            async with issuer.serving():
                return remote(issuer)

        keys = asyncio.run(place())
        with pytest.raises(Refusal, match="keys_unavailable"):
            keys.find("k1", "ES256")
        keys.open()
        asyncio.run(inside(keys))
        keys.open()
        assert [key.kid for key in keys.find("k1", "ES256")] == ["k1"]
        assert verifier(keys, clock).window


class TestClosing:
    async def test_closing_ends_the_fetch_and_the_requests_that_wait(self) -> None:
        async with Issuer("k1").serving() as issuer:
            issuer.respond = issuer.stalling
            keys = remote(issuer)
            authority, token = verifier(keys), await issuer.token("k1")
            waiting = asyncio.create_task(reason(authority, token))
            await until(lambda: len(issuer.requests) == 1)
            await authority.aclose()
            assert await waiting == "keys_unavailable"
            assert fetches(authority) == dict.fromkeys(FETCH_OUTCOMES, 0)
            assert [task for task in asyncio.all_tasks() if "RemoteKeys" in repr(task)] == []
            issuer.respond = issuer.publishing
            assert await reason(authority, token) is None
            await authority.aclose()

    async def test_closing_ends_a_fetch_that_has_not_begun(self) -> None:
        async with Issuer("k1").serving() as issuer:
            keys = remote(issuer)
            keys.open()
            await keys.aclose()
            assert await keys.refresh("k1")
            assert len(issuer.requests) == 1
            await keys.aclose()

    def test_closing_twice_or_from_another_event_loop_is_no_error(self) -> None:
        async def run() -> RemoteKeys:
            async with Issuer("k1").serving() as issuer:
                keys = remote(issuer)
                await keys.aclose()
                assert await keys.refresh("k1")
                await keys.aclose()
                await keys.aclose()
                return keys

        asyncio.run(asyncio.run(run()).aclose())

    async def test_after_closing_nothing_is_fetched_in_the_background(self) -> None:
        async with Issuer("k1").serving() as issuer:
            keys = remote(issuer, refresh_every=20 * SOON)
            assert await keys.refresh("k1")
            await keys.aclose()
            before = len(issuer.requests)
            await asyncio.sleep(25 * SOON.total_seconds())
            assert len(issuer.requests) == before
            assert [task for task in asyncio.all_tasks() if "RemoteKeys" in repr(task)] == []

    async def test_a_timer_keeps_no_keys_alive(self) -> None:
        async with Issuer("k1").serving() as issuer:
            keys: RemoteKeys | None = remote(issuer)
            assert keys is not None
            assert await keys.refresh("k1")
            await asyncio.sleep(0)  # the task of the fetch that has just ended lets go of them
            gone = weakref.ref(keys)
            keys = None
            gc.collect()
            assert gone() is None

    async def test_an_opened_authority_renews_a_fresh_set_when_it_is_due(self) -> None:
        async with Issuer("k1").serving() as issuer:
            keys = remote(issuer, refresh_every=10 * SOON)
            assert await keys.refresh("k1")
            await keys.aclose()
            async with verifier(keys):
                await until(lambda: len(issuer.requests) == 2)


class TestMetrics:
    async def test_fetches_and_the_age_of_the_set_are_measured(self) -> None:
        clock, issuer = FakeClock(), Issuer("k1")
        async with issuer.serving():
            keys = remote(issuer)
            authority, sharing = verifier(keys, clock), verifier(keys, clock)
            (gauge,) = [
                read for metric, _, read in authority.parts.counters.gauges() if metric is names.JWKS_LAST_SUCCESS
            ]
            assert fetches(authority) == fetches(sharing) == dict.fromkeys(FETCH_OUTCOMES, 0)
            assert gauge() is None
            assert await reason(authority, await issuer.token("k1", clock)) is None
            began = clock.now()
            await issuer.cut()
            clock.advance(400)
            assert await reason(sharing, unsigned("unknown")) == "key_unknown"
            assert fetches(authority) == {"ok": 1, "invalid": 0, "timeout": 0, "error": 1}
            assert fetches(sharing) == dict.fromkeys(FETCH_OUTCOMES, 0)
            assert gauge() == began
            await authority.aclose()
            await sharing.aclose()

    async def test_an_authority_that_is_gone_is_not_called(self) -> None:
        async with Issuer("k1").serving() as issuer:
            keys = remote(issuer)
            assert await reason(verifier(keys), await issuer.token("k1")) is None
            gc.collect()
            issuer.rotate("k2")
            assert await reason(verifier(keys), await issuer.token("k2")) is None
            await keys.aclose()

    def test_without_remote_keys_there_are_no_metrics_of_them(self) -> None:
        counters = authority_of().parts.counters
        declared = {metric for metric, *_ in [*counters.series(), *counters.gauges()]}
        assert declared.isdisjoint({names.JWKS_FETCHES, names.JWKS_LAST_SUCCESS})


class TestSettings:
    @pytest.mark.parametrize(
        "given", [{}, {"issuer": "i"}, {"audience": "a"}, {"issuer": "i", "audience": []}], ids=str
    )
    def test_remote_keys_need_an_issuer_and_an_audience(self, given: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match="issuer= and audience="):
            authority_of(keys=RemoteKeys("https://issuer.example/jwks.json"), **given)

    async def test_the_audience_is_checked(self) -> None:
        async with Issuer("k1").serving() as issuer:
            authority = verifier(remote(issuer))
            assert await reason(authority, await issuer.token("k1", audience="another shop")) == "audience_mismatch"
            assert await reason(authority, await issuer.token("k1", issuer="https://another")) == "issuer_mismatch"
            await authority.aclose()

    async def test_an_app_mints_only_with_a_signing_key_of_its_own(self) -> None:
        async with Issuer("k1").serving() as issuer:
            with pytest.raises(ConfigError, match="sign"):
                await verifier(remote(issuer)).issue(Session(user_id="u1"))
            authority = verifier(remote(issuer, signing=Key.jwk(issuer.pairs["k1"])))
            issued = await authority.issue(Session(user_id="u1"))
            assert (await authority.verify(issued.token)).key_id == "k1"
            await authority.aclose()

    def test_settings_that_cannot_work_are_errors_at_construction(self, subtests: pytest.Subtests) -> None:
        cases: list[dict[str, Any]] = [
            {"refresh_every": timedelta(0)},
            {"usable_for": timedelta(0)},
            {"timeout": timedelta(seconds=-1)},
            {"rsa_alg": "HS256"},
            {"rsa_alg": "none"},
            {"signing": Key.hmac(SECRET, kid="k1")},
            {"signing": Key.jwk(public(pair("k1")))},
            {"signing": Key.jwk(pair(None))},
        ]
        for settings in cases:
            with subtests.test(settings=settings), pytest.raises(ConfigError):
                RemoteKeys("https://issuer.example/jwks.json", **settings)

    def test_the_repr_shows_the_url_without_its_query(self) -> None:
        keys = RemoteKeys("https://issuer.example:8443/jwks.json?key=secret")
        assert repr(keys) == "RemoteKeys(https://issuer.example:8443/jwks.json)"
        assert keys.keys == ()

    def test_the_package_itself_does_without_httpx(self) -> None:
        code = "import sys, jwt_middleware as j; print('httpx' in sys.modules, j.RemoteKeys, 'httpx' in sys.modules)"
        assert python("-c", code).split() == ["False", "<class", "'jwt_middleware.tokens.jwks.RemoteKeys'>", "True"]


def worst_case(issuer: Issuer, case: str) -> None:
    """The endpoint goes down, stalls, trickles, lies, or rotates its keys with every request."""

    async def rotate(writer: asyncio.StreamWriter) -> None:
        issuer.rotate("known", f"k{len(issuer.requests)}")
        await issuer.publishing(writer)

    lies = [response(b"<html>", kind="text/html"), *map(response, (b"{" * 1_000_000, b"not json", b'{"keys": []}'))]
    if case == "down":
        issuer.server.close()
    elif case == "lying":
        issuer.saying(*lies)
    else:
        issuer.respond = rotate if case == "rotating" else getattr(issuer, case)


class TestEndpoint:
    async def test_a_response_that_is_not_a_key_set_changes_nothing(self, subtests: pytest.Subtests) -> None:
        for answer, outcome in [
            (response(b"<html>", kind="text/html"), "invalid"),
            (response(b"not json"), "invalid"),
            (response(b'{"keys": []}'), "invalid"),
            (response(b'{"keys": [{"kty": "oct", "kid": "k1", "k": "c2VjcmV0"}]}'), "invalid"),
            (response(b" " * 10_000_000), "invalid"),
            (response(b"", status="302 Found", more="Location: http://127.0.0.1:1/\r\n"), "invalid"),
            (response(b"{}", status="503 Service Unavailable"), "invalid"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "error"),
            (b"", "error"),
            (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{", "error"),
        ]:
            with subtests.test(answer=answer):
                async with Issuer("k1").serving() as issuer:
                    authority = verifier(remote(issuer))
                    assert await reason(authority, await issuer.token("k1")) is None
                    issuer.saying(answer)
                    assert await reason(authority, unsigned("unknown")) == "key_unknown"
                    assert fetches(authority) == {**dict.fromkeys(FETCH_OUTCOMES, 0), "ok": 1, outcome: 1}
                    at_once(authority, await issuer.token("k1"))
                    await authority.aclose()

    @pytest.mark.parametrize("how", ["stalling", "trickling"])
    async def test_a_fetch_as_a_whole_has_a_time_limit(self, how: str) -> None:
        async with Issuer("k1").serving() as issuer:
            authority, token = verifier(remote(issuer, timeout=timedelta(seconds=0.05))), await issuer.token("k1")
            issuer.respond = getattr(issuer, how)
            assert await reason(authority, token) == "keys_unavailable"
            await until(lambda: fetches(authority)["timeout"] == 1)
            await authority.aclose()

    @pytest.mark.parametrize("case", ["down", "stalling", "trickling", "lying", "rotating"])
    async def test_whatever_the_endpoint_does_the_keys_go_on_verifying_at_once(self, case: str) -> None:
        """A hundred requests, two hundred a second, each beside one with an unknown kid."""
        async with Issuer("known").serving() as issuer:
            keys = remote(issuer, refresh_every=timedelta(milliseconds=20), timeout=timedelta(milliseconds=500))
            authority = verifier(keys)
            tokens = [await issuer.token("known") for _ in range(100)]
            assert await reason(authority, await issuer.token("known")) is None
            before = fetches(authority)
            worst_case(issuer, case)
            strangers = set()
            for place, token in enumerate(tokens):
                at_once(authority, token)
                strangers.add(asyncio.create_task(reason(authority, unsigned(f"stranger-{place}"))))
                await asyncio.sleep(1 / 200)
            assert {await stranger for stranger in strangers} == {"key_unknown"}
            await until(lambda: fetches(authority) != before)
            await authority.aclose()


class TestTokensOfAProvider:
    """Its keys sign access, ID and log-out tokens. Only the first are sessions; ``sid`` means nothing in them."""

    @staticmethod
    def signed(issuer: Issuer, typ: str | None, /, **claims: Any) -> str:
        now = int(time.time())
        header = {"alg": "ES256", "kid": "k1", **({} if typ is None else {"typ": typ})}
        payload = {
            "iss": PARTIES["issuer"],
            "aud": PARTIES["audience"],
            "userId": "7",
            "iat": now,
            "exp": now + 600,
            **claims,
        }
        key = Key.jwk(issuer.pairs["k1"])
        return forged(json.dumps(header).encode(), json.dumps(payload).encode(), key=key)

    @pytest.mark.parametrize("has_store", [False, True])
    async def test_only_access_tokens_are_sessions(self, has_store: bool) -> None:
        sid = {"sid": "8b4c6f", "auth_time": 1}
        cases: list[tuple[str | None, dict[str, Any], str | None]] = [
            ("JWT", {}, None),
            (None, {}, None),
            ("at+jwt", {"client_id": "spa", **sid}, None),
            ("application/at+jwt", {"scope": "read write"}, None),
            ("JWT", {"nonce": "n", "at_hash": "h", **sid}, "token_foreign"),
            ("JWT", {"typ": "ID", **sid}, "token_foreign"),
            ("JWT", {"typ": "Refresh"}, "token_foreign"),
            ("JWT", {"events": {}, "jti": "1", **sid}, "token_foreign"),
            ("logout+jwt", sid, "token_foreign"),
            ("at+jwt", {"aud": "another"}, "audience_mismatch"),
            ("at+jwt", {"exp": int(time.time()) + 8 * 86_400}, "lifetime_exceeded"),
        ]
        async with Issuer("k1").serving() as issuer:
            store = MemorySessionStore() if has_store else None
            authority = verifier(remote(issuer), store=store)
            for typ, claims, expected in cases:
                assert await reason(authority, self.signed(issuer, typ, **claims)) == expected, (typ, claims)
            assert counts(authority, "adoptions") == {}
            await authority.aclose()

    async def test_marks_and_a_log_out_end_them(self) -> None:
        async with Issuer("k1").serving() as issuer:
            authority = verifier(remote(issuer), store=MemorySessionStore())

            async def refused(token: str) -> str | None:
                outcome: Outcome[Session] = await authority.authenticate(bearer(token))
                return outcome.reason

            one, other = (self.signed(issuer, "at+jwt", jti=jti) for jti in ("1", "2"))
            assert [await refused(token) for token in (one, other)] == [None, None]
            await authority.end_token(bearer(one))
            assert [await refused(token) for token in (one, other)] == ["session_revoked", None]
            await authority.revoke_user("7")
            assert await refused(other) == "session_revoked"
            await authority.aclose()

    async def test_the_app_says_which_types_and_claims_are_sessions(self) -> None:
        async with Issuer("k1").serving() as issuer:
            keys = RemoteKeys(issuer.url, typ=["at+jwt"], recognise=lambda claims: "scope" in claims)
            authority = verifier(keys)
            assert await reason(authority, self.signed(issuer, "at+jwt", scope="read")) is None
            for typ, claims in (("JWT", {"scope": "read"}), ("at+jwt", {}), ("session+jwt", {"scope": "read"})):
                assert await reason(authority, self.signed(issuer, typ, **claims)) == "token_foreign", typ
            await authority.aclose()

    async def test_own_tokens_are_those_of_the_signing_key(self) -> None:
        async with Issuer("k1", "k2").serving() as issuer:
            keys = remote(issuer, signing=Key.jwk(issuer.pairs["k2"]), typ=["at+jwt"])
            authority = verifier(keys, store=MemorySessionStore())
            issued = await authority.issue(Session(user_id="7"))
            outcome = await authority.authenticate(bearer(issued.token))
            assert outcome.token.own
            assert await reason(authority, self.signed(issuer, "session+jwt")) == "token_foreign"
            await authority.aclose()

    def test_settings_that_cannot_work_fail_at_once(self) -> None:
        cases: list[tuple[dict[str, Any], str]] = [
            ({"typ": "at+jwt"}, "list of str"),
            ({"typ": []}, "list of str"),
            ({"recognise": "scope"}, "function"),
        ]
        for settings, fix in cases:
            with pytest.raises(ConfigError, match=fix):
                RemoteKeys("https://issuer.example/jwks", **settings)
        with pytest.raises(ConfigError, match="does not tell own tokens from those of RemoteKeys"):
            verifier(RemoteKeys("https://issuer.example/jwks"), typ="JWT")
