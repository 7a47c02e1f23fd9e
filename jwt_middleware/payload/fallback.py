"""Missing claims to values: each source asked once, all of them at the same time, and what the defaults stand in for.

The default is the failure policy (``contracts/evolution.md``): a claim that has one takes it on every outcome but
``resolved``; a claim that has none refuses the request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, Protocol

from .. import names
from ..counters import Counters
from ..errors import ConfigError, Reason, Refusal
from ..lookup.batch import Found, LookupFailed
from ..protocols import ClaimsSource, Clock
from ..types import Fallback, FilledClaim, FillOutcome
from .fields import ClaimSpec, subject_key
from .schema import SessionSchema, Upgraded

Values = Mapping[str, tuple[FillOutcome, object]]
"""One row, converted: by claim ``resolved`` and its JSON value, or what is wrong with it."""
Fetch = Callable[[Collection[str]], Any]
_DATABASE: Final = ("database", "cache", "coalesced")


class ClaimsLookup(Protocol):
    """The one thing asked of ``lookup`` here."""

    async def get(self, key: str, *, fresh: bool = False) -> Found[Values]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """Complete claims, or the reason to refuse; with the facts where the fallback fired."""

    claims: dict[str, Any] = field(repr=False)
    fallback: Fallback | None = None
    reason: Reason | None = None
    claim: str | None = None
    """Wire name of the claim that the reason is about, where it is one."""

    def refuse(self) -> None:
        """Raise the refusal, where there is a reason."""
        if self.reason is not None:
            raise Refusal(self.reason, claim=self.claim)


class _Answer(NamedTuple):
    """What one source said for one request."""

    outcome: FillOutcome
    values: Values = {}  # noqa: RUF012 - nobody changes it, and a factory would be called for each request
    origin: Literal["database", "cache", "coalesced"] = "database"
    handle: object = None


class Filler:
    """Fills what a payload lacks.

    Args:
        lookup: Makes the lookup machinery over one source and its (converting) fetch.

    Raises:
        ConfigError: Two sources know one claim, or a claim is its own key.
    """

    def __init__(
        self,
        schema: SessionSchema[Any],
        sources: Sequence[ClaimsSource],
        *,
        lookup: Callable[[ClaimsSource, Fetch], ClaimsLookup],
        counters: Counters,
        clock: Clock,
    ) -> None:
        self._schema: Final = schema
        self._specs: Final = {spec.name: spec for spec in schema.claims}
        self._source_of: Final[dict[str, int]] = {}
        for place, source in enumerate(sources):
            self._add(place, source)
        schema.refuse_unfillable(frozenset(self._source_of))
        self._sources: Final = tuple(sources)
        self._lookups: Final = tuple(lookup(source, self._converting(source)) for source in sources)
        self._clock: Final = clock
        self._counts: Final = counters.counts
        self._claims_at: Final = self._declare_claims(counters)
        self._fallbacks_at: Final = self._declare_fallbacks(counters)

    async def fill(self, payload: Upgraded) -> Filled:
        """Fill the missing claims; suspends only where something must be queried."""
        for spec in payload.missing:
            if spec.name not in self._source_of and not spec.has_default:
                return Filled(claims=payload.claims, reason=Reason.PAYLOAD_INVALID, claim=spec.name)
        firing = [spec for spec in payload.missing if spec.name in self._source_of or spec.since > 1]
        if not firing:
            return Filled(claims=payload.claims)
        started = self._clock.now()
        answers = await self._ask(firing, payload)
        claims, reasons = dict(payload.claims), set()
        filled = []
        for spec in firing:
            fact, value = self._settle(spec, answers)
            filled.append(fact)
            self._counts[self._claims_at[fact.claim, fact.source, fact.outcome]] += 1
            if fact.source == "none":
                reasons.add(_REASONS[fact.outcome])
            elif fact.source != "default":
                claims[spec.name] = value
        worst = max((fact.outcome for fact in filled), key=_FROM_BEST_TO_WORST.index)
        self._counts[self._fallbacks_at[payload.label, worst]] += 1
        return Filled(
            claims=claims,
            fallback=Fallback(
                claims=tuple(filled),
                outcome=worst,
                started_at=int(started * 1e9),
                ended_at=int(self._clock.now() * 1e9),
                lookups=tuple(answer.handle for answer in answers.values() if answer.handle is not None),
            ),
            reason=min(reasons, key=_PRECEDENCE.index) if reasons else None,
        )

    async def fetch_anew(self, claims: dict[str, Any], *, subject: str) -> dict[str, Any]:
        """The claims with every one that has a source fetched anew, past the cache: for a renewal.

        Raises:
            Refusal: ``claims_incomplete``: a default would have to stand in.
        """
        sourced = [self._specs[name] for name in self._source_of]
        payload = Upgraded(claims=claims, subject=subject, missing=(), label="")
        answers = await self._ask(sourced, payload, fresh=True)
        settled = [(spec.name, *self._settle(spec, answers)) for spec in sourced]
        if any(fact.outcome is not FillOutcome.RESOLVED for _, fact, _ in settled):
            raise Refusal(Reason.CLAIMS_INCOMPLETE)
        return {**claims, **{name: value for name, _, value in settled}}

    async def _ask(self, firing: Sequence[ClaimSpec], payload: Upgraded, *, fresh: bool = False) -> dict[int, _Answer]:
        """Each source that is needed, once, all at the same time."""
        needed = sorted({self._source_of[spec.name] for spec in firing if spec.name in self._source_of})
        if len(needed) == 1:
            return {needed[0]: await self._ask_one(needed[0], payload, fresh=fresh)}
        answers = await asyncio.gather(*(self._ask_one(place, payload, fresh=fresh) for place in needed))
        return dict(zip(needed, answers, strict=True))

    async def _ask_one(self, place: int, payload: Upgraded, *, fresh: bool) -> _Answer:
        by = self._sources[place].by
        try:
            key = payload.subject if by is None else subject_key(payload.claims.get(by))
        except Refusal:
            return _Answer(FillOutcome.NOT_FOUND)
        try:
            found = await self._lookups[place].get(key, fresh=fresh)
        except LookupFailed as failed:
            return _Answer(failed.outcome, handle=failed.handle)
        if found.value is None:
            return _Answer(FillOutcome.NOT_FOUND, {}, found.origin, found.handle)
        return _Answer(FillOutcome.RESOLVED, found.value, found.origin, found.handle)

    def _settle(self, spec: ClaimSpec, answers: Mapping[int, _Answer]) -> tuple[FilledClaim, object]:
        place = self._source_of.get(spec.name)
        if place is None:
            return FilledClaim(claim=spec.name, source="default", outcome=FillOutcome.RESOLVED), None
        answer = answers[place]
        outcome, value = answer.outcome, None
        if outcome is FillOutcome.RESOLVED:
            outcome, value = answer.values[spec.name]
        if outcome is FillOutcome.RESOLVED:
            return FilledClaim(claim=spec.name, source=answer.origin, outcome=outcome), value
        stands_in = spec.has_default and not self._needs_row(place, outcome)
        return FilledClaim(claim=spec.name, source="default" if stands_in else "none", outcome=outcome), None

    def _needs_row(self, place: int, outcome: FillOutcome) -> bool:
        return outcome is FillOutcome.NOT_FOUND and self._sources[place].require_row

    def _converting(self, source: ClaimsSource) -> Fetch:
        """The source's fetch, its values converted once and not again for each request the cache serves."""

        async def fetch(keys: Collection[str]) -> Mapping[str, Values]:
            rows = await source.fetch(keys)
            return {key: {claim: self._convert(claim, row) for claim in source.claims} for key, row in rows.items()}

        return fetch

    def _convert(self, claim: str, row: Mapping[str, Any]) -> tuple[FillOutcome, object]:
        value = row.get(claim)
        if self._specs[claim].is_empty(value) or claim not in row:
            return FillOutcome.NULL, None
        try:
            return FillOutcome.RESOLVED, self._schema.convert(claim, value)
        except ValueError:
            return FillOutcome.INVALID, None

    def _add(self, place: int, source: ClaimsSource) -> None:
        for claim in source.claims:
            if claim in self._source_of:
                raise ConfigError(f"two sources know the claim {claim!r}: let one of them leave it out")
            self._source_of[claim] = place
        if source.by is not None and (source.by not in self._specs or source.by in source.claims):
            raise ConfigError(
                f"a source is asked by={source.by!r}: name another claim of the session class, by wire name"
            )

    def _declare_claims(self, counters: Counters) -> dict[tuple[str, str, FillOutcome], int]:
        pairs: list[tuple[str, str, FillOutcome]] = []
        failures = [outcome for outcome in FillOutcome if outcome is not FillOutcome.RESOLVED]
        for spec in self._schema.claims:
            place = self._source_of.get(spec.name)
            if place is None:
                if spec.since > 1 and spec.has_default:
                    pairs.append((spec.name, "default", FillOutcome.RESOLVED))
                continue
            pairs += [(spec.name, origin, FillOutcome.RESOLVED) for origin in _DATABASE]
            for outcome in failures:
                stands_in = spec.has_default and not (
                    outcome is FillOutcome.NOT_FOUND and self._sources[place].require_row
                )
                pairs.append((spec.name, "default" if stands_in else "none", outcome))
        return {
            (claim, source, outcome): counters.counter(
                names.FALLBACK_CLAIMS, {names.CLAIM: claim, names.SOURCE: source, names.OUTCOME: outcome}
            )
            for claim, source, outcome in pairs
        }

    def _declare_fallbacks(self, counters: Counters) -> dict[tuple[str, FillOutcome], int]:
        labels = [str(version) for version in range(1, self._schema.version + 1)] + ["newer"]
        outcomes = list(FillOutcome) if self._source_of else [FillOutcome.RESOLVED]
        return {
            (label, outcome): counters.counter(names.FALLBACKS, {names.PAYLOAD_VERSION: label, names.OUTCOME: outcome})
            for label in labels
            for outcome in outcomes
        }


_FROM_BEST_TO_WORST: Final = tuple(FillOutcome)
_REASONS: Final = {
    FillOutcome.NOT_FOUND: Reason.SUBJECT_UNKNOWN,
    FillOutcome.NULL: Reason.CLAIMS_INCOMPLETE,
    FillOutcome.INVALID: Reason.CLAIMS_INCOMPLETE,
    FillOutcome.SHED: Reason.CLAIMS_UNAVAILABLE,
    FillOutcome.BREAKER_OPEN: Reason.CLAIMS_UNAVAILABLE,
    FillOutcome.TIMEOUT: Reason.CLAIMS_UNAVAILABLE,
    FillOutcome.ERROR: Reason.CLAIMS_UNAVAILABLE,
}
_PRECEDENCE: Final = (Reason.SUBJECT_UNKNOWN, Reason.CLAIMS_INCOMPLETE, Reason.CLAIMS_UNAVAILABLE)
"""What asking again cannot mend decides before what it can."""
