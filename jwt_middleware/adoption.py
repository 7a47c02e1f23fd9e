"""What is forgiven to tokens of before: each line is there to be deleted once its count stays at zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from .errors import ConfigError, refuse_numbers


def is_session(claims: Mapping[str, Any]) -> bool:
    """The default of ``Adoption.recognise``: neither a refresh, reset or ID token of the same secret."""
    return not ("purpose" in claims or "nonce" in claims) and all(
        claims.get(name, "session") in ("access", "session") for name in ("type", "token_type", "token_use")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """What is forgiven to tokens minted before this package came: to those without ``sid``, and to no others.

    Raises:
        ConfigError: A value that cannot work.
    """

    iat_required: bool = True
    accepted_lifetime: timedelta | None = None
    """Instead of the window."""
    sessions: Literal["refuse", "marks"] = "refuse"
    """With a store: whether a token without ``sid`` is refused, or revoked by marks alone."""
    recognise: Callable[[Mapping[str, Any]], bool] = is_session
    """Keeps other tokens of the same secret from becoming sessions; an exception means no."""

    def __post_init__(self) -> None:
        refuse_numbers(accepted_lifetime=timedelta(0) if self.accepted_lifetime is None else self.accepted_lifetime)
        if self.accepted_lifetime is not None and self.accepted_lifetime <= timedelta(0):
            raise ConfigError("accepted_lifetime must be positive: the life of the old tokens, as timedelta(days=30)")
        if self.sessions not in {"refuse", "marks"}:
            raise ConfigError("sessions says what a token without sid gets: use 'refuse' or 'marks'")
        if not callable(self.recognise):
            raise ConfigError("recognise must be a function from claims to bool")
