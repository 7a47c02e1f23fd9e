"""Raw header bytes to a token, and back: the one place that knows cookies (RFC 6265) and Bearer (RFC 6750).

Nothing is decoded, unquoted or forgiven: a name matches byte for byte, space and tab around it are trimmed, and what
is there twice is ambiguous. Cookie names are tried in order and the first that is present decides; a token refused
from one place is never retried from another.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

from ..errors import ConfigError, MintError, Reason, Refusal
from ..types import Carrier

MAX_SET_COOKIE: Final = 4096
"""Bytes of a whole Set-Cookie value that every browser keeps (RFC 6265 section 6.1)."""
_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_ATTRIBUTE: Final = re.compile(r"/[\x20-\x3a\x3c-\x7e]*")
_DOMAIN: Final = re.compile(r"[A-Za-z0-9.\-]+")


class Unreadable(Refusal):
    """Refused before there was a token; says where it stood."""

    def __init__(self, reason: Reason, carrier: Carrier) -> None:
        super().__init__(reason)
        self.carrier = carrier


class SessionCookie:
    """How the cookie is named and set. It is always HttpOnly.

    Args:
        name: Default ``__Host-session``, or ``session`` where ``secure`` is False, ``path`` or ``domain`` set.
        secure: False serves ``http://localhost`` and nothing else.
        samesite: RFC 6265bis section 4.1.2.7; ``none`` needs ``secure``.
        path, domain: Where the browser sends it.
        also_read: Older names, read after the own one and cleared at log-in and log-out.

    Raises:
        ConfigError: A browser would not keep it.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        secure: bool = True,
        samesite: Literal["lax", "strict", "none"] = "lax",
        path: str = "/",
        domain: str | None = None,
        also_read: Sequence[str] = (),
    ) -> None:
        host_bound = secure and path == "/" and domain is None
        self.name: Final = name if name is not None else "__Host-session" if host_bound else "session"
        if isinstance(also_read, str):
            raise ConfigError(f"also_read is a list of names: also_read=[{also_read!r}]")
        self.also_read: Final = tuple(also_read)
        self._secure: Final = secure
        if samesite not in ("lax", "strict", "none"):
            raise ConfigError('samesite must be "lax", "strict" or "none"')
        if samesite == "none" and not secure:
            raise ConfigError('samesite="none" needs secure=True, or browsers drop the cookie')
        if not _ATTRIBUTE.fullmatch(path) or (domain is not None and not _DOMAIN.fullmatch(domain)):
            raise ConfigError("path must begin with / and hold no ';' or control character, domain must be a host name")
        if len({self.name, *self.also_read}) != 1 + len(self.also_read):
            raise ConfigError("a cookie name stands twice among name and also_read")
        for each in (self.name, *self.also_read):
            if not _NAME.fullmatch(each):
                raise ConfigError(f"cookie name {each!r} is no token of RFC 6265: use letters, digits, - and _")
        if self.name.lower().startswith("__host-") and not host_bound:
            raise ConfigError('a "__Host-" cookie needs secure=True, path="/" and no domain')
        if self.name.lower().startswith("__secure-") and not secure:
            raise ConfigError('a "__Secure-" cookie needs secure=True')
        self._scope: Final = f"; Path={path}" + (f"; Domain={domain}" if domain else "")
        self._flags: Final = "; HttpOnly" + f"; SameSite={samesite.capitalize()}"

    def set_header(self, token: str, *, max_age: int) -> str:
        """The Set-Cookie value (RFC 6265 section 4.1) for a token that lives ``max_age`` more seconds.

        Raises:
            MintError: It exceeds 4,096 bytes, and browsers would drop it silently.
        """
        header = self._header(self.name, token, max_age)
        if len(header) > MAX_SET_COOKIE:
            raise MintError(
                f"the cookie would have {len(header)} bytes, and browsers keep {MAX_SET_COOKIE}: mint fewer claims"
            )
        return header

    def clear_headers(self) -> list[str]:
        """The Set-Cookie values that delete the cookie under every name it is read by."""
        return [self._header(self.name, "", 0), *self.clear_also_read()]

    def clear_also_read(self) -> list[str]:
        """Those that delete the older names only."""
        return [self._header(name, "", 0) for name in self.also_read]

    def _header(self, name: str, value: str, max_age: int) -> str:
        secure = "; Secure" if self._secure or name.lower().startswith(("__host-", "__secure-")) else ""
        scope = (
            "; Path=/" if name.lower().startswith("__host-") else self._scope
        )  # or browsers ignore that it is cleared
        return f"{name}={value}; Max-Age={max_age}{scope}{secure}{self._flags}"


def cookie_value(name: bytes, header: bytes) -> bytes | None:
    """The value of the cookie of that very name.

    Raises:
        Unreadable: ``token_ambiguous`` where there are two.
    """
    values = []
    if header.count(name) == 1:  # spares the other cookies a look
        at = header.index(name)
        header = header[header.rfind(b";", 0, at) + 1 :].partition(b";")[0]
    for pair in header.split(b";"):
        key, equals, value = pair.partition(b"=")
        if equals and key.strip(b" \t") == name:
            values.append(value.strip(b" \t"))
    if len(values) > 1:
        raise Unreadable(Reason.TOKEN_AMBIGUOUS, Carrier.COOKIE)
    return values[0] if values else None
