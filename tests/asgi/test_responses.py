"""What a refused request is answered with, and which responses may carry a reissued cookie."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.types import Message

from jwt_middleware import ConfigError, Reason
from jwt_middleware.asgi.responses import Refusals, RenewalResponse
from tests.support.asgi import Sent, nothing, scope_of

RESPONSE_COOKIE = RenewalResponse(["__Host-session", "token"])


async def answered(refusals: Refusals, reason: Reason, *, vary: bytes | None = None, **scope: Any) -> list[Message]:
    """The messages that answer a refused request; its body is not read."""
    sent = Sent()
    await refusals.answer(reason, vary, scope_of(**scope), nothing, sent)
    return sent.messages


class TestRefusals:
    @pytest.mark.parametrize("reason", list(Reason))
    async def test_a_body_depends_on_the_status_alone(self, reason: Reason) -> None:
        start, body = await answered(Refusals(None), reason)
        other = {401: Reason.TOKEN_MISSING, 403: Reason.CROSS_SITE, 503: Reason.KEYS_UNAVAILABLE}[reason.status]
        assert start["status"] == reason.status
        assert body["body"] == (await answered(Refusals(None), other))[1]["body"]
        assert json.loads(body["body"])["status"] == reason.status
        assert reason.value.encode() not in body["body"] + repr(start).encode()

    async def test_a_401_asks_for_a_bearer_token_and_is_never_cached(self) -> None:
        start, body = await answered(Refusals(None), Reason.TOKEN_EXPIRED, vary=b"Authorization")
        assert dict(start["headers"]) == {
            b"content-type": b"application/problem+json",
            b"content-length": str(len(body["body"])).encode(),
            b"cache-control": b"no-store",
            b"vary": b"Authorization",
            b"www-authenticate": b'Bearer error="invalid_token"',
        }
        assert json.loads(body["body"]) == {"type": "about:blank", "title": "Unauthorized", "status": 401}

    async def test_a_401_without_a_token_names_no_error_code(self) -> None:
        start, _ = await answered(Refusals(None), Reason.TOKEN_MISSING)
        assert (b"www-authenticate", b"Bearer") in start["headers"]

    async def test_a_503_says_when_to_come_back_and_a_403_does_not(self) -> None:
        assert (b"retry-after", b"1") in (await answered(Refusals(None), Reason.SESSIONS_UNAVAILABLE))[0]["headers"]
        names = [name for name, _ in (await answered(Refusals(None), Reason.CROSS_SITE))[0]["headers"]]
        assert b"retry-after" not in names
        assert b"www-authenticate" not in names

    async def test_only_a_401_names_the_log_in_page(self) -> None:
        refusals = Refusals("/login")
        assert json.loads((await answered(refusals, Reason.TOKEN_MISSING))[1]["body"])["login"] == "/login"
        assert "login" not in json.loads((await answered(refusals, Reason.CROSS_SITE))[1]["body"])

    async def test_a_websocket_is_denied_with_the_same_response_where_the_server_can(self) -> None:
        start, body = await answered(
            Refusals(None), Reason.TOKEN_MISSING, kind="websocket", extensions={"websocket.http.response": {}}
        )
        assert start["type"] == "websocket.http.response.start"
        assert body == {
            "type": "websocket.http.response.body",
            "body": (await answered(Refusals(None), Reason.TOKEN_MISSING))[1]["body"],
        }

    @pytest.mark.parametrize(
        ("reason", "code"), [(Reason.TOKEN_MISSING, 1008), (Reason.CROSS_SITE, 1008), (Reason.KEYS_UNAVAILABLE, 1013)]
    )
    async def test_a_websocket_is_closed_where_the_server_cannot(self, reason: Reason, code: int) -> None:
        assert await answered(Refusals(None), reason, kind="websocket") == [
            {"type": "websocket.close", "code": code, "reason": ""}
        ]

    @pytest.mark.parametrize(("login", "location"), [("/login", b"/login"), (None, b"/")])
    async def test_a_navigation_is_sent_to_the_log_in_page(self, login: str | None, location: bytes) -> None:
        sent = Sent()
        await Refusals(login).redirect(b"Cookie", sent)
        assert sent.messages[0]["status"] == 303
        assert dict(sent.messages[0]["headers"]) == {
            b"location": location,
            b"content-length": b"0",
            b"cache-control": b"no-store",
            b"vary": b"Cookie",
        }
        assert sent.messages[1] == {"type": "http.response.body", "body": b""}

    @pytest.mark.parametrize(
        "login", ["", "login", "//evil.example", "/\\evil.example", "/lög in", "/a\r\nSet-Cookie: b"]
    )
    def test_a_log_in_page_that_is_no_path_of_this_host_fails_at_once(self, login: str) -> None:
        with pytest.raises(ConfigError, match="login must be a local path"):
            Refusals(login)


class TestRenewalResponse:
    @pytest.mark.parametrize("status", [200, 204, 206, 302, 303, 404, 500])
    def test_a_response_that_says_nothing_of_caching_may_carry_the_cookie(self, status: int) -> None:
        assert RESPONSE_COOKIE.allows(status, [(b"content-type", b"text/html"), (b"etag", b'"1"')])

    def test_a_304_never_carries_the_cookie(self) -> None:
        assert not RESPONSE_COOKIE.allows(304, [])
        assert not RESPONSE_COOKIE.allows(304, [(b"cache-control", b"no-store")])

    def test_cache_control_must_keep_the_whole_response_private(self) -> None:
        for cache_control, allowed in [
            ("no-store", True),
            ("private", True),
            ("Private, max-age=60", True),
            ("no-cache, no-store, must-revalidate", True),
            ('private, no-cache="set-cookie, x-a"', True),
            ("", False),
            ("max-age=0", False),
            ("no-cache", False),
            ("must-revalidate", False),
            ("public", False),
            ("public, max-age=3600", False),
            ("s-maxage=60", False),
            ("private, s-maxage=60", False),
            ("private, public", False),
            ("privately, no-stores", False),
            ('private="set-cookie"', False),
            ('private="set-cookie, x-a", max-age=60', False),
            ('no-cache="a, no-store, b"', False),
            ('extension="\\", private, \\""', False),
            ('private, extension="never closed', False),
        ]:
            assert RESPONSE_COOKIE.allows(200, [(b"Cache-Control", cache_control.encode())]) is allowed, cache_control

    def test_all_cache_control_headers_count(self) -> None:
        assert RESPONSE_COOKIE.allows(200, [(b"cache-control", b"max-age=60"), (b"cache-control", b"private")])
        assert not RESPONSE_COOKIE.allows(200, [(b"cache-control", b"private"), (b"cache-control", b"public")])

    @pytest.mark.parametrize(
        "name", [b"CDN-Cache-Control", b"cloudflare-cdn-cache-control", b"surrogate-control", b"x-accel-expires"]
    )
    def test_a_header_for_shared_caches_alone_keeps_the_cookie_back(self, name: bytes) -> None:
        assert not RESPONSE_COOKIE.allows(200, [(b"cache-control", b"private"), (name, b"max-age=600")])

    def test_the_apps_own_session_cookie_is_never_overwritten(self) -> None:
        for set_cookie, allowed in [
            (b"__Host-session=; Max-Age=0; Path=/; Secure", False),
            (b"token=abc", False),
            (b" token =abc", False),
            (b"theme=dark; Path=/", True),
            (b"other__Host-session=1", True),
            (b"theme=__Host-session=1", True),
            (b"TOKEN=1", True),  # cookie names are case-sensitive (RFC 6265 section 5.3)
        ]:
            assert RESPONSE_COOKIE.allows(200, [(b"Set-Cookie", set_cookie)]) is allowed, set_cookie

    def test_a_response_that_clears_the_sites_data_carries_no_cookie(self) -> None:
        assert not RESPONSE_COOKIE.allows(200, [(b"clear-site-data", b'"cookies"')])

    def test_the_cookie_comes_last_and_the_response_is_kept_from_caches(self) -> None:
        headers = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
        assert RESPONSE_COOKIE.add(headers, "s=1") == [
            *headers,
            (b"set-cookie", b"s=1"),
            (b"cache-control", b"no-store"),
        ]

    def test_what_the_response_says_of_caching_stays(self) -> None:
        headers = [(b"Cache-Control", b"private, max-age=5")]
        assert RESPONSE_COOKIE.add(headers, "s=1") == [*headers, (b"set-cookie", b"s=1")]
