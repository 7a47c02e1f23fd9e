"""The settings of an authority, checked against each other before anything is built from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import NoneType
from typing import TYPE_CHECKING, Any, Final

from .adoption import Adoption
from .errors import ConfigError, refuse_numbers
from .keys import KeyRing
from .lookup import LookupLimits
from .ports import ClaimsSource, Clock, Observer, SessionStore
from .retention import FOREVER, Retention
from .revocation import Revocation
from .schema import SessionSchema
from .telemetry import Telemetry
from .transport import SessionCookie

if TYPE_CHECKING:
    from .jwks import RemoteKeys  # at run time an extra that may not be installed


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
