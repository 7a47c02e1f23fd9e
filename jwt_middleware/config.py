"""The settings of an authority, checked against each other, and :func:`build`, which makes the parts from them.

A setting that cannot work fails here, when the authority is constructed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, Literal

from . import names
from .authenticator import Authenticator, OutcomeRecorder
from .counters import Counters, Runtime
from .errors import ConfigError, refuse_numbers
from .lookup.lanes import Lanes
from .lookup.lookup import Lookup, LookupLimits
from .payload.fallback import Filler, converted
from .payload.migration import Migration
from .payload.schema import SessionSchema
from .protocols import ClaimsSource, Clock, Observer, SessionStore
from .sessions.activity import LONGEST, Activity
from .sessions.checker import Revocation, SessionChecker
from .sessions.issuing import Minter, SecretClaims
from .sessions.renewal import RenewalPolicy, Renewer
from .sessions.revocation import Revoker
from .sessions.token_cache import TokenCache
from .telemetry import Telemetry
from .telemetry.fanout import ObserverFanout
from .telemetry.logs import log_configured
from .tokens.cookies import SessionCookie
from .tokens.jwt import Adoption, Tokens
from .tokens.keys import KeyRing
from .tokens.transport import Transport
from .types import FOREVER, Retention, S

if TYPE_CHECKING:
    from .tokens.jwks import RemoteKeys  # at run time an extra that may not be installed

_ADVICE: Final = (
    "tokens minted before this package have no row in the store and are refused as session_unknown: to keep those "
    'users logged in, set Adoption(sessions="marks")'
)
_TYPES: Final[Mapping[str, tuple[Any, str]]] = {
    "cookie": (SessionCookie, 'a SessionCookie, got {}; use SessionCookie("jwt_session")'),
    "adoption": (Adoption, "an Adoption, got {}; use Adoption(iat_required=False)"),
    "revocation": (Revocation, "a Revocation, got {}; use Revocation(max_staleness=timedelta(seconds=5))"),
    "lookups": (LookupLimits, "a LookupLimits, got {}; use LookupLimits(timeout=timedelta(milliseconds=250))"),
    "telemetry": (Telemetry, "a Telemetry, got {}; use Telemetry(meter_provider=…)"),
    "reissue": (bool, "a bool, got {}; use True or False"),
    "cache_entries": (int, "an int, got {}; use the number of tokens to keep, 100_000"),
    "secret_claims": ((list, tuple, set, frozenset), 'a list of words, got {}; use ["password"]'),
    "observers": ((list, tuple), "a list of observers, got {}; use [MyObserver()]"),
    "effective_at": (Mapping, "a plan by version, got {}; use {{2: datetime(2026, 12, 1, tzinfo=UTC)}}"),
    "issuer": ((str, type(None)), 'a str, got {}; use the iss of every token, "https://login.example.com"'),
    "audience": ((str, list, tuple, type(None)), 'a str or a list of str, got {}; use "my-app"'),
}
"""What newcomers mix up: the type of a setting, and what to write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The keyword arguments of :class:`SessionAuthority`, which documents them.

    Raises:
        ConfigError: A setting is of another type, or contradicts another one.
    """

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
            raise ConfigError(f"window must be whole seconds, at least one, got {self.window!r}; use timedelta(days=7)")
        if self.leeway < timedelta(0) or self.leeway >= self.window:
            raise ConfigError(
                f"leeway must not be negative, and shorter than window, got {self.leeway!r}; use timedelta(seconds=30)"
            )
        if self.rollout < timedelta(0):
            raise ConfigError(
                f"rollout must not be negative, got {self.rollout!r}; it is how long old issuers may still mint"
            )
        if self.max_session_age <= timedelta(0):
            raise ConfigError(
                f"max_session_age must be positive, got {self.max_session_age!r}; it limits sessions that are renewed"
            )
        if self.adoption.sessions == "marks" and self.store is None:
            raise ConfigError('Adoption(sessions="marks") needs a session store; give store=, or leave it out')
        if self.cache_entries < 1:
            raise ConfigError(f"cache_entries must be at least 1, got {self.cache_entries}; use 100_000")
        if self.remote_keys is not None and (self.issuer is None or not self.audience):
            raise ConfigError("RemoteKeys needs issuer= and audience=; the same keys also sign tokens for other apps")

    def _refuse_other_types(self) -> None:
        lengths = {name: getattr(self, name) for name in ("window", "leeway", "rollout", "max_session_age")}
        refuse_numbers(**lengths, renew_within=timedelta(0) if self.renew_within is None else self.renew_within)
        if not hasattr(self.keys, "refresh"):
            raise ConfigError(f"keys must be a KeyRing, got {_name(self.keys)}; use KeyRing([Key.hmac(…)])")
        for name, (types, text) in _TYPES.items():
            if not isinstance(getattr(self, name), types):
                raise ConfigError(f"{name} must be {text.format(_name(getattr(self, name)))}")
        if isinstance(self.store, type) or (self.store is not None and not hasattr(self.store, "statuses")):
            raise ConfigError(
                f"store must be a session store, got {_name(self.store)}; "
                "use SQLAlchemySessionStore(engine) or MemorySessionStore()"
            )
        for observer in self.observers:
            if isinstance(observer, type):
                raise ConfigError(f"observers must be objects, got {_name(observer)}; use [MyObserver()]")
        if not isinstance(self.sources, (list, tuple)) or not all(hasattr(each, "claims") for each in self.sources):
            raise ConfigError(
                f"sources must be a list of claims sources, got {_name(self.sources)}; "
                'use SQLAlchemyClaims(…), or @source("email") on an async function'
            )

    @property
    def remote_keys(self) -> RemoteKeys | None:
        """The keys, where they are fetched."""
        return None if isinstance(self.keys, KeyRing) else self.keys

    @property
    def logs_old_tokens_out(self) -> bool:
        """Tokens that are older than this package are expected, and every one of them is refused for want of a row."""
        expected = (
            self.adoption != Adoption() or bool(self.cookie.also_read) or any(key.short for key in self.keys.keys)
        )
        return expected and self.store is not None and self.adoption.sessions == "refuse"

    @property
    def triggers(self) -> tuple[str, ...]:
        """What mints a newer token for a session, beside its log-in."""
        enabled = {"reissue": self.reissue, "renew": self.renew_within is not None}
        return tuple(trigger for trigger, is_enabled in enabled.items() if is_enabled)

    @property
    def registered(self) -> dict[str, Any]:
        """The registered claims of every minted token (RFC 7519 section 4.1)."""
        audience = self.audience if self.audience is None or isinstance(self.audience, str) else list(self.audience)
        return {name: value for name, value in (("iss", self.issuer), ("aud", audience)) if value is not None}

    @property
    def max_lifetime(self) -> timedelta:
        """The longest lifetime of a token that is accepted."""
        return max(self.window, self.adoption.accepted_lifetime or self.window)

    def retention(self, expired: timedelta, chunk: int) -> Retention:
        """What the tables keep: rows and marks for as long as a token may be accepted; forever where ``iat`` may lack.

        Raises:
            ConfigError: A negative time, or a chunk out of range.
        """
        refuse_numbers(expired=expired)
        longest = self.max_lifetime + self.leeway if self.adoption.iat_required else FOREVER
        return Retention(expired=expired + self.leeway, longest_token=longest, chunk=chunk)


def _name(given: object) -> str:
    """What to call a wrong value in an error: its class, whose name holds nothing secret."""
    return f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__


@dataclass(kw_only=True, repr=False)
class Parts(Generic[S]):
    """The parts of one authority."""

    schema: SessionSchema[S]
    settings: Settings
    runtime: Runtime
    transport: Transport
    migration: Migration
    token_cache: TokenCache[S]
    authenticator: Authenticator[S]
    minter: Minter[S]
    renewer: Renewer[S]
    checker: SessionChecker | None
    activity: Activity | None
    revoker: Revoker | None
    lanes: Lanes
    is_open: bool = field(default=False, init=False)

    @property
    def counters(self) -> Counters:
        return self.runtime.counters

    def open(self) -> None:
        """Report the configuration and begin to fetch remote keys, once."""
        if self.is_open:
            return
        self.is_open = True
        if self.settings.remote_keys is not None:
            self.settings.remote_keys.open()
        log_configured(self.runtime.counters, configuration(self.schema, self.settings))

    async def aclose(self) -> None:
        """End what runs in the background; counts stay, gauges go. The queries end before the engine does."""
        if self.checker is not None:
            await self.checker.aclose()
        if self.activity is not None:
            await self.activity.aclose()
        await self.lanes.drain()
        if self.settings.remote_keys is not None:
            await self.settings.remote_keys.aclose()
        self.runtime.counters.withdraw_gauges()


def configuration(schema: SessionSchema[Any], settings: Settings) -> dict[str, object]:
    """The facts of the ``configured`` event: nothing secret, nothing personal; ``advice`` where they look wrong."""
    return {
        "payload_version": schema.version,
        "payload_mints": schema.mints,
        "window_s": int(settings.window.total_seconds()),
        "keys": [key.id for key in settings.keys.keys],
        "sourced": sorted({claim for source in settings.sources for claim in source.claims}),
        "store": settings.store is not None,
        **({"advice": _ADVICE} if settings.logs_old_tokens_out else {}),
    }


class LookupFactory:
    """Makes the lookups of one authority, which share its lanes, and declares their gauges.

    Gauges hold lookups weakly: what reads counts must not keep an authority's engines alive.
    """

    def __init__(self, settings: Settings, runtime: Runtime) -> None:
        self._settings: Final = settings
        self._runtime: Final = runtime
        self.lanes: Final = Lanes()
        self._made: Final[dict[str, weakref.WeakSet[Lookup[Any, Any]]]] = {}

    def claims(self, schema: SessionSchema[Any], source: ClaimsSource) -> Lookup[Any, Any]:
        return self._make(converted(schema, source), name="claims", resource=source.resource, cached=True)

    def checker(self, store: SessionStore) -> SessionChecker:
        lookup = self._make(store.statuses, name="sessions", resource=store.resource, cached=False)
        checker = SessionChecker(self._settings.revocation, lookup, self._runtime)
        _declare_size(self._runtime.counters, "sessions", checker)
        return checker

    def _make(
        self, fetch: Callable[..., Any], *, name: Literal["claims", "sessions"], resource: object, cached: bool
    ) -> Lookup[Any, Any]:
        lookup: Lookup[Any, Any] = Lookup(
            fetch,
            name=name,
            resource=resource,
            limits=self._settings.lookups,
            lanes=self.lanes,
            runtime=self._runtime,
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
        gauge = self._runtime.counters.gauge
        gauge(names.LOOKUP_WAITING, lambda: sum(lookup.waiting for lookup in list(made)), at)
        gauge(
            names.LOOKUP_BREAKER_OPEN, lambda: max((lookup.breaker.is_open for lookup in list(made)), default=False), at
        )
        if name == "claims":
            gauge(names.CACHE_ENTRIES, lambda: sum(len(lookup.cache) for lookup in list(made)), {names.CACHE: name})


def build(schema: SessionSchema[S], settings: Settings, owner: object) -> Parts[S]:
    """Make the parts of one authority.

    Args:
        schema: Its schema.
        settings: Its settings.
        owner: The gauges go when it does.

    Raises:
        ConfigError: Settings contradict each other.
    """
    counters, clock, store = Counters(), settings.clock, settings.store
    observers = [*settings.telemetry.observers(counters, clock), *settings.observers]
    runtime = Runtime(clock=clock, counters=counters, observer=ObserverFanout(observers, counters))
    leeway, window = settings.leeway.total_seconds(), settings.window.total_seconds()
    migration = Migration(
        version=schema.version,
        effective_at=settings.effective_at,
        rollout=settings.rollout,
        leeway=settings.leeway,
        max_lifetime=settings.max_lifetime,
    )
    tokens = Tokens(
        settings.keys,
        signing=settings.keys.signing,
        issuer=settings.issuer,
        audience=settings.audience,
        window=window,
        leeway=leeway,
        adoption=settings.adoption,
        session_required=store is not None,
        clock=clock,
        counters=counters,
    )
    lookups = LookupFactory(settings, runtime)
    checker = None if store is None else lookups.checker(store)
    activity = None if store is None else Activity(store, runtime=runtime, limit=settings.cache_entries)
    filler = Filler(schema, [(each, lookups.claims(schema, each)) for each in settings.sources], runtime=runtime)
    token_cache = TokenCache(
        schema=schema,
        checker=checker,
        activity=activity,
        runtime=runtime,
        leeway=leeway,
        limit=settings.cache_entries,
    )
    authenticator = Authenticator(
        schema=schema,
        tokens=tokens,
        keys=settings.keys,
        token_cache=token_cache,
        checker=checker,
        activity=activity,
        filler=filler,
        renewals=RenewalPolicy(
            schema,
            clock=clock,
            window=settings.window,
            reissue=settings.reissue,
            renew_within=settings.renew_within,
            max_session_age=settings.max_session_age,
            can_sign=settings.keys.signing is not None,
            has_store=store is not None,
        ),
        migration=migration,
        recorder=OutcomeRecorder(schema, runtime),
        max_staleness=LONGEST if store is None else settings.revocation.max_staleness.total_seconds(),
        runtime=runtime,
    )
    minter = Minter(
        schema=schema,
        tokens=tokens,
        cookie=settings.cookie,
        store=store,
        migration=migration,
        window=int(window),
        registered=settings.registered,
        secrets=SecretClaims(settings.secret_claims),
        runtime=runtime,
    )
    minter.declare(settings.triggers)
    if settings.remote_keys is not None:
        settings.remote_keys.attach(clock=clock, counters=counters, forget=token_cache.forget_all)
    _declare_gauges(schema, migration, token_cache, counters)
    settings.telemetry.attach(counters, owner)
    return Parts(
        schema=schema,
        settings=settings,
        runtime=runtime,
        transport=Transport(settings.cookie),
        migration=migration,
        token_cache=token_cache,
        authenticator=authenticator,
        minter=minter,
        renewer=Renewer(
            schema=schema,
            minter=minter,
            filler=filler,
            checker=checker,
            store=store,
            timeout=settings.lookups.timeout.total_seconds(),
        ),
        checker=checker,
        activity=activity,
        revoker=_revoker(store, checker, token_cache, counters),
        lanes=lookups.lanes,
    )


def _revoker(
    store: SessionStore | None, checker: SessionChecker | None, token_cache: TokenCache[Any], counters: Counters
) -> Revoker | None:
    if store is None or checker is None:
        return None
    return Revoker(store=store, checker=checker, token_cache=token_cache, counters=counters)


def _declare_gauges(
    schema: SessionSchema[Any], migration: Migration, token_cache: TokenCache[Any], counters: Counters
) -> None:
    for version in range(1, schema.version + 1):
        at = {names.PAYLOAD_VERSION: version}
        if migration.superseded(version) is not None:
            counters.gauge(names.PAYLOAD_SUPERSEDED, partial(migration.superseded, version), at)
        counters.gauge(names.PAYLOAD_LAST_MINTED, partial(migration.last_minted.get, version), at)
        counters.gauge(names.PAYLOAD_LAST_EXPIRY, partial(migration.last_expiry.get, version), at)
    counters.gauge(names.TOKEN_MAX_LIFETIME, lambda: migration.max_lifetime)
    versions = {names.PAYLOAD_VERSION: schema.version, names.PAYLOAD_MINTS: schema.mints}
    counters.gauge(names.PAYLOAD_INFO, lambda: 1, versions)
    _declare_size(counters, "tokens", token_cache)


def _declare_size(counters: Counters, cache: str, table: SessionChecker | TokenCache[Any]) -> None:
    weak = weakref.ref(table)
    counters.gauge(names.CACHE_ENTRIES, lambda: None if (alive := weak()) is None else len(alive), {names.CACHE: cache})
