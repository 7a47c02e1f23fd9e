"""The path of one request, from a raw token to a session: each step is named after its module.

``run`` is every request but a plain hit. It leaves one :class:`Outcome` behind, unless the token is a plain one of
which only the session had to be asked for (see ``remembered``).
"""

from __future__ import annotations

import math
from typing import Final, Generic
from uuid import UUID

from . import names
from .activity import Activity
from .decisions import UNKNOWN, Decisions, Trail
from .due import Dues
from .errors import Reason, Refusal
from .fallback import Filled, Filler
from .migration import Migration
from .ports import Clock, KeySource, Observer
from .remembered import Remembered, since
from .revocation import STALE, RevocationView
from .schema import SessionSchema
from .seen import LONGEST, digest
from .tallies import Tallies
from .tokens import Tokens, Unsigned
from .types import Outcome, RawToken, S, SessionKey, SignedClaims, TokenInfo, VerifiedToken

ADOPTION_RULES: Final = ("cookie", "key", "iat", "lifetime", "sid")
_WORTH_A_FETCH: Final = (Reason.KEY_UNKNOWN, Reason.KEYS_UNAVAILABLE)


class Pipeline(Generic[S]):
    """The steps, in their order. Raises no :class:`Refusal`: a request it turns away is an Outcome too."""

    def __init__(
        self,
        *,
        schema: SessionSchema[S],
        tokens: Tokens,
        keys: KeySource,
        revocation: RevocationView | None,
        activity: Activity | None,
        filler: Filler,
        dues: Dues,
        migration: Migration,
        observer: Observer,
        tallies: Tallies,
        clock: Clock,
        known: Remembered[S],
    ) -> None:
        self._schema: Final = schema
        self._tokens: Final = tokens
        self._keys: Final = keys
        self._revocation: Final = revocation
        self._activity: Final = activity
        self._filler: Final = filler
        self._dues: Final = dues
        self._migration: Final = migration
        self._clock: Final = clock
        self._cells: Final = tallies.cells
        self._decisions: Final = Decisions(schema, tallies, observer)
        self._adoptions: Final = {rule: tallies.cell(names.ADOPTIONS, {names.RULE: rule}) for rule in ADOPTION_RULES}
        self.known: Final = known

    async def run(self, raw: RawToken, key: bytes, *, optional: bool = False) -> Outcome[S] | tuple[S, TokenInfo]:
        """Everything that is not a plain hit; what became one, since the store was asked, is returned as one.

        Args:
            raw: The token.
            key: Its digest.
            optional: A bad cookie makes an anonymous request.
        """
        trail, generation = Trail(raw.carrier), self.known.generation
        said = None if raw.adopted else await self.known.again(key)
        if isinstance(said, tuple):
            return said
        try:
            token = await self.verify(raw, key, trail)
            payload = self._schema.upgrade(token.claims, token.payload_version)
            trail.subject = payload.subject
            if isinstance(said, Refusal):
                raise said
            checked = await self._still_active(token, payload.subject, key) if said is None else said
            trail.stale = checked == STALE
            filled = await self._filler.fill(payload)
            trail.fallback = filled.fallback
            filled.refuse()
            frozen = self._schema.freeze(filled.claims)
            session, info = self._schema.thaw(frozen), _info(token, filled)
        except Refusal as refusal:
            trail.claim = refusal.claim
            return self.refuse(refusal.reason, trail, optional=optional)
        self._remember(key, token, frozen, info, trail, checked, generation)
        for rule in token.adopted:
            self._cells[self._adoptions[rule]] += 1
        if self._activity is not None:
            self._activity.note(token.session_id or adopted_session_id(key))
        trail.due = self._dues.of(raw, token, payload, filled)
        return self._decisions.accept(trail, session, info)

    async def verify(self, raw: RawToken, key: bytes, trail: Trail | None = None) -> VerifiedToken:
        """The token alone: known from before, or through ``tokens``.

        Raises:
            Refusal: As ``tokens`` says.
        """
        trail = trail or Trail()
        known = None if raw.adopted else self.known.verified(key)
        if known is None:
            signed = await self._open(raw.value)
            trail.key_id, trail.label = signed.key_id, UNKNOWN
            version = self._schema.version_of(signed.claims)
            trail.label = self._schema.label(version)
            known = self._tokens.check(signed, payload_version=version, adopted_cookie=raw.adopted)
            self._migration.saw(version, known.issued_at, known.expires_at)
        trail.key_id, trail.label, trail.auth_time = (
            known.key_id,
            self._schema.label(known.payload_version),
            known.auth_time,
        )
        if known.payload_version < self._schema.version:
            trail.minted = self._migration.minted(known.payload_version, known.issued_at)
        if known.issued_at is not None:
            trail.age = self._clock.now() - known.issued_at
        return known

    async def check(self, raw: RawToken, *, fresh: bool = False) -> float:
        """Whether a token and its session still stand; counts no request. ``fresh``: the store is asked now.

        Returns:
            The last moment the token is accepted, in seconds since the epoch.

        Raises:
            Refusal: They do not.
        """
        key = digest(raw.value)
        token = await self.verify(raw, key)
        payload = self._schema.upgrade(token.claims, token.payload_version)
        await self._still_active(token, payload.subject, key, fresh=fresh)
        return token.valid_until

    def refuse(self, reason: Reason, trail: Trail | None = None, *, optional: bool = False) -> Outcome[S]:
        """Count and report a request without a session: turned away, or anonymous where that is allowed."""
        return self._decisions.refuse(trail or Trail(), reason, optional=optional)

    async def _open(self, token: bytes) -> SignedClaims:
        try:
            return self._tokens.open(token)
        except Unsigned as refusal:
            if refusal.reason not in _WORTH_A_FETCH or not await self._keys.refresh(refusal.kid):
                raise
        return self._tokens.open(token)

    async def _still_active(self, token: VerifiedToken, subject: str, key: bytes, *, fresh: bool = False) -> float:
        """The monotonic moment until which the session is known to be active."""
        if self._revocation is None:
            return math.inf
        asked = SessionKey(session_id=token.session_id or adopted_session_id(key), user_id=subject)
        listed = token.session_id is not None
        return await self._revocation.ask(asked, since(token.auth_time), listed=listed, fresh=fresh)

    def _remember(
        self,
        key: bytes,
        token: VerifiedToken,
        frozen: bytes,
        info: TokenInfo,
        trail: Trail,
        checked: float,
        generation: int,
    ) -> None:
        """Nothing about a plain token needs to be reported again; of another only the verification is spared."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        ends = min(monotonic + min(token.valid_until - now, LONGEST), self._keys.usable_until)
        renewed = monotonic + self._dues.renewed_from(token) - now
        if trail.minted is None and trail.fallback is None and not token.adopted and renewed > monotonic:
            cell, ends = self._decisions.cell(trail), min(ends, renewed)
            self.known.put(key, token, frozen, info, cell, checked=checked, ends=ends, generation=generation)
        elif "cookie" not in token.adopted:
            self.known.put_verified(key, token, ends=ends, generation=generation)


def adopted_session_id(key: bytes) -> str:
    """The id under which a token without ``sid`` is revoked: half of its digest, spelled as a UUID."""
    return str(UUID(bytes=key[:16]))


def _info(token: VerifiedToken, filled: Filled) -> TokenInfo:
    return TokenInfo(
        version=token.payload_version,
        iat=token.issued_at,
        exp=token.expires_at,
        session_id=token.session_id,
        filled=filled.fallback.claims if filled.fallback is not None else (),
    )
