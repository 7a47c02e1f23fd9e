"""Public paths by whole segments, and requests that another site may have forged."""

from __future__ import annotations

from typing import Any

import pytest

from jwt_middleware import ConfigError
from jwt_middleware.asgi.csrf import CrossSiteGuard, navigates
from jwt_middleware.asgi.paths import PublicPaths

public = PublicPaths(["/login", "/", "/static/*", "/a/b/*"])


def matches(path: str, root: str = "") -> bool:
    return public.match({"type": "http", "path": path, "root_path": root})


@pytest.mark.parametrize(
    "path", ["/login", "/", "/static/", "/static/a", "/static/a/b.css", "/static/a/", "/static/ä.css"]
)
def test_a_public_path_is_matched_by_whole_segments(path: str) -> None:
    assert matches(path)


@pytest.mark.parametrize(
    "path",
    [
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
    ],
)
def test_whatever_some_router_may_read_otherwise_is_not_public(path: str) -> None:
    assert not matches(path)


def test_the_root_path_is_taken_off_once_and_by_whole_segments() -> None:
    assert matches("/app/login", "/app")
    assert matches("/app/login", "/app/")
    assert matches("/app", "/app")
    assert matches("/login", "/app")  # a server that leaves it out of the path
    assert not matches("/app/app/login", "/app")
    assert not matches("/applogin", "/app")
    assert not matches("/app/me", "/app")
    assert not matches("/login/me", "/login")


def test_nothing_is_public_by_default() -> None:
    assert not PublicPaths([]).match({"path": "/"})


def test_everything_is_public_where_that_was_asked_for() -> None:
    everything = PublicPaths(["/*"])
    assert everything.match({"path": "/me"})
    assert not everything.match({"path": "/../me"})


@pytest.mark.parametrize(
    "pattern", ["login", "", "*", "/a*", "/a/*/b", "/a/**", "/a?b", "/a/../b", "//a", "/a\\b", "/%2e"]
)
def test_a_pattern_that_can_match_nothing_fails_at_once(pattern: str) -> None:
    with pytest.raises(ConfigError, match="is no path"):
        PublicPaths([pattern])


@pytest.mark.parametrize("given", ["/login", None, 1, [1], [None]])
def test_what_is_no_list_of_strings_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="paths are a list of strings"):
        PublicPaths(given)
    with pytest.raises(ConfigError, match="trusted_origins is a list of strings"):
        CrossSiteGuard(given, trusted_proxy=False)


def scope_of(method: str = "POST", kind: str = "http", **headers: str | list[str]) -> dict[str, Any]:
    pairs = [
        (name.replace("_", "-").encode(), value.encode("latin-1"))
        for name, values in headers.items()
        for value in ([values] if isinstance(values, str) else values)
    ]
    return {"type": kind, "method": method, "headers": pairs}


guard = CrossSiteGuard(["https://trusted.example", "http://dev.example:8000"], trusted_proxy=False)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_safe_method_counts_from_anywhere(method: str) -> None:
    scope = scope_of(method, origin="https://evil.example", sec_fetch_site="cross-site", host="a.example")
    assert guard.allows(scope)
    assert guard.allows_public(scope)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "get", "QUERY"])
def test_every_other_method_is_guarded(method: str) -> None:
    assert not guard.allows(scope_of(method, sec_fetch_site="cross-site"))


def test_a_websocket_is_never_safe() -> None:
    scope = scope_of(kind="websocket", origin="https://evil.example", host="a.example")
    del scope["method"]
    assert not guard.allows(scope)
    assert not guard.allows_public(scope)
    assert guard.allows(scope_of(kind="websocket", origin="https://a.example", host="a.example"))


ALLOWED: list[dict[str, Any]] = [
    {},
    {"host": "a.example"},
    {"sec_fetch_site": "same-origin"},
    {"sec_fetch_site": "none"},
    {"sec_fetch_site": "same-origin", "origin": "null"},
    {"sec_fetch_site": "cross-site", "origin": "https://trusted.example"},
    {"sec_fetch_site": "cross-site", "origin": "HTTPS://Trusted.Example:443"},
    {"sec_fetch_site": "cross-site", "origin": "http://dev.example:8000"},
    {"origin": "https://a.example", "host": "a.example"},
    {"origin": "https://a.example", "host": "A.Example:443"},
    {"origin": "http://a.example:80", "host": "a.example"},
    {"origin": "http://localhost:8000", "host": "localhost:8000"},
    {"origin": "http://my_app:8000", "host": "my_app:8000"},
    {"origin": "http://[::1]:8000", "host": "[::1]:8000"},
]
REFUSED: list[dict[str, Any]] = [
    {"sec_fetch_site": "cross-site"},
    {"sec_fetch_site": "same-site"},
    {"sec_fetch_site": ""},
    {"sec_fetch_site": "Same-Origin"},
    {"sec_fetch_site": ["same-origin", "same-origin"]},
    {"sec_fetch_site": ["same-origin", "cross-site"]},
    {"sec_fetch_site": "cross-site", "origin": "https://a.example", "host": "a.example"},
    {"sec_fetch_site": "cross-site", "origin": ["https://trusted.example", "https://evil.example"]},
    {"origin": "null", "host": "a.example"},
    {"origin": "null", "host": "null"},
    {"origin": "", "host": ""},
    {"origin": "https://evil.example", "host": "a.example"},
    {"origin": "https://a.example.evil.example", "host": "a.example"},
    {"origin": "https://a.example@evil.example", "host": "a.example"},
    {"origin": "https://a.example", "host": "a.example:8443"},
    {"origin": "https://a.example:80", "host": "a.example"},
    {"origin": "https://a.example"},
    {"origin": "https://a.example", "host": ["a.example", "a.example"]},
    {"origin": ["https://a.example", "https://a.example"], "host": "a.example"},
    {"origin": "https://a.example/", "host": "a.example"},
    {"origin": "https://a.example https://evil.example", "host": "a.example"},
    {"origin": "ftp://a.example", "host": "a.example"},
    {"origin": "a.example", "host": "a.example"},
    {"origin": "https://evil.example", "host": "a.example", "x_forwarded_host": "evil.example"},
    {"origin": "http://trusted.example", "host": "a.example"},
    {"origin": "https://xtrusted.example", "host": "a.example"},
    {"origin": "https://trusted.example:443:443", "host": "a.example"},
    {"origin": "https://\xe9.example", "host": "a.example"},
]


@pytest.mark.parametrize("headers", ALLOWED)
def test_an_unsafe_request_of_the_same_or_a_trusted_origin_counts(headers: dict[str, Any]) -> None:
    assert guard.allows(scope_of(**headers))
    assert guard.allows_public(scope_of(**headers))


@pytest.mark.parametrize("headers", REFUSED)
def test_an_unsafe_request_of_any_other_does_not(headers: dict[str, Any]) -> None:
    assert not guard.allows(scope_of(**headers))
    assert not guard.allows_public(scope_of(**headers))


def test_a_proxy_is_believed_by_explicit_setting_only() -> None:
    behind = CrossSiteGuard([], trusted_proxy=True)
    headers = {"origin": "https://a.example", "host": "10.0.0.7:8000", "x_forwarded_host": "a.example"}
    assert behind.allows(scope_of(**headers))
    assert not guard.allows(scope_of(**headers))
    assert not behind.allows(scope_of(origin="https://a.example", host="a.example"))
    assert not behind.allows(scope_of(**{**headers, "x_forwarded_host": "evil.example, a.example"}))
    assert not behind.allows(scope_of(origin="https://a.example", x_forwarded_host=["a.example", "a.example"]))


@pytest.mark.parametrize("origin", ["a.example", "https://a.example/", "https://*.example", "null", "", "https://a b"])
def test_a_trusted_origin_that_is_none_fails_at_once(origin: str) -> None:
    with pytest.raises(ConfigError, match="is no origin"):
        CrossSiteGuard([origin], trusted_proxy=False)


def test_a_person_navigates_and_a_script_does_not() -> None:
    assert navigates(scope_of("GET", sec_fetch_mode="navigate"))
    assert not navigates(scope_of("POST", sec_fetch_mode="navigate"))
    assert not navigates(scope_of("GET", sec_fetch_mode="cors"))
    assert not navigates(scope_of("GET", sec_fetch_mode=["navigate", "navigate"]))
    assert not navigates(scope_of("GET", kind="websocket", sec_fetch_mode="navigate"))
    assert not navigates(scope_of("GET"))
