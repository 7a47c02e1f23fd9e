r"""The strictness PyJWT does not have: one spelling for a token, and JSON that every parser reads alike.

What two parsers understand differently is what an attacker looks for (RFC 8725 sections 2.5 and 3.1). msgspec decodes:
it is fast and strict, but tolerates duplicate members. A payload that msgspec encodes back to the very same bytes has
none, since it encodes each member once; only what was written with other habits (spaces, ``\\u`` escapes) is read again
by a slower parser that looks for them.
"""

from __future__ import annotations

import json
import re
from binascii import a2b_base64, b2a_base64
from math import isfinite
from typing import Any, Final

import msgspec

from .errors import Reason, Refusal

MAX_TOKEN: Final = 8192
"""Bytes of a whole token."""
MAX_DEPTH: Final = 32
"""Nested objects and arrays, the outermost counted."""

_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_PADDING: Final = (b"", b"", b"==", b"=")
_LAST: Final = (_ALPHABET, b"", b"AQgw", b"AEIMQUYcgkosw048")
"""By length modulo 4, the characters a segment may end with: others carry bits that decode to nothing."""
_MARKS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_KID: Final = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,128}")
"""The characters of URLs and of both base64 alphabets; a ``kid`` is a dictionary key and nothing else."""
_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode


def split(token: bytes) -> tuple[bytes, bytes, bytes]:
    """The three segments of a compact serialisation (RFC 7515 section 3.1), still encoded and known to be canonical.

    Raises:
        Refusal: ``token_oversize``, or ``token_malformed`` for anything but three parts of unpadded base64url.
    """
    if len(token) > MAX_TOKEN:
        raise Refusal(Reason.TOKEN_OVERSIZE)
    if token.translate(None, _ALPHABET) != b"..":
        raise Refusal(Reason.TOKEN_MALFORMED)
    header, payload, signature = token.split(b".")
    if not (is_canonical(header) and is_canonical(payload) and is_canonical(signature)):
        raise Refusal(Reason.TOKEN_MALFORMED)
    return header, payload, signature


def is_canonical(segment: bytes) -> bool:
    """Whether base64url characters are the one spelling of what they decode to (RFC 4648 section 3.5)."""
    return segment[-1:] in _LAST[len(segment) & 3]


def from_base64url(segment: bytes) -> bytes:
    """Decode a segment that :func:`split` let through."""
    return a2b_base64(segment.translate(_TO_STANDARD) + _PADDING[len(segment) & 3])


def to_base64url(octets: bytes) -> bytes:
    """Encode without padding (RFC 7515 section 2)."""
    return b2a_base64(octets, newline=False).translate(_TO_URL).rstrip(b"=")


def is_base64url(text: bytes) -> bool:
    """Whether it is base64url, unpadded and canonical."""
    return not text.translate(None, _ALPHABET) and is_canonical(text)


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
        if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH:
            _check_depth(raw)
        value = _decode(raw)
        if type(value) is not dict:
            raise Refusal(reason)
        _check(value)
        if _encode(value) != raw:
            json.loads(raw, object_pairs_hook=_check_unique)
    except (ValueError, msgspec.MsgspecError):
        raise Refusal(reason) from None
    return value


def _check_depth(raw: bytes) -> None:
    """Before any parser recurses. Malformed text may count too deep: it is refused all the same."""
    depth = 0
    for mark in _MARKS.findall(raw):
        if mark in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError
        elif mark in b"]}":
            depth -= 1


def _check_unique(members: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in members}) != len(members):
        raise ValueError


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
