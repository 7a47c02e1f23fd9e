"""The path of one request, from a raw token to a session: each step is named after its module.

``run`` is every request but a plain hit. It leaves one :class:`Outcome` behind, unless the token is a plain one of
which only the session had to be asked for (see ``remembered``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Generic

from . import names
from .counters import Counters
from .errors import Reason, Refusal
from .payload.fallback import Filled, Filler
from .payload.migration import Migration
from .payload.schema import SessionSchema
from .protocols import Clock, KeySource, Observer
from .sessions.activity import LONGEST, Activity
from .sessions.checker import STALE, SessionChecker
from .sessions.renewal import RenewalPolicy
from .sessions.token_cache import TokenCache, since
from .tokens.jws import adopted_session_id, digest
from .tokens.jwt import ADOPTION_RULES, Tokens, Unsigned
from .types import (
    Carrier,
    Fallback,
    Minted,
    Outcome,
    RawToken,
    RenewalDue,
    Result,
    S,
    SessionKey,
    SignedClaims,
    TokenInfo,
    VerifiedToken,
)

UNKNOWN: Final = "unknown"
"""The payload version of a token whose signature holds and whose version claim cannot be read."""


@dataclass(slots=True)
class RequestFacts:
    """What is known of a request so far: whatever ends it, the Outcome says this much."""

    carrier: Carrier | None = None
    key_id: str | None = None
    label: str | None = None
    subject: str | None = None
    minted: Minted | None = None
    age: float | None = None
    auth_time: float | None = None
    fallback: Fallback | None = None
    stale: bool = False
    due: RenewalDue | None = None
    claim: str | None = None


class OutcomeRecorder(Generic[S]):
    """Ends requests; every cell of ``requests`` is zero from the start."""

    def __init__(self, schema: SessionSchema[S], counters: Counters, observer: Observer) -> None:
        self._expected: Final = schema.version
        self._counts: Final = counters.counts
        self._observer: Final = observer
        versions = [str(version) for version in range(1, schema.version + 1)] + ["newer"]
        older = set(versions[: schema.version - 1])
        shapes: list[tuple[str, Minted | None]] = [
            (version, minted)
            for version in versions
            for minted in (("before_change", "after_change", UNKNOWN) if version in older else (None,))
        ]

        def cell(**attributes: str | None) -> int:
            named = {_KEYS[key]: value for key, value in attributes.items() if value is not None}
            return counters.counter(names.REQUESTS, named)

        self._accepted: Final = {
            (version, minted): cell(result="accepted", version=version, minted=minted) for version, minted in shapes
        }
        self._refused: Final = {
            (reason, version): cell(result="refused", error=reason, version=version)
            for reason in Reason
            for version in ((*versions, UNKNOWN) if reason.verified else (None,))
        }
        self._anonymous: Final = cell(result="anonymous")

    def counter(self, facts: RequestFacts) -> int:
        """The cell of an accepted request: what a plain hit raises."""
        return self._accepted[facts.label or UNKNOWN, facts.minted]

    def accept(self, facts: RequestFacts, session: S, token: TokenInfo) -> Outcome[S]:
        return self._finish(facts, "accepted", self.counter(facts), session=session, token=token)

    def refuse(self, facts: RequestFacts, reason: Reason, *, optional: bool) -> Outcome[S]:
        """Turned away; or anonymous, where that is allowed and no Bearer token was shown."""
        if optional and facts.carrier is not Carrier.BEARER and reason.status == 401:
            return self._finish(facts, "anonymous", self._anonymous, reason=reason)
        version = (facts.label or UNKNOWN) if reason.verified else None
        return self._finish(facts, "refused", self._refused[reason, version], reason=reason)

    def _finish(
        self,
        facts: RequestFacts,
        result: Result,
        cell: int,
        *,
        reason: Reason | None = None,
        session: S | None = None,
        token: TokenInfo | None = None,
    ) -> Outcome[S]:
        self._counts[cell] += 1
        outcome = Outcome(
            result=result,
            reason=reason,
            session=session,
            token=token,
            subject=facts.subject,
            carrier=facts.carrier,
            key_id=facts.key_id,
            payload_version=facts.label,
            payload_expected=self._expected,
            minted=facts.minted,
            token_age=facts.age,
            fallback=facts.fallback,
            auth_time=facts.auth_time,
            stale=facts.stale,
            due=facts.due,
            claim=facts.claim,
        )
        self._observer.finished(outcome)
        return outcome


_KEYS: Final = {
    "result": names.RESULT,
    "error": names.ERROR_TYPE,
    "version": names.PAYLOAD_VERSION,
    "minted": names.MINTED,
}
_WORTH_A_FETCH: Final = (Reason.KEY_UNKNOWN, Reason.KEYS_UNAVAILABLE)


class Authenticator(Generic[S]):
    """The steps, in their order. Raises no :class:`Refusal`: a request it turns away is an Outcome too."""

    def __init__(
        self,
        *,
        schema: SessionSchema[S],
        tokens: Tokens,
        keys: KeySource,
        revocation: SessionChecker | None,
        activity: Activity | None,
        filler: Filler,
        dues: RenewalPolicy,
        migration: Migration,
        observer: Observer,
        counters: Counters,
        clock: Clock,
        known: TokenCache[S],
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
        self._counts: Final = counters.counts
        self._decisions: Final = OutcomeRecorder(schema, counters, observer)
        self._adoptions: Final = {
            rule: counters.counter(names.ADOPTIONS, {names.RULE: rule}) for rule in ADOPTION_RULES
        }
        self.known: Final = known

    async def run(self, raw: RawToken, key: bytes, *, optional: bool = False) -> Outcome[S] | tuple[S, TokenInfo]:
        """Everything that is not a plain hit; what became one, since the store was asked, is returned as one.

        Args:
            raw: The token.
            key: Its digest.
            optional: A bad cookie makes an anonymous request.
        """
        facts, generation = RequestFacts(raw.carrier), self.known.generation
        said = None if raw.adopted else await self.known.again(key)
        if isinstance(said, tuple):
            return said
        try:
            token = await self.verify(raw, key, facts)
            payload = self._schema.upgrade(token.claims, token.payload_version)
            facts.subject = payload.subject
            if isinstance(said, Refusal):
                raise said
            checked = await self._still_active(token, payload.subject, key) if said is None else said
            facts.stale = checked == STALE
            filled = await self._filler.fill(payload)
            facts.fallback = filled.fallback
            filled.refuse()
            frozen = self._schema.freeze(filled.claims)
            session, info = self._schema.thaw(frozen), _info(token, filled)
        except Refusal as refusal:
            facts.claim = refusal.claim
            return self.refuse(refusal.reason, facts, optional=optional)
        self._remember(key, token, frozen, info, facts, checked, generation)
        for rule in token.adopted:
            self._counts[self._adoptions[rule]] += 1
        if self._activity is not None:
            self._activity.note(token.session_id or adopted_session_id(key))
        facts.due = self._dues.of(raw, token, payload, filled)
        return self._decisions.accept(facts, session, info)

    async def verify(self, raw: RawToken, key: bytes, facts: RequestFacts | None = None) -> VerifiedToken:
        """The token alone: known from before, or through ``tokens``.

        Raises:
            Refusal: As ``tokens`` says.
        """
        facts = facts or RequestFacts()
        known = None if raw.adopted else self.known.verified(key)
        if known is None:
            signed = await self._open(raw.value)
            facts.key_id, facts.label = signed.key_id, UNKNOWN
            version = self._schema.version_of(signed.claims)
            facts.label = self._schema.label(version)
            known = self._tokens.check(signed, payload_version=version, adopted_cookie=raw.adopted)
            self._migration.saw(version, known.issued_at, known.expires_at)
        facts.key_id, facts.label, facts.auth_time = (
            known.key_id,
            self._schema.label(known.payload_version),
            known.auth_time,
        )
        if known.payload_version < self._schema.version:
            facts.minted = self._migration.minted(known.payload_version, known.issued_at)
        if known.issued_at is not None:
            facts.age = self._clock.now() - known.issued_at
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

    def refuse(self, reason: Reason, facts: RequestFacts | None = None, *, optional: bool = False) -> Outcome[S]:
        """Count and report a request without a session: turned away, or anonymous where that is allowed."""
        return self._decisions.refuse(facts or RequestFacts(), reason, optional=optional)

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
        facts: RequestFacts,
        checked: float,
        generation: int,
    ) -> None:
        """Nothing about a plain token needs to be reported again; of another only the verification is spared."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        ends = min(monotonic + min(token.valid_until - now, LONGEST), self._keys.usable_until)
        renewed = monotonic + self._dues.renewed_from(token) - now
        if facts.minted is None and facts.fallback is None and not token.adopted and renewed > monotonic:
            cell, ends = self._decisions.counter(facts), min(ends, renewed)
            self.known.put(key, token, frozen, info, cell, checked=checked, ends=ends, generation=generation)
        elif "cookie" not in token.adopted:
            self.known.put_verified(key, token, ends=ends, generation=generation)


def _info(token: VerifiedToken, filled: Filled) -> TokenInfo:
    return TokenInfo(
        version=token.payload_version,
        iat=token.issued_at,
        exp=token.expires_at,
        session_id=token.session_id,
        filled=filled.fallback.claims if filled.fallback is not None else (),
    )
