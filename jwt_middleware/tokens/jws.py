"""The path of one request, from a raw token to a session: each step is named after its module.

``run`` is every request but a plain hit. It leaves one :class:`Outcome` behind, unless the token is a plain one of
which only the session had to be asked for (see ``remembered``).
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from math import isfinite
from typing import Any, Final
from uuid import UUID

import msgspec

from ..errors import Reason, Refusal

_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_TO_STANDARD: Final = bytes(octet if octet in _ALPHABET else 0x21 for octet in range(256)).translate(
    bytes.maketrans(b"-_", b"+/")
)
"""base64url to base64; whatever is neither becomes ``!``, which the decoder refuses."""
_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_PADDING: Final = (b'"', b'"', b'=="', b'="')
"""By length modulo 4, what a segment lacks to be a JSON string of padded base64: msgspec's decoder is the fastest."""
_LAST: Final = (_ALPHABET, b"", b"AQgw", b"AEIMQUYcgkosw048")
"""By length modulo 4, the characters a segment may end with: others carry bits that decode to nothing."""
_decode_base64: Final = msgspec.json.Decoder(bytes).decode


def from_base64url(segment: bytes) -> bytes:
    """Decode what is base64url, unpadded and in its one spelling (RFC 4648 section 3.5).

    Raises:
        Refusal: ``token_malformed``.
    """
    spare = len(segment) & 3
    if segment[-1:] not in _LAST[spare]:
        raise Refusal(Reason.TOKEN_MALFORMED)
    try:
        return _decode_base64(b'"' + segment.translate(_TO_STANDARD) + _PADDING[spare])
    except msgspec.MsgspecError:
        raise Refusal(Reason.TOKEN_MALFORMED) from None


def to_base64url(octets: bytes) -> bytes:
    """Encode without padding (RFC 7515 section 2)."""
    return b2a_base64(octets, newline=False).translate(_TO_URL).rstrip(b"=")


def is_base64url(text: bytes) -> bool:
    """Whether :func:`from_base64url` would decode it."""
    return not text.translate(None, _ALPHABET) and text[-1:] in _LAST[len(text) & 3]


MAX_TOKEN: Final = 8192
"""Bytes of a whole token."""
MAX_DEPTH: Final = 32
"""Nested objects and arrays, the outermost counted."""
UNPROVEN: Final = 256
"""Octets of a header that is looked at whole before the signature is checked: a longer one could cost too much."""
MAX_MARKS: Final = 256
"""Commas, brackets and backslashes of any header: they say how much there is to read."""
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"')
"""A JSON string in text that is known to be JSON; possessive, so that no text costs more than one pass."""
_NESTS: Final = (dict, list)
_NO_MARK: Final = bytes(octet for octet in range(256) if octet not in b",[{\\")
_DIGITS: Final = bytes(0x30 if 0x30 <= octet <= 0x39 else 0x20 for octet in range(256))
_LONG: Final = b"0" * 19
"""As many digits as the shortest integer beyond 64 bit: text without them needs no second look at its numbers."""
_KID: Final = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,128}")
"""The characters of URLs and of both base64 alphabets; a ``kid`` is a dictionary key and nothing else."""


class _Header(msgspec.Struct, frozen=True, gc=False):
    """What is read of a header (RFC 7515 section 4.1; RFC 7797 section 3)."""

    alg: str
    typ: str = "JWT"
    kid: str | msgspec.UnsetType = msgspec.UNSET
    crit: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    b64: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode: Final = msgspec.json.Decoder().decode
_decode_header: Final = msgspec.json.Decoder(_Header).decode
_encode: Final = msgspec.json.Encoder().encode


def split(token: bytes) -> tuple[bytes, bytes, bytes]:
    """Header and payload of a compact serialisation (RFC 7515 section 3.1) as they are encoded, and the signature.

    Raises:
        Refusal: ``token_oversize``, or ``token_malformed`` for anything but three parts, the latter two of canonical
            base64url; the header's is looked at where it is decoded.
    """
    if len(token) > MAX_TOKEN:
        raise Refusal(Reason.TOKEN_OVERSIZE)
    header, _, rest = token.partition(b".")
    payload, dot, signature = rest.partition(b".")
    if not dot or not is_base64url(payload):
        raise Refusal(Reason.TOKEN_MALFORMED)
    return header, payload, from_base64url(signature)


def is_kid(value: object) -> bool:
    """Whether it may name a key (RFC 7515 section 4.1.4)."""
    return isinstance(value, str) and _KID.fullmatch(value) is not None


def encode_object(value: dict[str, Any]) -> bytes:
    """Compact UTF-8 JSON that :func:`parse_object` reads back.

    Raises:
        ValueError: Something in it is no JSON, or would be refused when it is read. It has no text.
    """
    try:
        _check(value)
        encoded = _encode(value)
        parse_object(encoded, Reason.CLAIMS_INVALID)
    except (ValueError, TypeError, RecursionError, Refusal):
        raise ValueError from None
    return encoded


def parse_object(raw: bytes, reason: Reason) -> dict[str, Any]:
    """A JSON object (RFC 8259) in strict UTF-8 with unique members at every depth.

    Raises:
        Refusal: With ``reason``: not such an object, deeper than 32, an integer beyond 64 bit, a number that is not
            finite, a lone surrogate or a NUL in a string.
    """
    try:
        value = _decode(raw)
        if type(value) is not dict:
            raise Refusal(reason)
        plain = _encode(value) == raw
        if not plain or raw.count(b"{") + raw.count(b"[") > MAX_DEPTH:
            members = _members(value, 1)
            if not plain and _STRING.sub(b"", raw).count(b":") != members:
                raise Refusal(reason)
        if (b"\\" in raw and b"\\u0000" in raw) or _LONG in raw.translate(_DIGITS):
            _check(value)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        raise Refusal(reason) from None
    return value


def header_of(header: bytes, *, signed: bool = False) -> tuple[str, str | None]:
    """``alg`` and ``kid``; where keys might be fetched from is never looked at (RFC 8725 section 3.10).

    Args:
        header: As it is encoded.
        signed: The signature holds. Then a long header, too, is looked at whole: until somebody has proved something,
            what is not needed is skipped, and costs next to nothing whatever it is.

    Raises:
        Refusal: ``token_malformed``.
    """
    octets = from_base64url(header)
    if len(octets.translate(None, _NO_MARK)) > MAX_MARKS:
        raise Refusal(Reason.TOKEN_MALFORMED)
    if signed or len(octets) <= UNPROVEN:
        parse_object(octets, Reason.TOKEN_MALFORMED)
    try:
        found = _decode_header(octets)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        raise Refusal(Reason.TOKEN_MALFORMED) from None
    kid = None if found.kid is msgspec.UNSET else found.kid
    if (
        found.typ.upper() != "JWT"
        or not (kid is None or is_kid(kid))
        or found.crit is not msgspec.UNSET
        or found.b64 is not msgspec.UNSET
    ):
        raise Refusal(Reason.TOKEN_MALFORMED)
    return found.alg, kid


def _members(value: Mapping[str, Any] | Sequence[Any], depth: int) -> int:
    """How many members all its objects have; the text of a duplicate has one more."""
    if depth > MAX_DEPTH:
        raise ValueError
    items: Iterable[Any] = value
    found = 0
    if isinstance(value, dict):
        found, items = len(value), value.values()
    for item in items:
        if type(item) in _NESTS:
            found += _members(item, depth + 1)
    return found


def _check(value: object) -> None:
    """The rules about single values, which JSON parsers leave open."""
    if isinstance(value, dict):
        for name, item in value.items():
            _check(name)
            _check(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check(item)
    elif not _is_scalar(value):
        raise ValueError


def _is_scalar(value: object) -> bool:
    if isinstance(value, str):
        if not value.isascii():
            value.encode()  # raises for a lone surrogate
        return "\0" not in value
    if isinstance(value, int):
        return -(2**63) <= value < 2**64
    return isfinite(value) if isinstance(value, float) else value is None


EMPTY: Final = sha256().copy
"""An empty SHA-256. Copied and not made: OpenSSL would look for the algorithm each time, which costs a server 1 µs."""


def digest(token: bytes) -> bytes:
    """A cryptographic digest of the whole token, 256 bit."""
    sha = EMPTY()
    sha.update(token)
    return sha.digest()


def adopted_session_id(key: bytes) -> str:
    """The id under which a token without ``sid`` is revoked: half of its digest, spelled as a UUID."""
    return str(UUID(bytes=key[:16]))
