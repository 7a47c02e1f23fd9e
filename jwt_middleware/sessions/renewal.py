"""A newer token for a session: when it is due, and how the start of a response gets it.

A *reissue* replaces an older payload by today's and changes nothing else. A *renewal* also moves ``exp``. Whatever goes
wrong, the response leaves without a new cookie, the token that came stays valid, and the next response tries again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final, Generic
from weakref import WeakKeyDictionary

from ..errors import ConfigError, MintError, Refusal, Unavailable
from ..lookup.cache import Cache
from ..payload.fallback import Filled, Filler
from ..payload.fields import ENVELOPE
from ..payload.schema import SessionSchema, Upgraded
from ..protocols import Clock, SessionStore
from ..types import Carrier, FillOutcome, RawToken, RenewalDue, S, SessionKey, VerifiedToken, moment
from .checker import SessionChecker
from .issuing import Minter

ENDED_FOR: Final = 60.0
"""Seconds for which a session that ended in this process gets no newer cookie."""
MAX_ENDED: Final = 10_000
MAX_WRITES: Final = 2
"""Rows written at once in one event loop: the moment of a release must not take the app's connections."""


class RenewalPolicy:
    """Decides which tokens are due for reissue or renewal.

    Args:
        window: The life of a token.
        reissue: Older payloads are reissued.
        renew_within: What is left of a token's life when it is renewed; None: never.
        max_session_age: How long after the log-in a renewed token may live.
        can_sign: A key of the ring signs.
        has_store: The authority has a store.

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
                raise ConfigError("renew_within needs a store, or no session could be ended: SessionAuthority(store=…)")
            if not timedelta(0) < renew_within < window:
                raise ConfigError(
                    f"renew_within must be positive and shorter than window, got {renew_within!r}; a third is usual"
                )
            if max_session_age <= window:
                raise ConfigError(
                    f"max_session_age must be longer than window, got {max_session_age!r}; else nothing is ever renewed"
                )
        self.enabled: Final = reissue or renew_within is not None
        """False: no token is ever due."""
        self._schema: Final = schema
        self._now: Final = clock.now
        self._window: Final = int(window.total_seconds())
        self._reissue: Final = reissue
        self._renew_within: Final = None if renew_within is None else renew_within.total_seconds()
        self._max_age: Final = max_session_age.total_seconds()

    def renewed_from(self, token: VerifiedToken) -> float:
        """The moment from which the token is due for renewal, in seconds since the epoch; infinite for never.

        A token without ``sid`` is never due: its session has no row.
        """
        if self._renew_within is None or not self._may_replace(token) or token.session_id is None:
            return math.inf
        if self._latest_end(token) <= token.expires_at:
            return math.inf
        return token.expires_at - self._renew_within

    def due(
        self, raw: RawToken, token: VerifiedToken, key: SessionKey, payload: Upgraded, filled: Filled
    ) -> RenewalDue | None:
        """What the token of an accepted request is due for, if anything; ``key`` is its session."""
        if not self._may_replace(token) or raw.carrier is not Carrier.COOKIE or not _is_resolved(filled):
            return None
        now = self._now()
        if now >= self.renewed_from(token):
            # never earlier than it was: the auth_time of a log-in may be ahead of this machine's clock
            issued_at = max(int(now), token.issued_at or 0)
            expires_at = min(int(now) + self._window, self._latest_end(token))
            return RenewalDue(
                trigger="renew",
                token=token,
                key=key,
                claims=payload.claims,
                times={"iat": issued_at, "exp": expires_at},
            )
        if self._reissue and self._is_outdated(token, filled) and not _loses_its_id(token, key):
            return RenewalDue(trigger="reissue", token=token, key=key, claims=filled.claims)
        return None

    def _may_replace(self, token: VerifiedToken) -> bool:
        """An own token from a safe place, and in no newer shape than is minted here."""
        return token.replaceable and token.payload_version <= self._schema.mints

    def _is_outdated(self, token: VerifiedToken, filled: Filled) -> bool:
        """A reissue would change the payload: not where an older shape is minted on purpose, or it would never end."""
        if token.payload_version < self._schema.mints:
            return True
        return self._schema.mints == self._schema.version and filled.fallback is not None

    def _latest_end(self, token: VerifiedToken) -> int:
        return int((token.auth_time or 0) + self._max_age)


def _loses_its_id(token: VerifiedToken, key: SessionKey) -> bool:
    """Without ``sid`` a session is known by its subject: a step that changes it must not change the id."""
    return token.session_id is None and key.token_user_id is not None


def _is_resolved(filled: Filled) -> bool:
    """No default stands in for a lookup that failed."""
    return filled.fallback is None or filled.fallback.outcome is FillOutcome.RESOLVED


@dataclass(frozen=True, kw_only=True, repr=False)
class Renewer(Generic[S]):
    """Makes the cookie for what is due: checks the session, mints the token, writes its row."""

    schema: SessionSchema[S]
    minter: Minter[S]
    filler: Filler
    checker: SessionChecker | None
    store: SessionStore | None
    clock: Clock
    timeout: float
    """Seconds that a response waits for its cookie."""
    registered: Mapping[str, Any]
    """``iss`` and ``aud`` of a token that is minted today."""
    _renewing: set[str | None] = field(default_factory=set, init=False)
    """The sessions that some response makes a cookie for."""
    _ended: Cache[str | None, bool] = field(default_factory=lambda: Cache(MAX_ENDED), init=False)
    """The sessions that ended in this process a short while ago."""
    _writes: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = field(
        default_factory=WeakKeyDictionary, init=False
    )

    async def set_cookie(self, due: RenewalDue) -> str | None:
        """The Set-Cookie value; None where it may not or cannot be made, or another response is making it."""
        session_id = due.key.session_id
        if session_id in self._renewing:
            return None
        self._renewing.add(session_id)
        try:
            async with asyncio.timeout(self.timeout):
                set_cookie = await self._make_cookie(due)
        except (Refusal, Unavailable, MintError, TimeoutError):
            return None
        finally:
            self._renewing.discard(session_id)
        return None if self._ended.get(session_id, self.clock.monotonic()) else set_cookie

    def session_ended(self, session_id: str) -> None:
        """No response that is on its way brings back the cookie of a session that the user just left."""
        self._ended.put(session_id, True, until=self.clock.monotonic() + ENDED_FOR)

    async def _make_cookie(self, due: RenewalDue) -> str | None:
        token, listed = due.token, due.token.session_id is not None
        if self.checker is not None:
            standing = await self.checker.check(due.key, token.began_at, listed=listed, fresh=True)
            if standing.reason is not None:
                return None
        claims = due.claims
        if due.trigger == "renew":
            claims = await self.filler.fetch_fresh(claims, subject=due.key.user_id)
        minted, envelope = self._session_claims(due, claims), self._envelope(due)
        signed, set_cookie = self.minter.mint_again(
            {**minted, **envelope}, typ=token.typ if due.trigger == "reissue" else None
        )
        if listed and not await self._write(due, minted, signed, envelope["exp"]):
            return None
        self.minter.count(due.trigger, envelope["iat"], envelope["exp"])
        return set_cookie

    def _envelope(self, due: RenewalDue) -> dict[str, Any]:
        """A reissue keeps what surrounds the payload, so that it still meets the rules it met; a renewal is of today.

        With today's ``aud`` and yesterday's lifetime, it might meet no rules at all.
        """
        kept = {name: due.token.claims[name] for name in ENVELOPE if name in due.token.claims}
        if due.trigger == "reissue":
            return kept
        return {name: kept[name] for name in kept.keys() - {"iss", "aud"}} | {**self.registered} | due.times

    def _session_claims(self, due: RenewalDue, claims: dict[str, Any]) -> dict[str, Any]:
        """What a log-in of this session would mint, and the claims of the token that the schema does not know."""
        subject, minted = self.schema.mint(self.schema.assemble(claims)[1])
        if subject != due.key.user_id:
            raise MintError("the session class changes its subject: the token would be another user's")
        specified = {self.schema.version_claim, due.token.version_claim, *(spec.name for spec in self.schema.claims)}
        unknown = {name: claims[name] for name in due.token.claims if name in claims and name not in specified}
        if due.trigger == "reissue" and due.token.version_claim is not None:  # the line that admits it reads that one
            minted[due.token.version_claim] = minted.pop(self.schema.version_claim)
        return {**unknown, **minted}

    async def _write(self, due: RenewalDue, minted: Mapping[str, Any], token: str, expires_at: float) -> bool:
        """Store the new token's digest; False if the session is not active at that moment."""
        if self.store is None:
            return True
        async with self._writes.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(MAX_WRITES)):
            return await self.store.replace_token(
                due.key,
                user_id=self.schema.own_subject(minted) or due.key.user_id,
                session_token=sha256(token.encode("ascii")).hexdigest(),
                expires_at=moment(expires_at) if due.trigger == "renew" else None,
            )
