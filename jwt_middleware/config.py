"""From settings to working parts: which module gets what. Configuration that cannot work fails here."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, Generic, Literal

from . import names
from .authenticator import Authenticator
from .counters import Counters, Runtime
from .errors import ConfigError, refuse_numbers
from .lookup.lanes import Lanes
from .lookup.lookup import Lookup, LookupLimits
from .payload.fallback import ClaimsLookup, Filler, Row, converted
from .payload.migration import Migration
from .payload.schema import SessionSchema
from .protocols import ClaimsSource, Clock, Observer, SessionStore
from .sessions.activity import Activity
from .sessions.checker import Revocation, SessionChecker
from .sessions.issuing import Minter
from .sessions.renewal import RenewalPolicy, Renewer
from .sessions.revocation import Revoker
from .sessions.token_cache import TokenCache
from .telemetry import Telemetry
from .telemetry.fanout import ObserverFanout
from .tokens.cookies import SessionCookie
from .tokens.jwt import Adoption, Tokens
from .tokens.keys import KeyRing
from .tokens.transport import Transport
from .types import FOREVER, Retention, S, SessionKey, SessionStatus

if TYPE_CHECKING:
    from .tokens.jwks import RemoteKeys


_ADVICE: Final = (
    "tokens minted before this package have no row in the store and are refused as session_unknown: to keep those "
    'users logged in, set Adoption(sessions="marks")'
)
_KINDS: Final[tuple[tuple[str, Any, str], ...]] = (
    ("cookie", SessionCookie, 'how the cookie is set: SessionCookie("session")'),
    ("adoption", Adoption, "what is forgiven to older tokens: Adoption(…)"),
    ("revocation", Revocation, "how old an answer of the store may be: Revocation(max_staleness=…)"),
    ("lookups", LookupLimits, "limits of the queries: LookupLimits(timeout=…)"),
    ("telemetry", Telemetry, "where signals go: Telemetry(…)"),
    ("reissue", bool, "True or False"),
    ("cache_entries", int, "a whole number of tokens"),
    ("secret_claims", (list, tuple, set, frozenset), 'a list of words: ["password"]'),
    ("observers", (list, tuple), "a list of them: [MyObserver()]"),
    ("effective_at", Mapping, "a plan by version: {2: datetime(…, tzinfo=UTC)}"),
    ("issuer", (str, NoneType), "one name: the iss of every token"),
    ("audience", (str, list, tuple, NoneType), "a name, or a list of names"),
)
"""What a newcomer mixes up: the settings, their types, and what they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The keyword arguments of :class:`SessionAuthority`, which documents them."""

    keys: KeyRing | RemoteKeys
    sources: Sequence[ClaimsSource]
    store: SessionStore | None
    window: timedelta
    leeway: timedelta
    rollout: timedelta
    effective_at: Mapping[int, datetime]
    issuer: str | None
    audience: str | Sequence[str] | None
    cookie: SessionCookie
    adoption: Adoption
    reissue: bool
    renew_within: timedelta | None
    max_session_age: timedelta
    revocation: Revocation
    lookups: LookupLimits
    cache_entries: int
    secret_claims: Sequence[str]
    telemetry: Telemetry
    observers: Sequence[Observer]
    clock: Clock

    def __post_init__(self) -> None:
        self._refuse_other_types()
        if self.window < timedelta(seconds=1) or self.window.microseconds:
            raise ConfigError("window is the life of a token in whole seconds: use at least timedelta(seconds=1)")
        if self.leeway < timedelta(0) or self.leeway >= self.window:
            raise ConfigError("leeway must not be negative, and shorter than window: 30 seconds are usual")
        if self.rollout < timedelta(0):
            raise ConfigError("rollout must not be negative: it is how long old issuers may still mint")
        if self.max_session_age <= timedelta(0):
            raise ConfigError("max_session_age must be positive: the longest life of a session that is renewed")
        if self.adoption.sessions == "marks" and self.store is None:
            raise ConfigError('Adoption(sessions="marks") is about a session store: give store=, or leave it out')
        if self.cache_entries < 1:
            raise ConfigError("cache_entries must be at least 1")
        if self.remote is not None and (self.issuer is None or not self.audience):
            raise ConfigError("an issuer's keys sign for many: with remote keys give issuer= and audience= too")

    def _refuse_other_types(self) -> None:
        lengths = {name: getattr(self, name) for name in ("window", "leeway", "rollout", "max_session_age")}
        refuse_numbers(**lengths, renew_within=timedelta(0) if self.renew_within is None else self.renew_within)
        if not hasattr(self.keys, "refresh"):
            raise ConfigError("keys is a ring of keys: KeyRing([Key.hmac(…)])")
        for name, kind, mend in _KINDS:
            if not isinstance(getattr(self, name), kind):
                raise ConfigError(f"{name} is {mend}")
        if isinstance(self.store, type) or (self.store is not None and not hasattr(self.store, "statuses")):
            raise ConfigError("store is a session store: SQLAlchemySessionStore(engine) or MemorySessionStore()")
        if any(isinstance(observer, type) for observer in self.observers):
            raise ConfigError("observers are objects and no classes: [MyObserver()]")
        if not isinstance(self.sources, (list, tuple)) or not all(hasattr(each, "claims") for each in self.sources):
            raise ConfigError('sources is a list of claims sources: SQLAlchemyClaims(…), or @source("email") functions')

    @property
    def remote(self) -> RemoteKeys | None:
        """The keys, where they are fetched."""
        return None if isinstance(self.keys, KeyRing) else self.keys

    @property
    def logs_old_tokens_out(self) -> bool:
        """Tokens of before this package are expected, and every one of them is refused for want of a row."""
        expected = (
            self.adoption != Adoption() or bool(self.cookie.also_read) or any(key.short for key in self.keys.keys)
        )
        return expected and self.store is not None and self.adoption.sessions == "refuse"

    @property
    def triggers(self) -> tuple[str, ...]:
        """What mints a newer token for a session."""
        configured = {"reissue": self.reissue, "renew": self.renew_within is not None}
        return tuple(trigger for trigger, wanted in configured.items() if wanted)

    @property
    def max_lifetime(self) -> timedelta:
        """The longest lifetime of a token that is accepted."""
        return max(self.window, self.adoption.accepted_lifetime or self.window)

    def retention(self, expired: timedelta, chunk: int) -> Retention:
        """What the tables keep: as long as a token may be accepted; nobody knows how long one without ``iat`` is.

        Raises:
            ConfigError: A time or a chunk that cannot be.
        """
        refuse_numbers(expired=expired)
        longest = self.max_lifetime + self.leeway if self.adoption.iat_required else FOREVER
        return Retention(expired=expired + self.leeway, longest_token=longest, chunk=chunk)


def configuration(schema: SessionSchema[Any], settings: Settings) -> dict[str, object]:
    """The facts of the ``configured`` event: nothing secret, nothing personal; ``advice`` where they look wrong."""
    advice = {} if not settings.logs_old_tokens_out else {"advice": _ADVICE}
    return {
        "payload_version": schema.version,
        "payload_mints": schema.mints,
        "window_s": int(settings.window.total_seconds()),
        "keys": [key.id for key in settings.keys.keys],
        "sourced": sorted({claim for source in settings.sources for claim in source.claims}),
        "store": settings.store is not None,
        **advice,
    }


class LookupMaker:
    """The lookups of one authority: all share its lanes, and one breaker and cache stands before each.

    Gauges hold them weakly: what reads counts must not keep an authority's engines alive.
    """

    def __init__(self, settings: Settings, counters: Counters, observer: Observer) -> None:
        self._settings: Final = settings
        self._counters: Final = counters
        self._observer: Final = observer
        self.lanes: Final = Lanes()
        self._made: Final[dict[str, weakref.WeakSet[Lookup[Any, Any]]]] = {}

    def claims(self, source: ClaimsSource, fetch: Callable[..., Any]) -> ClaimsLookup:
        lookup: Lookup[str, Row] = self._make(fetch, name="claims", resource=source.resource, cached=True)
        return lookup

    def sessions(self, store: SessionStore) -> SessionChecker:
        settings = self._settings
        lookup: Lookup[SessionKey, SessionStatus] = self._make(
            store.statuses, name="sessions", resource=store.resource, cached=False
        )
        view = SessionChecker(settings.revocation, lookup, clock=settings.clock, counters=self._counters)
        known = weakref.ref(view)
        self._counters.gauge(
            names.CACHE_ENTRIES, lambda: None if (table := known()) is None else len(table), {names.CACHE: "sessions"}
        )
        return view

    def _make(
        self, fetch: Callable[..., Any], *, name: Literal["claims", "sessions"], resource: object, cached: bool
    ) -> Lookup[Any, Any]:
        lookup: Lookup[Any, Any] = Lookup(
            fetch,
            name=name,
            resource=resource,
            limits=self._settings.lookups,
            lanes=self.lanes,
            runtime=Runtime(clock=self._settings.clock, counters=self._counters, observer=self._observer),
            cached=cached,
            cache_entries=self._settings.cache_entries,
        )
        if name not in self._made:
            self._declare(name)
        self._made[name].add(lookup)
        return lookup

    def _declare(self, name: str) -> None:
        made = self._made[name] = weakref.WeakSet()
        at = {names.LOOKUP: name}
        self._counters.gauge(names.LOOKUP_WAITING, lambda: sum(lookup.waiting for lookup in list(made)), at)
        self._counters.gauge(
            names.LOOKUP_BREAKER_OPEN, lambda: max((lookup.breaker.is_open for lookup in list(made)), default=False), at
        )
        if name == "claims":
            self._counters.gauge(
                names.CACHE_ENTRIES, lambda: sum(len(lookup.cache) for lookup in list(made)), {names.CACHE: name}
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts(Generic[S]):
    """One authority's machinery."""

    counters: Counters
    transport: Transport
    migration: Migration
    known: TokenCache[S]
    pipeline: Authenticator[S]
    minter: Minter[S]
    revoker: Revoker
    reissuer: Renewer[S]
    revocation: SessionChecker | None
    activity: Activity | None
    lanes: Lanes


def assemble(schema: SessionSchema[S], settings: Settings, owner: object) -> Parts[S]:
    """Build the parts; ``owner`` is whose life the gauges follow. ConfigError where settings contradict each other."""
    counters = Counters()
    observer = ObserverFanout([*settings.telemetry.observers(counters, settings.clock), *settings.observers], counters)
    migration = _migration(schema, settings)
    tokens, lookups = _tokens(settings, counters), LookupMaker(settings, counters, observer)
    revocation = None if settings.store is None else lookups.sessions(settings.store)
    activity = None if settings.store is None else _activity(settings.store, settings, counters)
    runtime = Runtime(clock=settings.clock, counters=counters, observer=observer)
    sources = [(source, lookups.claims(source, converted(schema, source))) for source in settings.sources]
    filler = Filler(schema, sources, runtime=runtime)
    minter = _minter(schema, settings, tokens, migration, counters)
    known = _remembered(schema, settings, revocation, activity, counters)
    pipeline = Authenticator(
        schema=schema,
        known=known,
        tokens=tokens,
        keys=settings.keys,
        revocation=revocation,
        activity=activity,
        filler=filler,
        dues=_dues(schema, settings),
        migration=migration,
        observer=observer,
        counters=counters,
        clock=settings.clock,
    )
    if settings.remote is not None:
        settings.remote.attach(clock=settings.clock, counters=counters, forget=known.forget)
    _declare_gauges(counters, schema, migration, known)
    settings.telemetry.attach(counters, owner)
    return Parts(
        counters=counters,
        transport=Transport(settings.cookie),
        migration=migration,
        known=known,
        pipeline=pipeline,
        minter=minter,
        revoker=Revoker(store=settings.store, revocation=revocation, token_cache=known, counters=counters),
        reissuer=_reissuer(schema, settings, minter, filler, revocation, counters),
        revocation=revocation,
        activity=activity,
        lanes=lookups.lanes,
    )


def _remembered(
    schema: SessionSchema[S],
    settings: Settings,
    revocation: SessionChecker | None,
    activity: Activity | None,
    counters: Counters,
) -> TokenCache[S]:
    return TokenCache(
        schema=schema,
        revocation=revocation,
        activity=activity,
        counters=counters,
        clock=settings.clock,
        leeway=settings.leeway.total_seconds(),
        limit=settings.cache_entries,
    )


def _migration(schema: SessionSchema[Any], settings: Settings) -> Migration:
    return Migration(
        version=schema.version,
        effective_at=settings.effective_at,
        rollout=settings.rollout,
        leeway=settings.leeway,
        max_lifetime=settings.max_lifetime,
    )


def _activity(store: SessionStore, settings: Settings, counters: Counters) -> Activity:
    return Activity(store, clock=settings.clock, counters=counters, limit=settings.cache_entries)


def _reissuer(
    schema: SessionSchema[S],
    settings: Settings,
    minter: Minter[S],
    filler: Filler,
    revocation: SessionChecker | None,
    counters: Counters,
) -> Renewer[S]:
    return Renewer(
        schema=schema,
        minter=minter,
        filler=filler,
        revocation=revocation,
        store=settings.store,
        triggers=settings.triggers,
        patience=settings.lookups.timeout.total_seconds(),
        counters=counters,
        clock=settings.clock,
    )


def _tokens(settings: Settings, counters: Counters) -> Tokens:
    return Tokens(
        settings.keys,
        signing=settings.keys.signing,
        issuer=settings.issuer,
        audience=settings.audience,
        window=settings.window.total_seconds(),
        leeway=settings.leeway.total_seconds(),
        adoption=settings.adoption,
        session_required=settings.store is not None,
        clock=settings.clock,
        counters=counters,
    )


def _dues(schema: SessionSchema[Any], settings: Settings) -> RenewalPolicy:
    return RenewalPolicy(
        schema,
        clock=settings.clock,
        window=settings.window,
        reissue=settings.reissue,
        renew_within=settings.renew_within,
        max_session_age=settings.max_session_age,
        can_sign=settings.keys.signing is not None,
        has_store=settings.store is not None,
    )


def _minter(
    schema: SessionSchema[S], settings: Settings, tokens: Tokens, migration: Migration, counters: Counters
) -> Minter[S]:
    registered: dict[str, Any] = {}
    if settings.issuer is not None:
        registered["iss"] = settings.issuer
    if settings.audience is not None:
        registered["aud"] = settings.audience if isinstance(settings.audience, str) else list(settings.audience)
    return Minter(
        schema=schema,
        tokens=tokens,
        cookie=settings.cookie,
        store=settings.store,
        migration=migration,
        window=int(settings.window.total_seconds()),
        registered=registered,
        secret_claims=settings.secret_claims,
        counters=counters,
        clock=settings.clock,
    )


def _declare_gauges(
    counters: Counters, schema: SessionSchema[Any], migration: Migration, known: TokenCache[Any]
) -> None:
    def reading(of: Callable[[int], float | None], version: int) -> Callable[[], float | None]:
        return lambda: of(version)

    for version in range(1, schema.version + 1):
        at = {names.PAYLOAD_VERSION: version}
        if migration.superseded(version) is not None:
            counters.gauge(names.PAYLOAD_SUPERSEDED, reading(migration.superseded, version), at)
        counters.gauge(names.PAYLOAD_LAST_MINTED, reading(migration.last_minted.get, version), at)
        counters.gauge(names.PAYLOAD_LAST_EXPIRY, reading(migration.last_expiry.get, version), at)
    counters.gauge(names.TOKEN_MAX_LIFETIME, lambda: migration.max_lifetime)
    counters.gauge(
        names.PAYLOAD_INFO, lambda: 1, {names.PAYLOAD_VERSION: schema.version, names.PAYLOAD_MINTS: schema.mints}
    )
    seen = weakref.ref(known.seen)
    counters.gauge(
        names.CACHE_ENTRIES, lambda: None if (table := seen()) is None else len(table), {names.CACHE: "tokens"}
    )
