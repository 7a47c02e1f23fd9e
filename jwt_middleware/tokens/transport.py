"""Finds the token of a request in its raw headers: in ``Authorization: Bearer`` (RFC 6750), else in a cookie.

The first carrier that is present decides: a token that is refused in one place is never looked for in another, or an
attacker could choose which of two tokens counts. Only a log-out looks at all of them.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from ..errors import Reason
from ..types import Carrier, RawToken
from .cookies import Unreadable, cookie_values
from .jws import MAX_TOKEN

MAX_COOKIE_HEADER: Final = 65_536
"""Bytes of a Cookie header that is read; servers allow less."""
MAX_VALUES: Final = 4
"""Values of one cookie name that are verified: a browser sends one for each domain and path that it was set for."""
BEARER_READ: Final = b"Authorization"
COOKIE_READ: Final = b"Authorization, Cookie"
"""Values of Vary. A cookie is read only if there is no Bearer token, so both headers decided."""
_SCHEMED: Final = re.compile(rb'("?)([A-Za-z]+) ([A-Za-z0-9\-._]+)\1')
"""A scheme and a token in a cookie; Python's ``http.cookies`` quotes a value that holds a space."""
_B64TOKEN: Final = re.compile(rb"[A-Za-z0-9\-._~+/]+=*")
_SCHEME_ENDS: Final = (b"", b" ", b"\t")
"""What may follow ``Bearer``. A tab is a syntax error of this scheme, not another scheme (RFC 9110 section 11.4)."""


class Received(NamedTuple):
    """The token of a request, if any, and the headers that decided (RFC 9110 section 12.5.5)."""

    raw: RawToken | None
    vary: bytes
    others: tuple[RawToken, ...] = ()
    """The other values of the cookie, if its name was sent more than once."""


class Transport:
    """Reads the token of a request in one pass over its headers.

    Args:
        names: The names of the cookies that may hold it, today's first.
        schemes: By name, the scheme that may stand before a token in that cookie.
    """

    def __init__(self, names: Sequence[str], schemes: Mapping[str, str]) -> None:
        self.names: Final = tuple(names)
        self._cookies: Final = tuple((name.encode("ascii"), None if name == names[0] else name) for name in names)
        self._schemes: Final = {name.encode("ascii"): scheme for name, scheme in schemes.items()}

    def read(self, headers: Iterable[tuple[bytes, bytes]]) -> Received:
        """Read the token, if any.

        Args:
            headers: As ASGI has them, names in lower case.

        Raises:
            Unreadable: ``token_ambiguous`` (two Authorization headers, or five values of one cookie),
                ``token_malformed`` (Bearer syntax) or ``token_oversize``.
        """
        headers = headers if isinstance(headers, list) else list(headers)
        values = dict(headers)
        if len(values) != len(headers):  # a header repeats, and the dictionary kept only its last value
            values = _merged(headers)
        authorization, cookies = values.get(b"authorization"), values.get(b"cookie")
        if authorization is not None and _is_bearer(authorization):
            return Received(_bearer(authorization), BEARER_READ)
        if cookies is None:
            return Received(None, COOKIE_READ)
        tokens = self._session_cookie(cookies)
        return Received(tokens[0] if tokens else None, COOKIE_READ, tokens[1:])

    def read_all(self, headers: Iterable[tuple[bytes, bytes]]) -> list[RawToken]:
        """Every token that a request shows, in whatever place; those that are unreadable are left out."""
        found, cookies = [], []
        for name, value in headers:
            if name == b"cookie":
                cookies.append(value)
            elif name == b"authorization" and _is_bearer(value):
                with contextlib.suppress(Unreadable):
                    found.append(_bearer(value))
        header = b";".join(cookies)
        for name, other in self._cookies:
            found.extend(self._token(name, other, value) for value in cookie_values(name, header))
        return [raw for raw in found if len(raw.value) <= MAX_TOKEN]

    def _session_cookie(self, header: bytes) -> tuple[RawToken, ...]:
        """The values of the first cookie that is there."""
        if len(header) > MAX_COOKIE_HEADER:
            raise Unreadable(Reason.TOKEN_OVERSIZE, Carrier.COOKIE)
        for name, other in self._cookies:
            if name not in header or not (values := cookie_values(name, header)):
                continue
            if len(values) > MAX_VALUES:
                raise Unreadable(Reason.TOKEN_AMBIGUOUS, Carrier.COOKIE)
            if any(len(value) > MAX_TOKEN for value in values):
                raise Unreadable(Reason.TOKEN_OVERSIZE, Carrier.COOKIE)
            return tuple(self._token(name, other, value) for value in values)
        return ()

    def _token(self, name: bytes, other: str | None, value: bytes) -> RawToken:
        """The token in the value of a cookie, which may have a scheme before it, quoted or not."""
        scheme = self._schemes.get(name)
        if scheme is not None and (found := _SCHEMED.fullmatch(value)) and found[2].lower() == scheme.lower().encode():
            return RawToken(found[3], Carrier.COOKIE, other, scheme)
        return RawToken(value, Carrier.COOKIE, other)


def _is_bearer(authorization: bytes) -> bool:
    return authorization[:6].lower() == b"bearer" and authorization[6:7] in _SCHEME_ENDS


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
