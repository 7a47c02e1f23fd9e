"""One request, from its token to its session: verify, active?, upgrade, fill, build, record.

:meth:`Authenticator._authenticate` holds the steps in their order, and each is named after the module that does it. A
cache hit ends before the first of them. Every other request leaves one :class:`Outcome`, which is counted and shown to
observers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, NamedTuple

from . import names
from .counters import Runtime
from .errors import Reason, Refusal
from .payload.fallback import Filled, Filler
from .payload.migration import Migration
from .payload.schema import UNKNOWN_VERSION, SessionSchema, Upgraded
from .protocols import KeySource
from .sessions.activity import LONGEST, Activity
from .sessions.checker import ALWAYS, SessionChecker, Standing
from .sessions.renewal import RenewalPolicy
from .sessions.token_cache import UNKNOWN, CurrentEntry, Hit, Revoked, TokenCache, Unchecked, Unknown, Verified
from .tokens.cookies import Unreadable
from .tokens.jws import digest, id_of_session, id_of_signed
from .tokens.jwt import Tokens, Unsigned
from .tokens.rules import AcceptedRules
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

_WORTH_A_FETCH: Final = (Reason.KEY_UNKNOWN, Reason.KEYS_UNAVAILABLE)
_UNNAMED: Final = SessionKey(session_id=None, user_id="")
"""Without a store and renewals a session needs no name."""
_SHORTEST_PAUSE: Final = 0.05
"""Seconds between two checks of an open websocket, at least."""


class Presented(NamedTuple):
    """The token of a request, digested and looked up in the token cache: each happens once a request."""

    raw: RawToken
    key: bytes
    """The digest of the token."""
    recalled: Unchecked[Any] | Revoked | Verified | Unknown
    """What the token cache holds for it."""
    generation: int
    """The generation of the token cache before it was looked up."""


@dataclass(slots=True)
class RequestFacts:
    """What is known of a request so far. Whatever ends the request, its Outcome says this much."""

    carrier: Carrier | None = None
    key_id: str | None = None
    version: str | None = None
    """The label of the payload version."""
    subject: str | None = None
    minted: Minted | None = None
    age: float | None = None
    auth_time: float | None = None
    fallback: Fallback | None = None
    stale: bool = False
    renewal: RenewalDue | None = None
    claim: str | None = None
    advice: str | None = None


class OutcomeRecorder(Generic[S]):
    """Ends requests: counts them, and shows each Outcome to the observers. Every counter starts at zero."""

    def __init__(self, schema: SessionSchema[S], runtime: Runtime) -> None:
        self._expected: Final = schema.version
        self._runtime: Final = runtime
        versions = [*(str(version) for version in range(1, schema.version + 1)), "newer"]
        self._accepted: Final = {
            (version, minted): self._counter("accepted", version=version, minted=minted)
            for place, version in enumerate(versions)
            for minted in (("before_change", "after_change", "unknown") if place < schema.version - 1 else (None,))
        }
        self._refused: Final = {
            (reason, version): self._counter("refused", reason=reason, version=version)
            for reason in Reason
            for version in ((*versions, UNKNOWN_VERSION) if reason.verified else (None,))
        }
        self._anonymous: Final = self._counter("anonymous")

    def accepted(self, facts: RequestFacts) -> int:
        """The counter of an accepted request: what a cache hit increments."""
        return self._accepted[facts.version or UNKNOWN_VERSION, facts.minted]

    def accept(self, facts: RequestFacts, session: S, token: TokenInfo) -> Outcome[S]:
        return self._record(facts, "accepted", self.accepted(facts), session=session, token=token)

    def refuse(self, facts: RequestFacts, reason: Reason, *, optional: bool = False) -> Outcome[S]:
        """Refused; or anonymous, where that is allowed and no Bearer token was presented."""
        if optional and facts.carrier is not Carrier.BEARER and reason.status == 401:
            return self._record(facts, "anonymous", self._anonymous, reason=reason)
        version = (facts.version or UNKNOWN_VERSION) if reason.verified else None
        return self._record(facts, "refused", self._refused[reason, version], reason=reason)

    def _record(
        self,
        facts: RequestFacts,
        result: Result,
        counter: int,
        *,
        reason: Reason | None = None,
        session: S | None = None,
        token: TokenInfo | None = None,
    ) -> Outcome[S]:
        self._runtime.counters.counts[counter] += 1
        outcome = Outcome(
            result=result,
            reason=reason,
            claim=facts.claim,
            session=session,
            token=token,
            subject=facts.subject,
            carrier=facts.carrier,
            key_id=facts.key_id,
            payload_version=facts.version,
            payload_expected=self._expected,
            minted=facts.minted,
            token_age=facts.age,
            fallback=facts.fallback,
            auth_time=facts.auth_time,
            stale=facts.stale,
            renewal=facts.renewal,
            advice=facts.advice,
        )
        self._runtime.observer.finished(outcome)
        return outcome

    def _counter(
        self, result: Result, *, reason: Reason | None = None, version: str | None = None, minted: Minted | None = None
    ) -> int:
        attributes = {
            names.RESULT: result,
            names.ERROR_TYPE: reason,
            names.PAYLOAD_VERSION: version,
            names.MINTED: minted,
        }
        given = {name: value for name, value in attributes.items() if value is not None}
        return self._runtime.counters.counter(names.REQUESTS, given)


class LineUse:
    """Counts what each line of ``also_accept`` admits, and when it last did. Every counter starts at zero."""

    def __init__(self, rules: AcceptedRules, runtime: Runtime, *, foreign_keys: bool) -> None:
        self._runtime: Final = runtime
        self._last_used: Final[dict[str, float]] = {}
        self._counters: Final = {
            (line.name, keyword): runtime.counters.counter(
                names.ADOPTIONS, {names.ENVELOPE: line.name, names.RULE: keyword}
            )
            for line in rules.lines
            for keyword in (*line.differs, *(["key"] if foreign_keys and line.kind == "foreign" else []))
        }
        for line in rules.lines:
            at = {names.ENVELOPE: line.name}
            runtime.counters.gauge(names.ENVELOPE_LAST_USED, partial(self._last_used.get, line.name), at)
            if line.ends_at != math.inf:
                runtime.counters.gauge(names.ENVELOPE_END, partial(float, line.ends_at), at)

    def count(self, token: VerifiedToken, line: str) -> None:
        """A request was accepted with a token that the line of this name admitted."""
        self._last_used[line] = self._runtime.clock.now()
        for keyword in token.needed:
            self._runtime.counters.counts[self._counters[line, keyword]] += 1


@dataclass(frozen=True, kw_only=True, repr=False)
class Authenticator(Generic[S]):
    """The steps, in their order. A refused request is an Outcome too; only :meth:`verify` and :meth:`check` raise."""

    schema: SessionSchema[S]
    tokens: Tokens
    keys: KeySource
    token_cache: TokenCache[S]
    checker: SessionChecker | None
    activity: Activity | None
    filler: Filler
    renewals: RenewalPolicy
    migration: Migration
    recorder: OutcomeRecorder[S]
    line_use: LineUse
    max_staleness: float
    """Seconds between two checks of an open websocket, at most."""
    runtime: Runtime

    def present(self, raw: RawToken) -> Hit[S] | Presented:
        """Digest the token and look it up in the token cache. Never suspends; a hit is counted, and needs no more.

        The cache does not count for a token in a cookie of another name than today's.
        """
        key, generation = digest(raw.value), self.token_cache.generation
        recalled = UNKNOWN if raw.cookie is not None else self.token_cache.recall(key)
        return recalled if isinstance(recalled, Hit) else Presented(raw, key, recalled, generation)

    async def decide(self, presented: Presented, *, optional: bool = False) -> Hit[S] | Outcome[S]:
        """Accept or refuse a request that is not a hit yet.

        Args:
            presented: Its token.
            optional: A bad cookie makes an anonymous request.
        """
        recalled, standing = presented.recalled, None
        if isinstance(recalled, Unchecked):
            standing = await self._check_session(recalled.session_key, recalled.entry.token.auth_time, listed=True)
            if standing.reason is None and not standing.stale:
                return self.token_cache.extend(recalled, standing)
        elif isinstance(recalled, Revoked):
            standing = recalled.standing
        facts = RequestFacts(presented.raw.carrier)
        try:
            return await self._authenticate(presented, facts, standing)
        except Refusal as refusal:
            facts.claim, facts.advice = refusal.claim, getattr(refusal, "advice", None)
            return self.recorder.refuse(facts, refusal.reason, optional=optional)

    async def _authenticate(self, presented: Presented, facts: RequestFacts, standing: Standing | None) -> Outcome[S]:
        """The steps, in their order; ``standing`` is that of the session, if it is known already.

        Raises:
            Refusal: A step refuses the request.
        """
        token = await self._verify(presented, facts)
        payload = self.schema.upgrade(token.claims, token.payload_version)
        facts.subject = payload.subject
        needs_key = self.checker is not None or self.renewals.enabled
        session_key = self.session_key(presented.raw, token, payload) if needs_key else _UNNAMED
        if standing is None:
            standing = await self._check_session(session_key, token.began_at, listed=token.session_id is not None)
        if standing.reason is not None:
            raise Refusal(standing.reason)
        facts.stale = standing.stale
        filled = await self.filler.fill(payload)
        facts.fallback = filled.fallback
        if filled.reason is not None:
            raise Refusal(filled.reason, claim=filled.claim)
        claims, session = self.schema.assemble(filled.claims)
        info = _token_info(token, filled)
        self._cache(presented, token, claims, info, facts, standing)
        if token.envelope is not None:
            self.line_use.count(token, token.envelope)
        if self.activity is not None and session_key.session_id is not None:
            self.activity.note(session_key.session_id)
        if self.renewals.enabled:
            facts.renewal = self.renewals.due(presented.raw, token, session_key, payload, filled)
        return self.recorder.accept(facts, session, info)

    async def verify(self, raw: RawToken) -> VerifiedToken:
        """The token alone, without its session.

        Raises:
            Refusal: As ``tokens`` says.
        """
        return await self._verify(self._unrecalled(raw), RequestFacts())

    async def check(self, raw: RawToken) -> float:
        """Check that a token and its session are still accepted; counts no request.

        Returns:
            Seconds after which the next check is due.

        Raises:
            Refusal: It ended, or the store cannot say.
        """
        token = await self.verify(raw)
        await self._hold(raw, token)
        left = token.valid_until - self.runtime.clock.now()
        return max(_SHORTEST_PAUSE, min(left, self.max_staleness, LONGEST))

    async def confirm(self, raw: RawToken) -> SessionKey:
        """The session of a token, of which the store says now that it is active.

        Raises:
            Refusal: It ended, or the store cannot say.
        """
        return await self._hold(raw, await self.verify(raw), fresh=True)

    async def choose(self, tokens: Sequence[RawToken]) -> RawToken:
        """One of the values of a cookie that was sent more than once: of those that hold, that of the newest log-in.

        A browser sends two after the cookie's domain or path changed; a sibling host may have set one of them.

        Raises:
            Unreadable: ``token_ambiguous`` if they are of two subjects; the reason of the first, if none holds.
        """
        holding: list[tuple[VerifiedToken, RawToken]] = []
        subjects, refused = set(), []
        for raw in tokens:
            try:
                token = await self.verify(raw)
                subjects.add((await self._hold(raw, token)).user_id)
            except Refusal as refusal:
                if refusal.reason.status == 503:
                    raise
                refused.append(refusal.reason)
            else:
                holding.append((token, raw))
        if not holding or len(subjects) > 1:
            raise Unreadable(Reason.TOKEN_AMBIGUOUS if holding else refused[0], Carrier.COOKIE)
        return max(holding, key=lambda each: _newest(each[0]))[1]

    async def _hold(self, raw: RawToken, token: VerifiedToken, *, fresh: bool = False) -> SessionKey:
        """The session of a verified token, which is active.

        Raises:
            Refusal: It is not, or the store cannot say.
        """
        payload = self.schema.upgrade(token.claims, token.payload_version)
        key, listed = self.session_key(raw, token, payload), token.session_id is not None
        standing = await self._check_session(key, token.began_at, listed=listed, fresh=fresh)
        if standing.reason is not None:
            raise Refusal(standing.reason)
        return key

    def session_key(self, raw: RawToken, token: VerifiedToken, payload: Upgraded) -> SessionKey:
        """The session of a token, also of one without ``sid``: the id of the row that would revoke it."""
        session_id = token.session_id
        if session_id is None:
            session_id = session_id_of(raw.value, payload.token_subject or payload.subject, token.auth_time)
        return SessionKey(session_id=session_id, user_id=payload.subject, token_user_id=payload.token_subject)

    def refuse(self, reason: Reason, *, carrier: Carrier | None = None, optional: bool = False) -> Outcome[S]:
        """Count and report a request that is refused before its token is verified."""
        return self.recorder.refuse(RequestFacts(carrier), reason, optional=optional)

    def outcome_of(self, hit: Hit[S], carrier: Carrier) -> Outcome[S]:
        """The Outcome of a cache hit, for callers that want one; observers do not see it."""
        return Outcome(
            result="accepted",
            session=hit.session,
            token=hit.token,
            subject=str(getattr(hit.session, self.schema.subject_attribute)),
            carrier=carrier,
            payload_version=self.schema.label(hit.token.version),
            payload_expected=self.schema.version,
            auth_time=hit.token.auth_time,
        )

    def _unrecalled(self, raw: RawToken) -> Presented:
        """For callers that count no request: of the cache only a verification is used."""
        key = digest(raw.value)
        recalled = UNKNOWN if raw.cookie is not None else self.token_cache.recall_verified(key)
        return Presented(raw, key, recalled, self.token_cache.generation)

    async def _verify(self, presented: Presented, facts: RequestFacts) -> VerifiedToken:
        """Verify the token, unless that is cached, and fill in the facts as far as it gets."""
        if isinstance(presented.recalled, Verified):
            token = presented.recalled.token
            facts.version = self.schema.label(token.payload_version)
        else:
            signed = await self.open(presented.raw.value)
            facts.key_id = signed.key_id
            try:
                token = self.tokens.check(signed, presented.raw)
            except Refusal:
                facts.version = self.schema.label_of(signed.claims)
                raise
            facts.version = self.schema.label(token.payload_version)
            self.migration.saw(token.payload_version, token.issued_at, token.expires_at)
        facts.key_id, facts.auth_time = token.key_id, token.auth_time
        if token.payload_version < self.schema.version:
            facts.minted = self.migration.minted(token.payload_version, token.issued_at)
        if token.issued_at is not None:
            facts.age = self.runtime.clock.now() - token.issued_at
        return token

    async def open(self, token: bytes) -> SignedClaims:
        """The signature alone; fetches remote keys where that may help.

        Raises:
            Refusal: As ``Tokens.open``.
        """
        try:
            return self.tokens.open(token)
        except Unsigned as refusal:
            if refusal.reason not in _WORTH_A_FETCH or not await self.keys.refresh(refusal.kid):
                raise
        return self.tokens.open(token)

    async def _check_session(
        self, key: SessionKey, began_at: float | None, *, listed: bool, fresh: bool = False
    ) -> Standing:
        """By the store, where there is one; ``listed``: the session must have a row."""
        if self.checker is None:
            return ALWAYS
        return await self.checker.check(key, began_at, listed=listed, fresh=fresh)

    def _cache(
        self,
        presented: Presented,
        token: VerifiedToken,
        claims: bytes,
        info: TokenInfo,
        facts: RequestFacts,
        standing: Standing,
    ) -> None:
        """Of a token with nothing to report the session is cached, of another one the verification."""
        now, monotonic = self.runtime.clock.now(), self.runtime.clock.monotonic()
        valid_until = min(monotonic + min(token.valid_until - now, LONGEST), self.keys.usable_until)
        renewed_from = self.renewals.renewed_from(token) if self.renewals.enabled else math.inf
        is_plain = token.envelope is None and (token.own or self.checker is None)  # else its session may have no row
        if facts.minted is None and facts.fallback is None and is_plain and renewed_from > now:
            valid_until = min(valid_until, monotonic + renewed_from - now)
            entry = CurrentEntry(
                claims=claims,
                token=info,
                counter=self.recorder.accepted(facts),
                valid_until=valid_until,
                fresh_until=min(valid_until, standing.until),
            )
            self.token_cache.put(presented.key, entry, generation=presented.generation)
        elif presented.raw.cookie is None:
            self.token_cache.put_verified(
                presented.key, token, valid_until=valid_until, generation=presented.generation
            )


def session_id_of(token: bytes, own_subject: str, auth_time: float | None) -> str:
    """The id under which a token without ``sid`` is revoked: an own one by its session, a foreign one by itself."""
    return id_of_signed(token) if auth_time is None else id_of_session(own_subject, auth_time)


def _newest(token: VerifiedToken) -> tuple[float, float, int]:
    """What orders two tokens of one subject: log-in, issue, and payload version, since a reissue changes that alone."""
    return token.auth_time or token.issued_at or 0.0, token.issued_at or 0.0, token.payload_version


def _token_info(token: VerifiedToken, filled: Filled) -> TokenInfo:
    return TokenInfo(
        version=token.payload_version,
        iat=token.issued_at,
        exp=token.expires_at,
        session_id=token.session_id,
        own=token.own,
        envelope=token.envelope,
        auth_time=token.auth_time,
        filled=filled.fallback.claims if filled.fallback is not None else (),
    )
