"""Finds the token of a request in its raw headers: in ``Authorization: Bearer`` (RFC 6750), else in a cookie.

The first carrier that is present decides: a token that is refused in one place is never looked for in another, or an
attacker could choose which of two tokens counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from ..errors import Reason
from ..types import Carrier, RawToken
from .cookies import SessionCookie, Unreadable, cookie_value
from .jws import MAX_TOKEN

MAX_COOKIE_HEADER: Final = 65_536
"""Bytes of a Cookie header that is read; servers allow less."""
BEARER_READ: Final = b"Authorization"
COOKIE_READ: Final = b"Authorization, Cookie"
"""Values of Vary. A cookie is read only if there is no Bearer token, so both headers decided."""
_B64TOKEN: Final = re.compile(rb"[A-Za-z0-9\-._~+/]+=*")
_SCHEME_ENDS: Final = (b"", b" ", b"\t")
"""What may follow ``Bearer``. A tab is a syntax error of this scheme, not another scheme (RFC 9110 section 11.4)."""


class Received(NamedTuple):
    """The token of a request, if any, and the headers that decided (RFC 9110 section 12.5.5)."""

    raw: RawToken | None
    vary: bytes


class Transport:
    """Reads the token of a request in one pass over its headers."""

    def __init__(self, cookie: SessionCookie) -> None:
        self._names: Final = tuple(name.encode("ascii") for name in (cookie.name, *cookie.also_read))

    def read(self, headers: Iterable[tuple[bytes, bytes]]) -> Received:
        """Read the token, if any.

        Args:
            headers: As ASGI has them, names in lower case.

        Raises:
            Unreadable: ``token_ambiguous``, ``token_malformed`` (Bearer syntax) or ``token_oversize``.
        """
        headers = headers if isinstance(headers, list) else list(headers)
        values = dict(headers)
        if len(values) != len(headers):  # a header repeats, and the dictionary kept only its last value
            values = _merged(headers)
        authorization, cookies = values.get(b"authorization"), values.get(b"cookie")
        if authorization is not None and authorization[:6].lower() == b"bearer" and authorization[6:7] in _SCHEME_ENDS:
            return Received(_bearer(authorization), BEARER_READ)
        return Received(None if cookies is None else self._session_cookie(cookies), COOKIE_READ)

    def _session_cookie(self, header: bytes) -> RawToken | None:
        if len(header) > MAX_COOKIE_HEADER:
            raise Unreadable(Reason.TOKEN_OVERSIZE, Carrier.COOKIE)
        for name in self._names:
            if name in header and (value := cookie_value(name, header)) is not None:
                if len(value) > MAX_TOKEN:
                    raise Unreadable(Reason.TOKEN_OVERSIZE, Carrier.COOKIE)
                return RawToken(value, Carrier.COOKIE, name is not self._names[0])  # an older name is adopted
        return None


def _merged(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The two headers that are read, if any header repeats: HTTP/2 splits Cookie (RFC 9113 section 8.2.3)."""
    authorizations = [value for name, value in headers if name == b"authorization"]
    cookies = [value for name, value in headers if name == b"cookie"]
    if len(authorizations) > 1:
        raise Unreadable(Reason.TOKEN_AMBIGUOUS, Carrier.BEARER)
    merged = {b"authorization": authorizations[0]} if authorizations else {}
    return {**merged, b"cookie": b";".join(cookies)} if cookies else merged


def _bearer(authorization: bytes) -> RawToken:
    token = authorization[7:].strip(b" ")  # spaces only: a tab is a syntax error
    if len(token) > MAX_TOKEN:
        raise Unreadable(Reason.TOKEN_OVERSIZE, Carrier.BEARER)
    if authorization[6:7] == b"\t" or not _B64TOKEN.fullmatch(token):
        raise Unreadable(Reason.TOKEN_MALFORMED, Carrier.BEARER)
    return RawToken(token, Carrier.BEARER)
