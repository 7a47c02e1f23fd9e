"""Passwords are stored as scrypt hashes (RFC 7914), with a lower cost than in production."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

_COST: Final = {"n": 2**10, "r": 8, "p": 1}
"""A few milliseconds. In production: n=2**17."""
LONGEST: Final = 256


def hashed(password: str) -> str:
    """The stored form: ``salt:digest`` in hexadecimal."""
    salt = secrets.token_bytes(16)
    return f"{salt.hex()}:{_digest(password, salt).hex()}"


def matches(password: str, stored: str | None) -> bool:
    """Whether the password is the stored one; takes as long if there is no such user (None)."""
    salt, _, digest = (stored or _NO_USER).partition(":")
    computed = _digest(password, bytes.fromhex(salt))
    return hmac.compare_digest(computed, bytes.fromhex(digest)) and stored is not None


def _digest(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, **_COST)


_NO_USER: Final = hashed(secrets.token_urlsafe())
