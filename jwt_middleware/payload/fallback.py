"""Fills the claims that a payload lacks: each source is queried at most once for a request, all at the same time.

The default of a claim decides what happens without a value. A claim that has a default takes it, whatever the outcome
of the query; a claim that has none refuses the request. ``require_row`` of a source refuses a missing row in any case.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Protocol

from .. import names
from ..counters import Counters, Runtime
from ..errors import ConfigError, Reason, Refusal
from ..lookup.batch import Found, LookupFailed
from ..protocols import ClaimsSource
from ..types import Fallback, FilledClaim, FillOutcome, Value
from .fields import ClaimSpec, subject_key
from .schema import SessionSchema, Upgraded

Row = Mapping[str, tuple[FillOutcome, object]]
"""A converted row. By claim: ``resolved`` and a JSON value, or ``null`` or ``invalid`` and None."""
Fetch = Callable[[Collection[str]], Coroutine[Any, Any, Mapping[str, Row]]]
_ORIGINS: Final[tuple[Literal["database", "cache", "coalesced"], ...]] = ("database", "cache", "coalesced")
_SEVERITY: Final = {outcome: place for place, outcome in enumerate(FillOutcome)}
_REASONS: Final = {
    FillOutcome.NULL: Reason.CLAIMS_INCOMPLETE,
    FillOutcome.NOT_FOUND: Reason.SUBJECT_UNKNOWN,
    FillOutcome.INVALID: Reason.CLAIMS_INCOMPLETE,
    FillOutcome.SHED: Reason.CLAIMS_UNAVAILABLE,
    FillOutcome.BREAKER_OPEN: Reason.CLAIMS_UNAVAILABLE,
    FillOutcome.TIMEOUT: Reason.CLAIMS_UNAVAILABLE,
    FillOutcome.ERROR: Reason.CLAIMS_UNAVAILABLE,
}
_PRECEDENCE: Final = (Reason.SUBJECT_UNKNOWN, Reason.CLAIMS_INCOMPLETE, Reason.CLAIMS_UNAVAILABLE)
"""A reason that another attempt cannot change comes before one that it can."""


class ClaimsLookup(Protocol):
    """The part of :class:`~jwt_middleware.lookup.lookup.Lookup` that the fallback needs."""

    async def get(self, key: str, *, fresh: bool = False) -> Found[Row]: ...


Sourced = tuple[ClaimsSource, ClaimsLookup]
"""A source, and the lookup over its :func:`converted` fetch."""


def converted(schema: SessionSchema[Any], source: ClaimsSource) -> Fetch:
    """The source's fetch with converted rows: once for each fetch, not for each request that the cache serves."""
    specs = {spec.name: spec for spec in schema.claims}

    def convert(claim: str, row: Mapping[str, Any]) -> tuple[FillOutcome, object]:
        value = row.get(claim)
        if claim not in row or specs[claim].is_empty(value):
            return FillOutcome.NULL, None
        try:
            return FillOutcome.RESOLVED, schema.convert(claim, value)
        except ValueError:
            return FillOutcome.INVALID, None

    async def fetch(keys: Collection[str]) -> Mapping[str, Row]:
        rows = await source.fetch(keys)
        return {key: {claim: convert(claim, row) for claim in source.claims} for key, row in rows.items()}

    return fetch


class Filled(Value, frozen=True, kw_only=True, gc=False):
    """The claims, complete unless there is a reason to refuse; and the facts, if the fallback fired."""

    claims: dict[str, Any]
    fallback: Fallback | None = None
    reason: Reason | None = None
    claim: str | None = None
    """Wire name of the claim that the reason is about, if it is about one."""


class _Result(NamedTuple):
    """What one source has for one request."""

    outcome: FillOutcome
    row: Row = {}  # noqa: RUF012 - it is not changed, and a factory would be called for each request
    origin: Literal["database", "cache", "coalesced"] = "database"
    handle: object = None


@dataclass(frozen=True, slots=True)
class _Plan:
    """How one claim is filled."""

    spec: ClaimSpec
    source: int | None
    """The place of its source; None if only its default fills it."""
    endings: dict[str, tuple[FilledClaim, int]]
    """The fact and its counter: by origin if the claim is resolved, else by outcome."""

    def settle(self, results: Mapping[int, _Result]) -> tuple[FilledClaim, int, object]:
        """The fact, its counter, and the value if a source has one."""
        if self.source is None:
            return *self.endings["default"], None
        result = results[self.source]
        outcome, value = result.outcome, None
        if outcome is FillOutcome.RESOLVED:
            outcome, value = result.row[self.spec.name]
        return *self.endings[result.origin if outcome is FillOutcome.RESOLVED else outcome], value


class Filler:
    """Fills the claims that a payload lacks.

    Args:
        sources: The sources with their lookups.

    Raises:
        ConfigError: Two sources provide one claim, a source is keyed by one of its own claims, or older tokens can
            never get a claim.
    """

    def __init__(self, schema: SessionSchema[Any], sources: Sequence[Sourced], *, runtime: Runtime) -> None:
        self._sources: Final = tuple(sources)
        source_of = _sources_of(schema, [source for source, _ in sources])
        self._now: Final = runtime.clock.now
        self._counts: Final = runtime.counters.counts
        counter = runtime.counters.counter
        self._plans: Final = {
            spec.name: self._plan(spec, source_of.get(spec.name), runtime.counters)
            for spec in schema.claims
            if spec.name in source_of or (spec.since > 1 and spec.has_default)
        }
        self._required: Final = {spec.name for spec in schema.claims if not spec.has_default}
        self._sourced: Final = [plan for plan in self._plans.values() if plan.source is not None]
        self._fallbacks_at: Final = {
            (label, outcome): counter(names.FALLBACKS, {names.PAYLOAD_VERSION: label, names.OUTCOME: outcome})
            for label in [*map(str, range(1, schema.version + 1)), "newer"]
            for outcome in (FillOutcome if source_of else [FillOutcome.RESOLVED])
        }

    async def fill(self, payload: Upgraded) -> Filled:
        """Fill the missing claims; suspends only for a query."""
        firing = []
        for spec in payload.missing:
            plan = self._plans.get(spec.name)
            if plan is not None:
                firing.append(plan)
            elif spec.name in self._required:
                return Filled(claims=payload.claims, reason=Reason.PAYLOAD_INVALID, claim=spec.name)
        if not firing:
            return Filled(claims=payload.claims)
        started = self._now()
        results = await self._fetch(firing, payload)
        claims, facts, worst, reasons = dict(payload.claims), [], FillOutcome.RESOLVED, []
        for plan in firing:
            fact, counter, value = plan.settle(results)
            self._counts[counter] += 1
            facts.append(fact)
            if _SEVERITY[fact.outcome] > _SEVERITY[worst]:
                worst = fact.outcome
            if fact.source == "none":
                reasons.append(_REASONS[fact.outcome])
            elif fact.source != "default":
                claims[fact.claim] = value
        self._counts[self._fallbacks_at[payload.label, worst]] += 1
        fallback = Fallback(
            claims=tuple(facts),
            outcome=worst,
            started_at=int(started * 1e9),
            ended_at=int(self._now() * 1e9),
            lookups=tuple([result.handle for result in results.values() if result.handle is not None]),
        )
        return Filled(claims=claims, fallback=fallback, reason=min(reasons, key=_PRECEDENCE.index, default=None))

    async def fetch_fresh(self, claims: dict[str, Any], *, subject: str) -> dict[str, Any]:
        """The claims, with fresh values for those that have a source: for a renewal.

        Raises:
            Refusal: ``claims_incomplete`` if a source has no value.
        """
        payload = Upgraded(claims=claims, subject=subject, token_subject=None, missing=(), label="")
        results = await self._fetch(self._sourced, payload, fresh=True)
        settled = [plan.settle(results) for plan in self._sourced]
        if any(fact.outcome is not FillOutcome.RESOLVED for fact, _, _ in settled):
            raise Refusal(Reason.CLAIMS_INCOMPLETE)
        return {**claims, **{fact.claim: value for fact, _, value in settled}}

    async def _fetch(self, plans: Sequence[_Plan], payload: Upgraded, *, fresh: bool = False) -> dict[int, _Result]:
        """The results of the sources that the plans need, each fetched once, at the same time."""
        places = sorted({plan.source for plan in plans if plan.source is not None})
        if len(places) == 1:  # the usual case, without a task
            return {places[0]: await self._fetch_from(places[0], payload, fresh=fresh)}
        results = await asyncio.gather(*(self._fetch_from(place, payload, fresh=fresh) for place in places))
        return dict(zip(places, results, strict=True))

    async def _fetch_from(self, place: int, payload: Upgraded, *, fresh: bool) -> _Result:
        source, lookup = self._sources[place]
        try:
            key = payload.subject if source.by is None else subject_key(payload.claims.get(source.by))
        except Refusal:  # no row has such a key
            return _Result(FillOutcome.NOT_FOUND)
        try:
            found = await lookup.get(key, fresh=fresh)
        except LookupFailed as failed:
            return _Result(failed.outcome, handle=failed.handle)
        if found.value is None:
            return _Result(FillOutcome.NOT_FOUND, {}, found.origin, found.handle)
        return _Result(FillOutcome.RESOLVED, found.value, found.origin, found.handle)

    def _plan(self, spec: ClaimSpec, place: int | None, counters: Counters) -> _Plan:
        """The plan of a claim; every ending is declared, so that its series starts at zero."""
        endings: dict[str, tuple[FilledClaim, int]] = {}
        for fact in _endings(spec, None if place is None else self._sources[place][0]):
            attributes = {names.CLAIM: fact.claim, names.SOURCE: fact.source, names.OUTCOME: fact.outcome}
            ending = fact.source if fact.outcome is FillOutcome.RESOLVED else fact.outcome
            endings[ending] = fact, counters.counter(names.FALLBACK_CLAIMS, attributes)
        return _Plan(spec, place, endings)


def _endings(spec: ClaimSpec, source: ClaimsSource | None) -> Iterator[FilledClaim]:
    """Every way in which the fallback can end for a claim."""
    if source is None:
        yield FilledClaim(claim=spec.name, source="default", outcome=FillOutcome.RESOLVED)
        return
    for origin in _ORIGINS:
        yield FilledClaim(claim=spec.name, source=origin, outcome=FillOutcome.RESOLVED)
    for outcome in _REASONS:
        has_default = spec.has_default and not (source.require_row and outcome is FillOutcome.NOT_FOUND)
        yield FilledClaim(claim=spec.name, source="default" if has_default else "none", outcome=outcome)


def _sources_of(schema: SessionSchema[Any], sources: Sequence[ClaimsSource]) -> dict[str, int]:
    """The place of the source of each claim that has one.

    Raises:
        ConfigError: As for :class:`Filler`.
    """
    own, source_of = {spec.name for spec in schema.claims}, dict[str, int]()
    for place, source in enumerate(sources):
        for claim in source.claims:
            if source_of.setdefault(claim, place) != place:
                raise ConfigError(f"two sources provide the claim {claim!r}: remove it from one of them")
        if source.by is not None and source.by not in own - source.claims:
            raise ConfigError(f"by={source.by!r} of a source must be another claim of the session class: a wire name")
    schema.refuse_unfillable(frozenset(source_of))
    return source_of
