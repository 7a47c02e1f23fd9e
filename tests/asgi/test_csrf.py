"""Requests that another site may have forged."""

from __future__ import annotations

from typing import Any

import pytest

from jwt_middleware import ConfigError
from jwt_middleware.asgi.csrf import CrossSiteGuard, is_navigation

guard = CrossSiteGuard(["https://trusted.example", "http://dev.example:8000"], trusted_proxy=False)


def request(method: str = "POST", kind: str = "http", **headers: str | list[str]) -> dict[str, Any]:
    pairs = [
        (name.replace("_", "-").encode(), value.encode("latin-1"))
        for name, values in headers.items()
        for value in ([values] if isinstance(values, str) else values)
    ]
    return {"type": kind, "method": method, "headers": pairs}


class TestNavigation:
    def test_a_navigation_is_a_get_that_says_so_once(self) -> None:
        assert is_navigation(request("GET", sec_fetch_mode="navigate"))
        assert not is_navigation(request("POST", sec_fetch_mode="navigate"))
        assert not is_navigation(request("GET", sec_fetch_mode="cors"))
        assert not is_navigation(request("GET", sec_fetch_mode=["navigate", "navigate"]))
        assert not is_navigation(request("GET", kind="websocket", sec_fetch_mode="navigate"))
        assert not is_navigation(request("GET"))


class TestCrossSiteGuard:
    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
    def test_a_safe_method_is_allowed_from_any_site(self, method: str) -> None:
        scope = request(method, origin="https://evil.example", sec_fetch_site="cross-site", host="a.example")
        assert guard.allows(scope)
        assert guard.allows_public(scope)

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "get", "QUERY"])
    def test_every_other_method_is_guarded(self, method: str) -> None:
        assert not guard.allows(request(method, sec_fetch_site="cross-site"))

    def test_a_websocket_is_never_safe(self) -> None:
        scope = request(kind="websocket", origin="https://evil.example", host="a.example")
        del scope["method"]
        assert not guard.allows(scope)
        assert not guard.allows_public(scope)
        assert guard.allows(request(kind="websocket", origin="https://a.example", host="a.example"))

    def test_an_unsafe_request_of_the_same_or_a_trusted_origin_is_allowed(self) -> None:
        for headers in [
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
        ]:
            assert guard.allows(request(**headers)), headers
            assert guard.allows_public(request(**headers)), headers

    def test_an_unsafe_request_of_any_other_origin_is_refused(self) -> None:
        cases: list[dict[str, Any]] = [
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
        for headers in cases:
            assert not guard.allows(request(**headers)), headers
            assert not guard.allows_public(request(**headers)), headers

    def test_a_proxy_is_believed_by_explicit_setting_only(self) -> None:
        behind = CrossSiteGuard([], trusted_proxy=True)
        headers = {"origin": "https://a.example", "host": "10.0.0.7:8000", "x_forwarded_host": "a.example"}
        assert behind.allows(request(**headers))
        assert not guard.allows(request(**headers))
        assert not behind.allows(request(origin="https://a.example", host="a.example"))
        assert not behind.allows(request(**{**headers, "x_forwarded_host": "evil.example, a.example"}))
        assert not behind.allows(request(origin="https://a.example", x_forwarded_host=["a.example", "a.example"]))

    @pytest.mark.parametrize(
        "origin", ["a.example", "https://a.example/", "https://*.example", "null", "", "https://a b"]
    )
    def test_a_trusted_origin_that_is_none_fails_at_once(self, origin: str) -> None:
        with pytest.raises(ConfigError, match="invalid origin"):
            CrossSiteGuard([origin], trusted_proxy=False)

    @pytest.mark.parametrize("given", ["https://trusted.example", None, 1, [1], [None]])
    def test_what_is_no_list_of_strings_is_refused(self, given: Any) -> None:
        with pytest.raises(ConfigError, match="trusted_origins must be a list"):
            CrossSiteGuard(given, trusted_proxy=False)
