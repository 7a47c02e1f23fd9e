"""What one claim of the session class is: its wire name, its type, its default, the version it came with."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from ..errors import ConfigError, Reason, Refusal

NO_DEFAULT: Final = object()

ENVELOPE: Final = frozenset({"iat", "exp", "nbf", "iss", "aud", "sid", "auth_time"})
"""Claims this package mints and checks itself (RFC 7519 section 4.1; ``sid``, ``auth_time``: OpenID Connect Core)."""

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Claim:
    """Says of an attribute how it stands in the payload: ``email: Annotated[str, Claim("mail", since=2)]``.

    Args:
        name: The wire name (RFC 7519 section 4); None means the class's own alias or rename, else the attribute's.
        since: The payload version that added the claim, an integer ≥ 1.

    Raises:
        ConfigError: The name is none.
    """

    name: str | None = None
    since: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        if self.name is not None and not isinstance(self.name, str):
            raise ConfigError(f"Claim({self.name!r}) is no name of a claim: did you mean Claim(since={self.name!r})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimSpec:
    """One claim of today's payload."""

    attribute: str
    name: str
    """Wire name."""
    since: int
    nullable: bool
    """Its type accepts None."""
    default: object = field(default=NO_DEFAULT, repr=False)
    """The default as it stands in JSON, or ``NO_DEFAULT``."""

    @property
    def has_default(self) -> bool:
        return self.default is not NO_DEFAULT

    def is_empty(self, value: object) -> bool:
        """Null where the type refuses None, or ``""`` unless that is the default: as good as absent."""
        return (value is None and not self.nullable) or (value == "" and self.default != "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """An attribute as the session class declares it, whatever kind of class that is."""

    attribute: str
    key: str
    """The name under which the class encodes it itself."""
    type: Any
    claim: Claim
    default: object = NO_DEFAULT
    """The default as a Python value, or ``NO_DEFAULT``."""


def subject_key(value: object) -> str:
    """The subject as text: what lookups and the session table are asked by.

    Raises:
        Refusal: ``claims_invalid`` unless it is an integer, or 1 to 255 characters without control characters.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and 0 < len(value) <= 255 and not _CONTROL.search(value):
        return value
    raise Refusal(Reason.CLAIMS_INVALID)
