"""The session cookie (RFC 6265): the Set-Cookie values that set and clear it, and its value in a Cookie header.

Reading is exact, so that no sibling site can slip in a cookie that another parser would take for ours: names match byte
for byte, only space and tab are trimmed, and values are neither unquoted nor decoded.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from ..errors import ConfigError, MintError, Reason, Refusal
from ..types import Carrier

MAX_SET_COOKIE: Final = 4096
"""Bytes of a whole Set-Cookie value that every browser keeps (RFC 6265 section 6.1)."""
_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PATH: Final = re.compile(r"/[\x20-\x3a\x3c-\x7e]*")
_DOMAIN: Final = re.compile(r"[A-Za-z0-9.\-]+")


class Unreadable(Refusal):
    """A request whose token could not be read; ``carrier`` is where it was sent."""

    def __init__(self, reason: Reason, carrier: Carrier) -> None:
        super().__init__(reason)
        self.carrier = carrier


class SessionCookie:
    """How the session cookie is named and set. It is always HttpOnly.

    Args:
        name: Default ``__Host-session``; ``jwt_session`` if ``secure`` is False, or ``path`` or ``domain`` is set.
        secure: False is for ``http://localhost`` only.
        samesite: RFC 6265bis section 4.1.2.7; ``none`` needs ``secure``.
        path, domain: Where the browser sends the cookie.

    Raises:
        ConfigError: A browser would drop the cookie; the message says how to fix it.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        secure: bool = True,
        samesite: Literal["lax", "strict", "none"] = "lax",
        path: str = "/",
        domain: str | None = None,
    ) -> None:
        host_bound = secure and path == "/" and domain is None  # the rules of the prefix "__Host-"
        self.name: Final = name if name is not None else "__Host-session" if host_bound else "jwt_session"
        self._refuse_name(host_bound=host_bound, secure=secure)
        if samesite not in ("lax", "strict", "none"):
            raise ConfigError(f'samesite must be "lax", "strict" or "none", got {samesite!r}')
        if samesite == "none" and not secure:
            raise ConfigError('samesite="none" needs secure=True, or browsers drop the cookie')
        if not _PATH.fullmatch(path):
            raise ConfigError(f"path must begin with / and hold no ';' or control character, got {path!r}")
        if domain is not None and not _DOMAIN.fullmatch(domain):
            raise ConfigError(f"domain must be a host name, got {domain!r}")
        self.scope: Final = (self.name, domain and domain.lower().removeprefix("."), path)
        """What a browser tells cookies apart by (RFC 6265 section 5.3): name, domain and path."""
        self._secure: Final = secure
        self._attributes: Final = f"; Path={path}" + (f"; Domain={domain}" if domain else "")
        self._flags: Final = f"; HttpOnly; SameSite={samesite.capitalize()}"

    def set_header(self, token: str, *, max_age: int) -> str:
        """The Set-Cookie value (RFC 6265 section 4.1) for a token that lives ``max_age`` more seconds.

        Raises:
            MintError: It exceeds 4,096 bytes; browsers would drop it silently.
        """
        header = self._header(token, max_age)
        if len(header) > MAX_SET_COOKIE:
            raise MintError(f"the cookie has {len(header)} bytes, browsers keep {MAX_SET_COOKIE}; mint fewer claims")
        return header

    def clear_header(self) -> str:
        """The Set-Cookie value that clears the cookie, of this domain and path alone."""
        return self._header("", 0)

    def _header(self, value: str, max_age: int) -> str:
        secure = "; Secure" if self._secure else ""
        return f"{self.name}={value}; Max-Age={max_age}{self._attributes}{secure}{self._flags}"

    def _refuse_name(self, *, host_bound: bool, secure: bool) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"invalid cookie name {self.name!r}; use letters, digits, - and _ (RFC 6265)")
        if self.name.lower().startswith("__host-") and not host_bound:
            raise ConfigError('a "__Host-" cookie needs secure=True, path="/" and no domain')
        if self.name.lower().startswith("__secure-") and not secure:
            raise ConfigError('a "__Secure-" cookie needs secure=True')


def cookie_values(name: bytes, header: bytes) -> list[bytes]:
    """The values of the cookies of exactly that name, each once."""
    if header.count(name) == 1:  # usual: cut its pair out, and skip splitting the other cookies
        at = header.index(name)
        header = header[header.rfind(b";", 0, at) + 1 :].partition(b";")[0]
    values: dict[bytes, None] = {}
    for pair in header.split(b";"):
        key, equals, value = pair.partition(b"=")
        if equals and key.strip(b" \t") == name:
            values[value.strip(b" \t")] = None
    return list(values)
