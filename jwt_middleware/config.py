"""The settings of an authority, checked against each other, and :func:`build`, which makes the parts from them.

A setting that cannot work fails here, when the authority is constructed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, Literal

from . import names
from .authenticator import Authenticator, LineUse, OutcomeRecorder
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
from .tokens.envelope import Envelope, resolve
from .tokens.jwt import Tokens
from .tokens.keys import KeyRing
from .tokens.rules import PLAIN_TYP, AcceptedRules, Rules, audiences_of, is_session, normal_typ
from .tokens.transport import Transport
from .types import FOREVER, RawToken, Retention, S, moment, name_of_type

if TYPE_CHECKING:
    from .tokens.jwks import RemoteKeys  # at run time an extra that may not be installed

_TYPES: Final[Mapping[str, tuple[Any, str]]] = {
    "cookie": (SessionCookie, 'a SessionCookie, got {}; use SessionCookie("jwt_session")'),
    "also_accept": ((list, tuple), "a list of lines, got {}; use [Envelope.before(datetime(…), window=…)]"),
    "typ": (str, 'a str, got {}; use "session+jwt", or "JWT" for readers that refuse other types'),
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
    also_accept: Sequence[Envelope]
    typ: str
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
        if self.cache_entries < 1:
            raise ConfigError(f"cache_entries must be at least 1, got {self.cache_entries}; use 100_000")
        if self.remote_keys is not None and (self.issuer is None or not self.audience):
            raise ConfigError("RemoteKeys needs issuer= and audience=; the same keys also sign tokens for other apps")
        if self.issuer == "" or (self.audience is not None and not (self.audience and all(self.audience))):
            raise ConfigError("issuer and audience must not be empty; use a name of at least one character, or None")
        self._refuse_lines()

    def _refuse_lines(self) -> None:
        """Find lines, keys and a ``typ`` that contradict each other."""
        if wrong := next((line for line in self.also_accept if not isinstance(line, Envelope)), None):
            raise ConfigError(
                f"also_accept must be a list of lines, got {name_of_type(wrong)}; use Envelope.before(…), "
                "Envelope.coming(…) or Envelope.foreign(…)"
            )
        foreign = any(line.kind == "foreign" for line in self.also_accept)
        foreign_keys = self.remote_keys is None and any(key.foreign for key in self.keys.keys)
        if foreign_keys and not foreign:
            raise ConfigError(
                "a key is foreign (foreign=True, allow_short=True), and no line admits what it signed: add "
                "Envelope.foreign(before=datetime(…)) to also_accept, or remove the key"
            )
        plain = PLAIN_TYP in {normal_typ(self.typ), *(normal_typ(line.changes.get("typ", "")) for line in self._own)}
        if not normal_typ(self.typ):
            raise ConfigError('typ must not be empty; use "session+jwt"')
        if plain and self.remote_keys is not None:
            raise ConfigError('typ="JWT" does not tell own tokens from those of RemoteKeys; use typ="session+jwt"')
        keys = self.keys.keys
        shared = any(one.foreign and not other.foreign and one.is_twin(other) for one in keys for other in keys)
        if plain and foreign and (shared or not foreign_keys):
            raise ConfigError(
                'typ="JWT" does not tell own tokens from foreign ones: move the key of the foreign ones to a '
                "Key(…, foreign=True), and sign with another key"
            )

    @property
    def _own(self) -> list[Envelope]:
        """The lines for own tokens."""
        return [line for line in self.also_accept if line.kind != "foreign"]

    def _refuse_other_types(self) -> None:
        lengths = {name: getattr(self, name) for name in ("window", "leeway", "rollout", "max_session_age")}
        refuse_numbers(**lengths, renew_within=timedelta(0) if self.renew_within is None else self.renew_within)
        if not hasattr(self.keys, "refresh"):
            raise ConfigError(f"keys must be a KeyRing, got {name_of_type(self.keys)}; use KeyRing([Key.hmac(…)])")
        for name, (types, text) in _TYPES.items():
            if not isinstance(getattr(self, name), types):
                raise ConfigError(f"{name} must be {text.format(name_of_type(getattr(self, name)))}")
        if isinstance(self.store, type) or (self.store is not None and not hasattr(self.store, "statuses")):
            raise ConfigError(
                f"store must be a session store, got {name_of_type(self.store)}; "
                "use SQLAlchemySessionStore(engine) or MemorySessionStore()"
            )
        for observer in self.observers:
            if isinstance(observer, type):
                raise ConfigError(f"observers must be objects, got {name_of_type(observer)}; use [MyObserver()]")
        if not isinstance(self.sources, (list, tuple)) or not all(hasattr(each, "claims") for each in self.sources):
            raise ConfigError(
                f"sources must be a list of claims sources, got {name_of_type(self.sources)}; "
                'use SQLAlchemyClaims(…), or @source("email") on an async function'
            )

    @property
    def remote_keys(self) -> RemoteKeys | None:
        """The keys, where they are fetched."""
        return None if isinstance(self.keys, KeyRing) else self.keys

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

    def rules(self, schema: SessionSchema[Any]) -> AcceptedRules:
        """Which tokens are accepted.

        Raises:
            ConfigError: The lines of ``also_accept`` contradict each other.
        """
        typ = normal_typ(self.typ)
        names_of_class = {spec.name for spec in schema.claims}

        def recognise_own(claims: Mapping[str, Any]) -> bool:
            """A claim of the session class says nothing about the kind of token: ``mfa``, ``kind``."""
            return is_session({name: value for name, value in claims.items() if name not in names_of_class})

        today = Rules(
            name="today",
            kind="today",
            typs=frozenset([typ]),
            issuer=self.issuer,
            audiences=audiences_of(self.audience),
            window=self.window.total_seconds(),
            leeway=self.leeway.total_seconds(),
            longest=(self.window + self.leeway).total_seconds(),
            rows=self.store is not None,
            cookie=self.cookie,
            version_claim=schema.version_claim,
            recognise=recognise_own if typ == PLAIN_TYP else None,
        )
        keys, remote, own_kids = self.remote_keys, None, None
        if keys is not None:
            typs = keys.typs | ({""} if PLAIN_TYP in keys.typs else set())  # typ is optional (RFC 7519 section 5.1)
            remote = replace(today, typs=frozenset(typs), rows=False, recognise=keys.recognise)
            if typ not in keys.typs:
                own_kids = frozenset() if keys.signing is None else frozenset([keys.signing.kid])
        return resolve(self.also_accept, today, remote=remote, own_kids=own_kids, recognise_own=recognise_own)

    def retention(self, rules: AcceptedRules, expired: timedelta, chunk: int) -> Retention:
        """What the tables keep: rows and marks for as long as a token may be accepted; forever where ``iat`` may lack.

        Raises:
            ConfigError: A negative time, or a chunk out of range.
        """
        refuse_numbers(expired=expired)
        longest = timedelta(seconds=rules.longest_life()) + self.leeway
        now = self.clock.now()
        if any(not line.iat and not line.is_over(now) for line in rules.lines):
            longest = FOREVER
        return Retention(expired=expired + self.leeway, longest_token=longest, chunk=chunk)


@dataclass(kw_only=True, repr=False)
class Parts(Generic[S]):
    """The parts of one authority."""

    schema: SessionSchema[S]
    settings: Settings
    rules: AcceptedRules
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

    @property
    def cookies(self) -> Sequence[SessionCookie]:
        """Every cookie that a token may come in, in each scope, today's first."""
        return self.rules.cookies()

    async def token_in(self, headers: Iterable[tuple[bytes, bytes]]) -> RawToken | None:
        """The token of a request, of several in one cookie the one that counts.

        Raises:
            Refusal: It cannot be read, or they contradict each other.
        """
        received = self.transport.read(headers)
        if received.raw is None or not received.others:
            return received.raw
        return await self.authenticator.choose([received.raw, *received.others])

    def open(self) -> None:
        """Report the configuration and begin to fetch remote keys, once."""
        if self.is_open:
            return
        self.is_open = True
        if self.settings.remote_keys is not None:
            self.settings.remote_keys.open()
        log_configured(self.runtime.counters, configuration(self.schema, self.settings, self.rules))

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


def configuration(schema: SessionSchema[Any], settings: Settings, rules: AcceptedRules) -> dict[str, object]:
    """The facts of the ``configured`` event: nothing secret, nothing personal; ``advice`` where they can be better."""
    now = settings.clock.now()
    advice = [
        f"delete the line {line.name} of also_accept: it is over since {moment(line.ends_at):%Y-%m-%d}"
        for line in rules.lines
        if line.is_over(now)
    ]
    if settings.issuer is None and not settings.audience:
        advice.append("set audience= (or issuer=): tokens that the same key signs for another app are accepted here")
    return {
        "payload_version": schema.version,
        "payload_mints": schema.mints,
        "window_s": int(settings.window.total_seconds()),
        "keys": [key.id for key in settings.keys.keys],
        "sourced": sorted({claim for source in settings.sources for claim in source.claims}),
        "store": settings.store is not None,
        "also_accept": [line.name for line in rules.lines],
        **({"advice": advice} if advice else {}),
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
    rules = settings.rules(schema)
    migration = Migration(
        version=schema.version,
        effective_at=settings.effective_at,
        rollout=settings.rollout,
        leeway=settings.leeway,
        max_lifetime=timedelta(seconds=rules.longest_life()),
    )
    tokens = Tokens(
        settings.keys,
        signing=settings.keys.signing,
        rules=rules,
        typ=settings.typ,
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
        line_use=LineUse(rules, runtime, foreign_keys=any(key.foreign for key in settings.keys.keys)),
        max_staleness=LONGEST if store is None else settings.revocation.max_staleness.total_seconds(),
        runtime=runtime,
    )
    minter = Minter(
        schema=schema,
        tokens=tokens,
        cookie=settings.cookie,
        clearing=[cookie.clear_header() for cookie in rules.cookies()[1:]],
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
        rules=rules,
        runtime=runtime,
        transport=_transport(rules),
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
            registered=settings.registered,
            clock=clock,
            timeout=settings.lookups.timeout.total_seconds(),
        ),
        checker=checker,
        activity=activity,
        revoker=_revoker(store, checker, token_cache, counters),
        lanes=lookups.lanes,
    )


def _transport(rules: AcceptedRules) -> Transport:
    schemes = {line.cookie.name: line.scheme for line in rules.lines if line.scheme is not None}
    return Transport(list(dict.fromkeys(cookie.name for cookie in rules.cookies())), schemes)


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
