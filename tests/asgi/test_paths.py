"""Public paths: matched by whole segments, and by no spelling that a router may read otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from jwt_middleware import ConfigError
from jwt_middleware.asgi.paths import PublicPaths

public = PublicPaths(["/login", "/", "/static/*", "/a/b/*"])


def matches(path: str, root: str = "") -> bool:
    return public.match({"type": "http", "path": path, "root_path": root})


class TestPublicPaths:
    def test_a_public_path_is_matched_by_whole_segments(self) -> None:
        for path in ["/login", "/", "/static/", "/static/a", "/static/a/b.css", "/static/a/", "/static/ä.css"]:
            assert matches(path), path

    def test_a_path_that_a_router_may_read_otherwise_is_not_public(self) -> None:
        for path in [
            "",
            "/login/",
            "/login/x",
            "/loginx",
            "/Login",
            "/LOGIN",
            "//login",
            "/./login",
            "/x/../login",
            "/login\0",
            "/login\n",
            "/login ",
            "/login;x",
            "/login%00",
            "/login?x",
            "/logi\u017f",
            "/static",
            "/statics/a",
            "/Static/a",
            "/static/../me",
            "/static/..",
            "/static/.",
            "/static/./a",
            "/static//me",
            "/static/a//",
            "/static/..\\me",
            "/static/a\\..\\me",
            "/static/%2e%2e/me",
            "/static/%2E./me",
            "/static/..%2fme",
            "/static/%2Fme",
            "/static/%5cme",
            "/static/a\r\nb",
            "/a/b",
            "/a/me",
            "static/a",
        ]:
            assert not matches(path), path

    def test_the_root_path_is_taken_off_once_and_by_whole_segments(self) -> None:
        assert matches("/app/login", "/app")
        assert matches("/app/login", "/app/")
        assert matches("/app", "/app")
        assert matches("/login", "/app")  # a server that leaves it out of the path
        assert not matches("/app/app/login", "/app")
        assert not matches("/applogin", "/app")
        assert not matches("/app/me", "/app")
        assert not matches("/login/me", "/login")

    def test_nothing_is_public_by_default(self) -> None:
        assert not PublicPaths([]).match({"path": "/"})

    def test_everything_is_public_where_that_is_configured(self) -> None:
        everything = PublicPaths(["/*"])
        assert everything.match({"path": "/me"})
        assert not everything.match({"path": "/../me"})

    @pytest.mark.parametrize(
        "pattern", ["login", "", "*", "/a*", "/a/*/b", "/a/**", "/a?b", "/a/../b", "//a", "/a\\b", "/%2e"]
    )
    def test_a_pattern_that_can_match_nothing_fails_at_once(self, pattern: str) -> None:
        with pytest.raises(ConfigError, match="invalid path pattern"):
            PublicPaths([pattern])

    @pytest.mark.parametrize("given", ["/login", None, 1, [1], [None]])
    def test_what_is_no_list_of_strings_is_refused(self, given: Any) -> None:
        with pytest.raises(ConfigError, match="must be a list of strings"):
            PublicPaths(given)
