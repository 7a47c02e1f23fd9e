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
            "jwt_session=a; Max-Age=1; Path=/; HttpOnly; SameSite=Lax"
        )
        assert SessionCookie(path="/app", domain="example.com", samesite="strict").set_header("a", max_age=1) == (
            "jwt_session=a; Max-Age=1; Path=/app; Domain=example.com; Secure; HttpOnly; SameSite=Strict"
        )
        assert "SameSite=None" in SessionCookie("__Secure-s", samesite="none", path="/a").set_header("a", max_age=1)

    def test_clearing_reaches_one_scope(self) -> None:
        for cookie, expected in (
            (SessionCookie(), "__Host-session=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax"),
            (
                SessionCookie("token", secure=False, path="/app", domain="example.com"),
                "token=; Max-Age=0; Path=/app; Domain=example.com; HttpOnly; SameSite=Lax",
            ),
        ):
            assert cookie.clear_header() == expected

    def test_a_scope_is_name_domain_and_path(self) -> None:
        scope = SessionCookie("a", domain=".Example.com").scope
        assert scope == SessionCookie("a", domain="example.com", samesite="strict").scope
        others = [SessionCookie("a"), SessionCookie("b", domain="example.com"), SessionCookie("a", path="/x")]
        assert scope not in {cookie.scope for cookie in others}

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
            ({"name": ""}, "invalid cookie name"),
            ({"name": "a b"}, "invalid cookie name"),
            ({"name": "a=b"}, "invalid cookie name"),
            ({"name": "a\r\nX"}, "invalid cookie name"),
            ({"name": "é"}, "invalid cookie name"),
            ({"name": "__Host-a", "secure": False}, "__Host-"),
            ({"name": "__host-a", "path": "/app"}, "__Host-"),
            ({"name": "__Host-a", "domain": "example.com"}, "__Host-"),
            ({"name": "__Secure-a", "secure": False}, "__Secure-"),
        ]
        for settings, fix in cases:
            with subtests.test(settings=settings), pytest.raises(ConfigError, match=fix):
                SessionCookie(**settings)
