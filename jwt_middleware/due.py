"""Which token is due for a newer one, and from when on: decided without I/O, carried out in ``reissuing``.

A reissue brings an older payload to the shape that is minted, and changes no time. A renewal slides the end of a
session that is in use. What must never be reissued is decided here, as far as the token says it; what the response
says is ``carrying``'s business, what the store says ``reissuing``'s.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any, Final

from .errors import ConfigError
from .fallback import Filled
from .ports import Clock
from .schema import SessionSchema, Upgraded
from .types import Carrier, Due, FillOutcome, RawToken, VerifiedToken


class Dues:
    """Decides what is due.

    Args:
        window: The life of a token.
        reissue: Older payloads get a newer cookie.
        renew_within: What is left of a token's life when it is renewed; None: never.
        max_session_age: How long after the log-in a renewed token may live.
        can_sign: There is a key that signs.
        has_store: There is a table of sessions.

    Raises:
        ConfigError: Settings that cannot work.
    """

    def __init__(
        self,
        schema: SessionSchema[Any],
        *,
        clock: Clock,
        window: timedelta,
        reissue: bool,
        renew_within: timedelta | None,
        max_session_age: timedelta,
        can_sign: bool,
        has_store: bool,
    ) -> None:
        if (reissue or renew_within is not None) and not can_sign:
            raise ConfigError("reissue and renew_within mint tokens: put a secret or a private key first in the ring")
        if renew_within is not None:
            if not has_store:
                raise ConfigError(
                    "renew_within needs a store, or nobody could end a session: SessionAuthority(store=…)"
                )
            if not timedelta(0) < renew_within < window:
                raise ConfigError("renew_within must be positive and shorter than window: a third of it is usual")
            if max_session_age <= window:
                raise ConfigError("max_session_age must be longer than window, or there is nothing to renew")
        self._schema: Final = schema
        self._now: Final = clock.now
        self._window: Final = int(window.total_seconds())
        self._reissue: Final = reissue
        self._renew_within: Final = None if renew_within is None else renew_within.total_seconds()
        self._max_age: Final = max_session_age.total_seconds()

    def renewed_from(self, token: VerifiedToken) -> float:
        """The moment from which a token is due for renewal, in seconds since the epoch; infinite where it never is."""
        if self._renew_within is None or not self._ours(token) or self._latest(token) <= token.expires_at:
            return math.inf
        return token.expires_at - self._renew_within

    def of(self, raw: RawToken, token: VerifiedToken, payload: Upgraded, filled: Filled) -> Due | None:
        """What an accepted request's token is due for, if anything."""
        if not self._ours(token) or raw.carrier is not Carrier.COOKIE or not _resolved(filled):
            return None
        now = self._now()
        if now >= self.renewed_from(token):
            # never earlier than before: a log-in's auth_time may lie ahead of this machine's clock
            issued_at = max(int(now), token.issued_at or 0)
            expires_at = min(int(now) + self._window, self._latest(token))
            return Due(
                trigger="renew",
                token=token,
                subject=payload.subject,
                claims=payload.claims,
                times={"iat": issued_at, "exp": expires_at},
            )
        if self._reissue and self._outdated(token, filled):
            return Due(trigger="reissue", token=token, subject=payload.subject, claims=filled.claims)
        return None

    def _ours(self, token: VerifiedToken) -> bool:
        """Minted by this package with a key of full length, and in no newer shape than is minted here."""
        return (
            token.session_id is not None
            and "key" not in token.adopted  # with a sid, that is a key of allow_short
            and token.payload_version <= self._schema.mints
        )

    def _outdated(self, token: VerifiedToken, filled: Filled) -> bool:
        """Minting it again brings it further: not where an older shape is minted on purpose, or it never ended."""
        if token.payload_version < self._schema.mints:
            return True
        return self._schema.mints == self._schema.version and filled.fallback is not None

    def _latest(self, token: VerifiedToken) -> int:
        return int((token.auth_time or 0) + self._max_age)


def _resolved(filled: Filled) -> bool:
    """No default stands in for a lookup that found nothing."""
    return filled.fallback is None or filled.fallback.outcome is FillOutcome.RESOLVED
