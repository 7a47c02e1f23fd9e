"""Which requests another site may have made a browser send (Fetch Metadata, RFC 6454). Pure functions of the scope."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..errors import ConfigError
from .paths import refuse_unless_strings

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_SAME: Final = (b"same-origin", b"none")
_PORTS: Final = {"http": ":80", "https": ":443", "ws": ":80", "wss": ":443"}
_ORIGIN: Final = re.compile(r"(https?)://([A-Za-z0-9._\-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


class CrossSiteGuard:
    """The guard against cross-site requests.

    Args:
        trusted_origins: May send unsafe requests: ``https://app.example.com``.
        trusted_proxy: ``X-Forwarded-Host`` counts, and ``Host`` does not.

    Raises:
        ConfigError: An invalid origin.
    """

    def __init__(self, trusted_origins: Sequence[str], *, trusted_proxy: bool) -> None:
        refuse_unless_strings(trusted_origins, "trusted_origins", "['https://app.example.com']")
        for origin in trusted_origins:
            if not _ORIGIN.fullmatch(origin):
                raise ConfigError(f"invalid origin {origin!r}: write https://app.example.com, without a path")
        self._trusted: Final = frozenset(_normal(origin) for origin in trusted_origins)
        self._proxied: Final = trusted_proxy

    def allows(self, scope: Mapping[str, Any]) -> bool:
        """True if a token in a cookie counts: the method is safe, or the origin is the same or trusted."""
        return _is_safe(scope) or self._same_site(scope)

    def allows_public(self, scope: Mapping[str, Any]) -> bool:
        """Log-in CSRF: False for an unsafe request to a public path that says it is cross-site."""
        if _is_safe(scope):
            return True
        site, origin = _headers(scope, b"sec-fetch-site"), _headers(scope, b"origin")
        return (not site and not origin) or self._same_site(scope)

    def _same_site(self, scope: Mapping[str, Any]) -> bool:
        origins, sites = _headers(scope, b"origin"), _headers(scope, b"sec-fetch-site")
        if len(origins) == 1 and _normal(origins[0].decode("latin-1")) in self._trusted:
            return True
        if sites:
            return len(sites) == 1 and sites[0] in _SAME
        if not origins:
            return True
        return len(origins) == 1 and self._host_equals(scope, origins[0].decode("latin-1"))

    def _host_equals(self, scope: Mapping[str, Any], origin: str) -> bool:
        hosts = _headers(scope, b"x-forwarded-host" if self._proxied else b"host")
        found = _ORIGIN.fullmatch(origin)
        if found is None or len(hosts) != 1:
            return False
        scheme, authority = _normal(origin).split("://")
        return _without_port(hosts[0].decode("latin-1").lower(), scheme) == authority


def _is_safe(scope: Mapping[str, Any]) -> bool:
    """The handshake of a websocket is a GET that changes things: never safe."""
    return scope["type"] == "http" and scope["method"] in SAFE_METHODS


def _headers(scope: Mapping[str, Any], wanted: bytes) -> list[bytes]:
    return [value for name, value in scope["headers"] if name == wanted]


def _normal(origin: str) -> str:
    """Lower case, without the scheme's own port (RFC 6454 section 6.2)."""
    scheme, _, authority = origin.lower().partition("://")
    return f"{scheme}://{_without_port(authority, scheme)}"


def _without_port(authority: str, scheme: str) -> str:
    return authority.removesuffix(_PORTS.get(scheme, ""))


def is_navigation(scope: Mapping[str, Any]) -> bool:
    """True if a browser goes to a page; False if a script fetches one (Fetch Metadata, ``Sec-Fetch-Mode``)."""
    return scope["type"] == "http" and scope["method"] == "GET" and _headers(scope, b"sec-fetch-mode") == [b"navigate"]
