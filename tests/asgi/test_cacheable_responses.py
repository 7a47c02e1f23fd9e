"""Which responses may carry a reissued cookie, and what is put on them."""

from __future__ import annotations

import pytest

from jwt_middleware.asgi.responses import ResponseCookie

CARRYING = ResponseCookie(["__Host-session", "token"])


@pytest.mark.parametrize("status", [200, 204, 206, 302, 303, 404, 500])
def test_a_response_that_says_nothing_may_carry_it_whatever_its_status(status: int) -> None:
    assert CARRYING.allows(status, [(b"content-type", b"text/html"), (b"etag", b'"1"')])


def test_a_304_never_does() -> None:
    assert not CARRYING.allows(304, [])
    assert not CARRYING.allows(304, [(b"cache-control", b"no-store")])


@pytest.mark.parametrize(
    ("cache_control", "allowed"),
    [
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
    ],
)
def test_cache_control_must_keep_the_whole_response_private(cache_control: str, allowed: bool) -> None:
    assert CARRYING.allows(200, [(b"Cache-Control", cache_control.encode())]) is allowed


def test_all_cache_control_headers_count() -> None:
    assert CARRYING.allows(200, [(b"cache-control", b"max-age=60"), (b"cache-control", b"private")])
    assert not CARRYING.allows(200, [(b"cache-control", b"private"), (b"cache-control", b"public")])


@pytest.mark.parametrize(
    "name", [b"CDN-Cache-Control", b"cloudflare-cdn-cache-control", b"surrogate-control", b"x-accel-expires"]
)
def test_a_word_to_shared_caches_alone_keeps_the_cookie_back(name: bytes) -> None:
    assert not CARRYING.allows(200, [(b"cache-control", b"private"), (name, b"max-age=600")])


@pytest.mark.parametrize(
    ("set_cookie", "allowed"),
    [
        (b"__Host-session=; Max-Age=0; Path=/; Secure", False),
        (b"token=abc", False),
        (b" token =abc", False),
        (b"theme=dark; Path=/", True),
        (b"other__Host-session=1", True),
        (b"theme=__Host-session=1", True),
        (b"TOKEN=1", True),  # cookie names are case-sensitive (RFC 6265 section 5.3)
    ],
)
def test_the_apps_own_session_cookie_is_never_overwritten(set_cookie: bytes, allowed: bool) -> None:
    assert CARRYING.allows(200, [(b"Set-Cookie", set_cookie)]) is allowed


def test_a_response_that_clears_the_sites_data_carries_no_cookie() -> None:
    assert not CARRYING.allows(200, [(b"clear-site-data", b'"cookies"')])


def test_the_cookie_comes_last_and_the_response_is_kept_from_caches() -> None:
    headers = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    assert CARRYING.put(headers, "s=1") == [*headers, (b"set-cookie", b"s=1"), (b"cache-control", b"no-store")]


def test_what_the_response_says_of_caching_stays() -> None:
    headers = [(b"Cache-Control", b"private, max-age=5")]
    assert CARRYING.put(headers, "s=1") == [*headers, (b"set-cookie", b"s=1")]
