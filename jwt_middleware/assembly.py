"""From settings to working parts: which module gets what. Configuration that cannot work fails here."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic

from . import names
from .activity import Activity
from .asking import LookupMaker
from .due import Dues
from .fallback import Filler
from .lookup import Lanes
from .migration import Migration
from .minting import Minter
from .observers import Observers
from .pipeline import Pipeline
from .ports import SessionStore
from .reissuing import Reissuer
from .remembered import Remembered
from .revocation import RevocationView
from .revoking import Revoker
from .schema import SessionSchema
from .settings import Settings
from .tallies import Tallies
from .tokens import Tokens
from .transport import Transport
from .types import S


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts(Generic[S]):
    """One authority's machinery."""

    tallies: Tallies
    transport: Transport
    migration: Migration
    known: Remembered[S]
    pipeline: Pipeline[S]
    minter: Minter[S]
    revoker: Revoker
    reissuer: Reissuer[S]
    revocation: RevocationView | None
    activity: Activity | None
    lanes: Lanes


def assemble(schema: SessionSchema[S], settings: Settings, owner: object) -> Parts[S]:
    """Build the parts; ``owner`` is whose life the gauges follow. ConfigError where settings contradict each other."""
    tallies = Tallies()
    observer = Observers([*settings.telemetry.observers(tallies, settings.clock), *settings.observers], tallies)
    migration = _migration(schema, settings)
    tokens, lookups = _tokens(settings, tallies), LookupMaker(settings, tallies, observer)
    revocation = None if settings.store is None else lookups.sessions(settings.store)
    activity = None if settings.store is None else _activity(settings.store, settings, tallies)
    filler = Filler(schema, settings.sources, lookup=lookups.claims, tallies=tallies, clock=settings.clock)
    minter = _minter(schema, settings, tokens, migration, tallies)
    known = _remembered(schema, settings, revocation, activity, tallies)
    pipeline = Pipeline(
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
        tallies=tallies,
        clock=settings.clock,
    )
    if settings.remote is not None:
        settings.remote.attach(clock=settings.clock, tallies=tallies, forget=known.forget)
    _declare_gauges(tallies, schema, migration, known)
    settings.telemetry.attach(tallies, owner)
    return Parts(
        tallies=tallies,
        transport=Transport(settings.cookie),
        migration=migration,
        known=known,
        pipeline=pipeline,
        minter=minter,
        revoker=_revoker(schema, settings, revocation, pipeline, tallies),
        reissuer=_reissuer(schema, settings, minter, filler, revocation, tallies),
        revocation=revocation,
        activity=activity,
        lanes=lookups.lanes,
    )


def _remembered(
    schema: SessionSchema[S],
    settings: Settings,
    revocation: RevocationView | None,
    activity: Activity | None,
    tallies: Tallies,
) -> Remembered[S]:
    return Remembered(
        schema=schema,
        revocation=revocation,
        activity=activity,
        tallies=tallies,
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


def _activity(store: SessionStore, settings: Settings, tallies: Tallies) -> Activity:
    return Activity(store, clock=settings.clock, tallies=tallies, limit=settings.cache_entries)


def _revoker(
    schema: SessionSchema[S],
    settings: Settings,
    revocation: RevocationView | None,
    pipeline: Pipeline[S],
    tallies: Tallies,
) -> Revoker:
    return Revoker(
        schema=schema,
        store=settings.store,
        revocation=revocation,
        pipeline=pipeline,
        tallies=tallies,
        clock=settings.clock,
    )


def _reissuer(
    schema: SessionSchema[S],
    settings: Settings,
    minter: Minter[S],
    filler: Filler,
    revocation: RevocationView | None,
    tallies: Tallies,
) -> Reissuer[S]:
    return Reissuer(
        schema=schema,
        minter=minter,
        filler=filler,
        revocation=revocation,
        store=settings.store,
        triggers=settings.triggers,
        patience=settings.lookups.timeout.total_seconds(),
        tallies=tallies,
        clock=settings.clock,
    )


def _tokens(settings: Settings, tallies: Tallies) -> Tokens:
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
        tallies=tallies,
    )


def _dues(schema: SessionSchema[Any], settings: Settings) -> Dues:
    return Dues(
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
    schema: SessionSchema[S], settings: Settings, tokens: Tokens, migration: Migration, tallies: Tallies
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
        tallies=tallies,
        clock=settings.clock,
    )


def _declare_gauges(tallies: Tallies, schema: SessionSchema[Any], migration: Migration, known: Remembered[Any]) -> None:
    def reading(of: Callable[[int], float | None], version: int) -> Callable[[], float | None]:
        return lambda: of(version)

    for version in range(1, schema.version + 1):
        at = {names.PAYLOAD_VERSION: version}
        if migration.superseded(version) is not None:
            tallies.gauge(names.PAYLOAD_SUPERSEDED, reading(migration.superseded, version), at)
        tallies.gauge(names.PAYLOAD_LAST_MINTED, reading(migration.last_minted.get, version), at)
        tallies.gauge(names.PAYLOAD_LAST_EXPIRY, reading(migration.last_expiry.get, version), at)
    tallies.gauge(names.TOKEN_MAX_LIFETIME, lambda: migration.max_lifetime)
    tallies.gauge(
        names.PAYLOAD_INFO, lambda: 1, {names.PAYLOAD_VERSION: schema.version, names.PAYLOAD_MINTS: schema.mints}
    )
    seen = weakref.ref(known.seen)
    tallies.gauge(
        names.CACHE_ENTRIES, lambda: None if (table := seen()) is None else len(table), {names.CACHE: "tokens"}
    )
