"""One tree of errors, and the closed set of reasons for which a request is refused.

A message never holds a token, a claim value or the text of a vendor's exception, because errors end in logs.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Final


class JWTMiddlewareError(Exception):
    """The root of all errors that this package raises on purpose."""


class ConfigError(JWTMiddlewareError, ValueError):
    """A setting that cannot work, found at construction; the message says what is wrong, what it got, and the fix."""


def refuse_numbers(**lengths: object) -> None:
    """Find lengths of time that are not a timedelta: a number does not say its unit.

    Raises:
        ConfigError: It names the first one.
    """
    for name, length in lengths.items():
        if not isinstance(length, timedelta):
            raise ConfigError(
                f"{name} must be a timedelta, got {type(length).__name__}; use timedelta(seconds=…), timedelta(days=…)"
            )


class MintError(JWTMiddlewareError, ValueError):
    """A session that cannot become a token: an empty claim without default, a secret, a cookie that is too large."""


class Unavailable(JWTMiddlewareError):
    """A source, a store or a key endpoint could not answer; the text of the vendor's exception is left out."""


def class_of(error: BaseException) -> str:
    """The full name of an exception's class (OpenTelemetry ``error.type``); of the cause of an ``Unavailable``."""
    if isinstance(error, Unavailable) and error.__context__ is not None:
        error = error.__context__
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


class SessionNotEnded(Unavailable):
    """The store could not revoke the session: its cookies are cleared, but the token lives on until it expires."""

    def __init__(self, set_cookie: Sequence[str]) -> None:
        super().__init__("the session store could not revoke the session")
        self.set_cookie: Final = tuple(set_cookie)
        """The Set-Cookie values that clear the cookies, for callers of :meth:`SessionAuthority.end_token`."""


class Reason(StrEnum):
    """Why a request was refused: the ``error.type`` of metrics, the ``reason`` of events; never sent to a client.

    ``status`` is the HTTP status: 401 ask for a new token, 403 never from this origin, 503 try again.
    ``verified`` says whether the signature had been checked when this reason can arise (then the payload's version
    is known and counted with it).
    """

    status: int
    verified: bool

    def __new__(cls, value: str, status: int, verified: bool) -> Reason:
        member = str.__new__(cls, value)
        member._value_ = value
        member.status = status
        member.verified = verified
        return member

    TOKEN_MISSING = "token_missing", 401, False
    TOKEN_AMBIGUOUS = "token_ambiguous", 401, False
    TOKEN_OVERSIZE = "token_oversize", 401, False
    TOKEN_MALFORMED = "token_malformed", 401, False
    KEY_UNKNOWN = "key_unknown", 401, False
    ALGORITHM_MISMATCH = "algorithm_mismatch", 401, False
    SIGNATURE_INVALID = "signature_invalid", 401, False
    CLAIMS_INVALID = "claims_invalid", 401, True
    TOKEN_EXPIRED = "token_expired", 401, True
    TOKEN_NOT_YET_VALID = "token_not_yet_valid", 401, True
    ISSUER_MISMATCH = "issuer_mismatch", 401, True
    AUDIENCE_MISMATCH = "audience_mismatch", 401, True
    LIFETIME_EXCEEDED = "lifetime_exceeded", 401, True
    TOKEN_FOREIGN = "token_foreign", 401, True
    PAYLOAD_NEWER = "payload_newer", 401, True
    PAYLOAD_TOO_OLD = "payload_too_old", 401, True
    PAYLOAD_INVALID = "payload_invalid", 401, True
    CLAIMS_INCOMPLETE = "claims_incomplete", 401, True
    SUBJECT_UNKNOWN = "subject_unknown", 401, True
    SESSION_UNKNOWN = "session_unknown", 401, True
    SESSION_REVOKED = "session_revoked", 401, True
    CROSS_SITE = "cross_site", 403, False
    CLAIMS_UNAVAILABLE = "claims_unavailable", 503, True
    SESSIONS_UNAVAILABLE = "sessions_unavailable", 503, True
    KEYS_UNAVAILABLE = "keys_unavailable", 503, False


RETRY_AFTER: Final = 1
"""The ``Retry-After`` of a 503, in seconds (RFC 9110 section 10.2.3)."""


class Refusal(JWTMiddlewareError):
    """A refused request, for one :class:`Reason`; raised ``from None`` and without any other text."""

    def __init__(self, reason: Reason, *, claim: str | None = None) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.claim = claim
        """Wire name of the claim it is about, if there is one; never its value."""
