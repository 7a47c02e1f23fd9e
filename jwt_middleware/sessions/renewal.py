"""A newer token for a session that is due for one: checked, minted, written to its row, all as the response starts.

Whatever goes wrong, the response goes out without a cookie and the next one tries again: the token that came is good.
"""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final, Generic
from weakref import WeakKeyDictionary

from .. import names
from ..counters import Counters
from ..errors import ConfigError, MintError, Refusal, Unavailable
from ..payload.fallback import Filled, Filler
from ..payload.fields import ENVELOPE
from ..payload.schema import SessionSchema, Upgraded
from ..protocols import Clock, SessionStore
from ..types import Carrier, FillOutcome, RawToken, RenewalDue, S, SessionKey, VerifiedToken, moment
from .checker import SessionChecker
from .issuing import Minter


class RenewalPolicy:
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

    def of(self, raw: RawToken, token: VerifiedToken, payload: Upgraded, filled: Filled) -> RenewalDue | None:
        """What an accepted request's token is due for, if anything."""
        if not self._ours(token) or raw.carrier is not Carrier.COOKIE or not _resolved(filled):
            return None
        now = self._now()
        if now >= self.renewed_from(token):
            # never earlier than before: a log-in's auth_time may lie ahead of this machine's clock
            issued_at = max(int(now), token.issued_at or 0)
            expires_at = min(int(now) + self._window, self._latest(token))
            return RenewalDue(
                trigger="renew",
                token=token,
                subject=payload.subject,
                claims=payload.claims,
                times={"iat": issued_at, "exp": expires_at},
            )
        if self._reissue and self._outdated(token, filled):
            return RenewalDue(trigger="reissue", token=token, subject=payload.subject, claims=filled.claims)
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


AT_ONCE: Final = 2
"""Rows updated at once in one event loop: a release moment must not take the app's connections."""


class Renewer(Generic[S]):
    """Makes the cookie for what is due.

    Args:
        triggers: What is configured: ``reissue``, ``renew``.
        patience: Seconds that a response waits for its cookie.
    """

    def __init__(
        self,
        *,
        schema: SessionSchema[S],
        minter: Minter[S],
        filler: Filler,
        revocation: SessionChecker | None,
        store: SessionStore | None,
        triggers: tuple[str, ...],
        patience: float,
        counters: Counters,
        clock: Clock,
    ) -> None:
        self._schema: Final = schema
        self._known: Final = frozenset({schema.version_claim, *(spec.name for spec in schema.claims)})
        self._minter: Final = minter
        self._filler: Final = filler
        self._revocation: Final = revocation
        self._store: Final = store
        self._patience: Final = patience
        self._clock: Final = clock
        self._counts: Final = counters.counts
        self._issued: Final = {
            trigger: counters.counter(
                names.TOKENS_ISSUED, {names.PAYLOAD_VERSION: schema.mints, names.TRIGGER: trigger}
            )
            for trigger in triggers
        }
        self._busy: Final[set[str | None]] = set()
        self._places: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]] = WeakKeyDictionary()

    async def set_cookie(self, due: RenewalDue) -> str | None:
        """The Set-Cookie value; None where it may not or cannot be made, or is being made for another response."""
        session_id = due.token.session_id
        if session_id in self._busy:
            return None
        self._busy.add(session_id)
        try:
            async with asyncio.timeout(self._patience):
                return await self._made(due)
        except (Refusal, Unavailable, MintError, TimeoutError):
            return None
        finally:
            self._busy.discard(session_id)

    async def _made(self, due: RenewalDue) -> str | None:
        token = due.token
        if self._revocation is not None:
            asked = SessionKey(session_id=token.session_id, user_id=due.subject)
            await self._revocation.check(asked, token.auth_time or 0.0, listed=True, fresh=True)
        claims = due.claims
        if due.trigger == "renew":
            claims = await self._filler.fetch_fresh(claims, subject=due.subject)
        envelope = {name: token.claims[name] for name in ENVELOPE if name in token.claims} | due.times
        signed, set_cookie = self._minter.again({**self._session_claims(due, claims), **envelope})
        if not await self._written(due, sha256(signed.encode("ascii")).hexdigest(), envelope["exp"]):
            return None
        self._counts[self._issued[due.trigger]] += 1
        self._minter.saw(envelope["iat"], envelope["exp"])
        return set_cookie

    def _session_claims(self, due: RenewalDue, claims: dict[str, Any]) -> dict[str, Any]:
        """What a log-in of this session would mint, and what the schema does not know."""
        subject, minted = self._schema.mint(self._schema.thaw(self._schema.freeze(claims)))
        if subject != due.subject:
            raise MintError("the session class changes its subject: the token would be of another user")
        return {**{name: value for name, value in claims.items() if name not in self._known}, **minted}

    async def _written(self, due: RenewalDue, digest: str, expires_at: float) -> bool:
        """Whether the session is still active at the moment in which its row learns of the token."""
        if self._store is None:
            return True
        async with self._places.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE)):
            return await self._store.replace_token(
                due.token.session_id or "",
                user_id=due.subject,
                session_token=digest,
                expires_at=moment(expires_at) if due.trigger == "renew" else None,
            )
