"""The session cookie: how it is set and cleared, and which settings browsers would not honour."""

from __future__ import annotations

from typing import Any

import pytest

from jwt_middleware import ConfigError, MintError, SessionCookie


class TestSessionCookie:
    def test_the_cookie_is_host_bound_by_default(self) -> None:
        assert SessionCookie().set_header("abc", max_age=60) == (
            "__Host-session=abc; Max-Age=60; Path=/; Secure; HttpOnly; SameSite=Lax"
        )

    def test_a_cookie_for_localhost_a_path_or_a_domain_has_a_plain_name(self) -> None:
        assert SessionCookie(secure=False).set_header("a", max_age=1) == (
            "session=a; Max-Age=1; Path=/; HttpOnly; SameSite=Lax"
        )
        assert SessionCookie(path="/app", domain="example.com", samesite="strict").set_header("a", max_age=1) == (
            "session=a; Max-Age=1; Path=/app; Domain=example.com; Secure; HttpOnly; SameSite=Strict"
        )
        assert "SameSite=None" in SessionCookie("__Secure-s", samesite="none", path="/a").set_header("a", max_age=1)

    def test_clearing_reaches_every_name_under_the_rules_of_its_prefix(self) -> None:
        cookies = SessionCookie(secure=False, path="/app", also_read=("__Host-old", "__Secure-old", "token"))
        assert cookies.clear_headers() == [
            "session=; Max-Age=0; Path=/app; HttpOnly; SameSite=Lax",
            "__Host-old=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax",
            "__Secure-old=; Max-Age=0; Path=/app; Secure; HttpOnly; SameSite=Lax",
            "token=; Max-Age=0; Path=/app; HttpOnly; SameSite=Lax",
        ]
        assert cookies.clear_also_read() == cookies.clear_headers()[1:]

    def test_a_cookie_that_is_too_large_is_refused_at_minting(self) -> None:
        cookies = SessionCookie()
        room = 4096 - len(cookies.set_header("", max_age=60))
        assert len(cookies.set_header("a" * room, max_age=60)) == 4096
        with pytest.raises(MintError, match="mint fewer claims"):
            cookies.set_header("a" * (room + 1), max_age=60)

    def test_a_cookie_that_browsers_would_drop_fails_at_construction(self, subtests: pytest.Subtests) -> None:
        cases: list[tuple[dict[str, Any], str]] = [
            ({"samesite": "Lax"}, "samesite"),
            ({"samesite": "none", "secure": False}, "secure=True"),
            ({"path": "app"}, "path must begin"),
            ({"path": "/a;b"}, "path must begin"),
            ({"path": "/a\n"}, "path must begin"),
            ({"domain": "a;b"}, "domain must be"),
            ({"domain": ""}, "domain must be"),
            ({"name": "a", "also_read": ("a",)}, "repeat a cookie name"),
            ({"also_read": ("a", "a")}, "repeat a cookie name"),
            ({"also_read": "token"}, r"also_read=\['token'\]"),
            ({"name": ""}, "invalid cookie name"),
            ({"name": "a b"}, "invalid cookie name"),
            ({"name": "a=b"}, "invalid cookie name"),
            ({"name": "a\r\nX"}, "invalid cookie name"),
            ({"also_read": ("é",)}, "invalid cookie name"),
            ({"name": "__Host-a", "secure": False}, "__Host-"),
            ({"name": "__host-a", "path": "/app"}, "__Host-"),
            ({"name": "__Host-a", "domain": "example.com"}, "__Host-"),
            ({"name": "__Secure-a", "secure": False}, "__Secure-"),
        ]
        for settings, fix in cases:
            with subtests.test(settings=settings), pytest.raises(ConfigError, match=fix):
                SessionCookie(**settings)
