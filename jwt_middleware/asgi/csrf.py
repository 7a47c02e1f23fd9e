"""Which paths need no session, and which requests another site may have forged. Pure functions of the ASGI scope."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..errors import ConfigError
from .paths import _refuse_unless_listed

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_SAME: Final = (b"same-origin", b"none")
_PORTS: Final = {"http": ":80", "https": ":443", "ws": ":80", "wss": ":443"}
_ORIGIN: Final = re.compile(r"(https?)://([A-Za-z0-9._\-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


class CrossSiteGuard:
    """The guard against requests that another site makes a browser send (Fetch Metadata, RFC 6454).

    Args:
        trusted_origins: ``https://app.example.com``: may send unsafe requests.
        trusted_proxy: Believe ``X-Forwarded-Host`` instead of ``Host``.

    Raises:
        ConfigError: What is no origin.
    """

    def __init__(self, trusted_origins: Sequence[str], *, trusted_proxy: bool) -> None:
        _refuse_unless_listed(trusted_origins, "trusted_origins is a list of strings: ['https://app.example.com']")
        for origin in trusted_origins:
            if not _ORIGIN.fullmatch(origin):
                raise ConfigError(f"{origin!r} is no origin: write https://app.example.com, without a path")
        self._trusted: Final = frozenset(_normal(origin) for origin in trusted_origins)
        self._proxied: Final = trusted_proxy

    def allows(self, scope: Mapping[str, Any]) -> bool:
        """Whether a cookie-carried token counts: for a safe method, or from the same or a trusted origin."""
        return _safe(scope) or self._same_site(scope)

    def allows_public(self, scope: Mapping[str, Any]) -> bool:
        """Log-in CSRF: an unsafe request on a public path is refused only where it says that it is cross-site."""
        if _safe(scope):
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


def _safe(scope: Mapping[str, Any]) -> bool:
    """A websocket's handshake is a GET that changes things: it is never safe."""
    return scope["type"] == "http" and scope["method"] in SAFE


def _headers(scope: Mapping[str, Any], wanted: bytes) -> list[bytes]:
    return [value for name, value in scope["headers"] if name == wanted]


def _normal(origin: str) -> str:
    """Lower case, without the scheme's own port (RFC 6454 section 6.2)."""
    scheme, _, authority = origin.lower().partition("://")
    return f"{scheme}://{_without_port(authority, scheme)}"


def _without_port(authority: str, scheme: str) -> str:
    return authority.removesuffix(_PORTS.get(scheme, ""))


def navigates(scope: Mapping[str, Any]) -> bool:
    """A person's browser going to a page, and not a script fetching one (Fetch Metadata, ``Sec-Fetch-Mode``)."""
    return scope["type"] == "http" and scope["method"] == "GET" and _headers(scope, b"sec-fetch-mode") == [b"navigate"]
