"""The syntax of a token (RFC 7515), stricter than PyJWT: base64url, JSON, the header, and the digest of a token.

Each token has exactly one spelling and each payload exactly one reading, so that no two parsers can disagree about
what was signed. This module checks no signature and knows no claim; it is fuzzed on its own.
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
"""base64url to base64. Every other byte becomes ``!``, which the decoder refuses: ``+`` and ``/`` too."""
_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_PADDING: Final = (b'"', b'"', b'=="', b'="')
"""By length modulo 4: the end of a JSON string of padded base64. msgspec decodes such a string faster than binascii."""
_LAST: Final = (_ALPHABET, b"", b"AQgw", b"AEIMQUYcgkosw048")
"""By length modulo 4: the last characters that leave no unused bits set, which a decoder would drop silently."""
_decode_base64: Final = msgspec.json.Decoder(bytes).decode


def from_base64url(segment: bytes) -> bytes:
    """Decode base64url without padding, in its only canonical spelling (RFC 4648 section 3.5).

    Raises:
        Refusal: ``token_malformed``.
    """
    remainder = len(segment) & 3
    if segment[-1:] not in _LAST[remainder]:
        raise Refusal(Reason.TOKEN_MALFORMED)
    try:
        return _decode_base64(b'"' + segment.translate(_TO_STANDARD) + _PADDING[remainder])
    except msgspec.MsgspecError:
        raise Refusal(Reason.TOKEN_MALFORMED) from None


def to_base64url(octets: bytes) -> bytes:
    """Encode without padding (RFC 7515 section 2)."""
    return b2a_base64(octets, newline=False).translate(_TO_URL).rstrip(b"=")


def is_base64url(text: bytes) -> bool:
    """True if :func:`from_base64url` would decode the text."""
    return not text.translate(None, _ALPHABET) and text[-1:] in _LAST[len(text) & 3]


# Strict JSON

MAX_DEPTH: Final = 32
"""Nested objects and arrays, the outermost included."""
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"')
"""A string in valid JSON. Possessive quantifiers: no input makes the pattern read a byte twice."""
_CONTAINERS: Final = (dict, list)
_NOT_OPENING: Final = bytes(octet for octet in range(256) if octet not in b"[{")
_DIGITS: Final = bytes(0x30 if 0x30 <= octet <= 0x39 else 0x20 for octet in range(256))
_LONG: Final = b"0" * 19
"""The shortest integer beyond 64 bits has 19 digits: only text with as many in a row needs its numbers checked."""
_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode


def parse_object(raw: bytes, reason: Reason) -> dict[str, Any]:
    """Parse a JSON object (RFC 8259) of strict UTF-8, whose members are unique at every depth.

    Raises:
        Refusal: With ``reason``: the text is not such an object, is deeper than 32, or holds an integer beyond 64 bits,
            a number that is not finite, a lone surrogate or a NUL.
    """
    try:
        value = _decode(raw)
        if type(value) is not dict:
            raise Refusal(reason)
        # Compact JSON without a duplicate encodes to the same bytes: one comparison, and nearly every token is done.
        # All other text is checked by counting: a duplicate leaves one colon more than the parsed value has members.
        compact = _encode(value) == raw
        if not compact or len(raw.translate(None, _NOT_OPENING)) > MAX_DEPTH:
            members = _count_members(value, 1)
            if not compact and _STRING.sub(b"", raw).count(b":") != members:
                raise Refusal(reason)
        if (b"\\" in raw and b"\\u0000" in raw) or _LONG in raw.translate(_DIGITS):  # NUL has no other spelling
            _refuse_bad_values(value)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        raise Refusal(reason) from None
    return value


def encode_object(value: dict[str, Any]) -> bytes:
    """Encode compact UTF-8 JSON that :func:`parse_object` reads back.

    Raises:
        ValueError: JSON cannot carry the value, or :func:`parse_object` would refuse it. The error has no text.
    """
    try:
        _refuse_bad_values(value)
        encoded = _encode(value)
        parse_object(encoded, Reason.CLAIMS_INVALID)
    except (ValueError, TypeError, RecursionError, Refusal):  # RecursionError: a value that contains itself
        raise ValueError from None
    return encoded


def _count_members(value: Mapping[str, Any] | Sequence[Any], depth: int) -> int:
    """Count the members of all objects in ``value``; ValueError if it nests too deeply."""
    if depth > MAX_DEPTH:
        raise ValueError
    items: Iterable[Any] = value
    members = 0
    if isinstance(value, dict):
        members, items = len(value), value.values()
    for item in items:
        if type(item) in _CONTAINERS:
            members += _count_members(item, depth + 1)
    return members


def _refuse_bad_values(value: object) -> None:
    """Apply the rules that JSON parsers leave open to each name and value; ValueError if one breaks them."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, (list, tuple)):
        for item in value:
            _refuse_bad_values(item)
    elif not _is_scalar(value):
        raise ValueError


def _is_scalar(value: object) -> bool:
    if isinstance(value, str):
        if not value.isascii():
            value.encode()  # raises UnicodeEncodeError, a ValueError, for a lone surrogate
        return "\0" not in value
    if isinstance(value, int):
        return -(2**63) <= value < 2**64
    return isfinite(value) if isinstance(value, float) else value is None


# The token and its header

MAX_TOKEN: Final = 8192
"""Bytes of a whole token."""
SHORT_HEADER: Final = 256
"""Bytes of a header that is parsed strictly before the signature is verified; a longer one could cost too much."""
MAX_PUNCTUATION: Final = 256
"""Commas, brackets and backslashes in any header. They limit the work of reading it."""
_NOT_PUNCTUATION: Final = bytes(octet for octet in range(256) if octet not in b",[{\\")
_KID: Final = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,128}")
"""The characters of URLs and of both base64 alphabets. A ``kid`` is only ever used as a dictionary key."""


class _Header(msgspec.Struct, frozen=True, gc=False):
    """The members of a header that are read (RFC 7515 section 4.1; RFC 7797 section 3)."""

    alg: str
    typ: str = ""
    kid: str | msgspec.UnsetType = msgspec.UNSET
    crit: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    b64: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode_header: Final = msgspec.json.Decoder(_Header).decode


def split(token: bytes) -> tuple[bytes, bytes, bytes]:
    """Split a compact serialisation (RFC 7515 section 3.1): header and payload still encoded, the signature decoded.

    Raises:
        Refusal: ``token_oversize``, or ``token_malformed`` if there are not three parts, or the payload or signature
            is not canonical base64url. :func:`parse_header` checks the header.
    """
    if len(token) > MAX_TOKEN:
        raise Refusal(Reason.TOKEN_OVERSIZE)  # before anything reads it
    header, _, rest = token.partition(b".")
    payload, dot, signature = rest.partition(b".")
    if not dot or not is_base64url(payload):
        raise Refusal(Reason.TOKEN_MALFORMED)
    return header, payload, from_base64url(signature)


def parse_header(header: bytes, *, signed: bool = False) -> tuple[str, str | None, str]:
    """Read ``alg``, ``kid`` and ``typ``. ``jku``, ``jwk``, ``x5u`` and ``x5c`` are ignored (RFC 8725 section 3.10).

    Args:
        header: Still encoded.
        signed: The signature is valid, so a long header is parsed strictly too. Before that, msgspec skips the members
            that are not needed; they cost next to nothing, whatever they hold.

    Raises:
        Refusal: ``token_malformed``.
    """
    octets = from_base64url(header)
    if len(octets.translate(None, _NOT_PUNCTUATION)) > MAX_PUNCTUATION:
        raise Refusal(Reason.TOKEN_MALFORMED)
    if signed or len(octets) <= SHORT_HEADER:
        parse_object(octets, Reason.TOKEN_MALFORMED)  # the decoder below ignores duplicates and depth
    try:
        members = _decode_header(octets)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        raise Refusal(Reason.TOKEN_MALFORMED) from None
    kid = None if members.kid is msgspec.UNSET else members.kid
    if not (kid is None or is_kid(kid)) or members.crit is not msgspec.UNSET or members.b64 is not msgspec.UNSET:
        raise Refusal(Reason.TOKEN_MALFORMED)
    return members.alg, kid, members.typ


def is_kid(value: object) -> bool:
    """True if the value may name a key (RFC 7515 section 4.1.4): 1 to 128 safe characters."""
    return isinstance(value, str) and _KID.fullmatch(value) is not None


def parse_payload(payload: bytes) -> dict[str, Any]:
    """Decode and parse the payload of a token whose signature holds.

    Raises:
        Refusal: ``claims_invalid`` unless it is a strict JSON object, ``token_malformed`` unless it is base64url.
    """
    return parse_object(from_base64url(payload), Reason.CLAIMS_INVALID)


new_sha256: Final = sha256().copy
"""Returns a new SHA-256. A copy is 1 µs cheaper than ``sha256()``, for which OpenSSL looks the algorithm up."""


def digest(token: bytes) -> bytes:
    """The SHA-256 of the whole token: the key of every cache."""
    sha = new_sha256()
    sha.update(token)
    return sha.digest()


def id_of_signed(token: bytes) -> str:
    """The id under which a foreign token is revoked: half the digest of its signing input, written as a UUID.

    The signature does not count: of an ECDSA signature anybody can make a second one that holds.
    """
    return _uuid_of(token.rpartition(b".")[0])


def id_of_session(subject: str, auth_time: float) -> str:
    """The id under which an own token without ``sid`` is revoked: no reissue changes what it is made of."""
    return _uuid_of(f"{float(auth_time)!r} {subject}".encode())


def _uuid_of(octets: bytes) -> str:
    return str(UUID(bytes=digest(octets)[:16]))
