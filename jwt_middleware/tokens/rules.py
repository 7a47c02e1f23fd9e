"""What a token must be like beside its payload: the claims of RFC 7519, and where it came from.

:class:`Rules` are what today's settings or one line of ``also_accept`` ask, :class:`AcceptedRules` are all of an
authority's. A token must meet one of them whole: two never mix, or a token could take its lifetime from one and its
``aud`` from another.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import ceil, inf
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from ..errors import ConfigError, Reason, Refusal
from ..types import RawToken, SignedClaims, Value, is_async, is_identifier, is_version, name_of_type, words_of
from .cookies import SessionCookie

Recognise = Callable[[Mapping[str, Any]], bool]
"""From the claims of a foreign token whose signature holds to whether it is a session's."""
Kind = Literal["today", "before", "coming", "foreign"]
OWN_TYP: Final = "session+jwt"
"""The ``typ`` of minted tokens: own tokens say so (RFC 8725 section 3.11)."""
PLAIN_TYP: Final = "jwt"
FOREIGN_TYPS: Final = ("", "jwt", "at+jwt")
"""A foreign token has no ``typ``, or ``JWT`` (RFC 7519 section 5.1), or that of an access token (RFC 9068)."""
_OTHER_TOKENS: Final = ("refresh", "reset", "verify", "logout", "offline", "invite", "magic")
_ID: Final = frozenset({"id", "idtoken"})
_KINDS_OF_TOKEN: Final = ("type", "token_type", "token_use", "use", "kind", "typ", "scope")
_NO_SESSION: Final = ("nonce", "at_hash", "c_hash", "events", "purpose", "action", "cnf", "act", "mfa")


def is_session(claims: Mapping[str, Any]) -> bool:
    """The default of ``recognise``: False for the refresh, reset, ID, log-out and invitation tokens of a shared key.

    It refuses claims that only such tokens have, a type that names one of them, and ``refresh: true``.
    """
    if claims.get("refresh") is True or any(name in claims for name in _NO_SESSION):
        return False
    return not any(_names_another(claims[name]) for name in _KINDS_OF_TOKEN if name in claims)


def _names_another(kind: object) -> bool:
    """True for a kind of token that is no session's; None says nothing, and a kind that is no text says too little."""
    if isinstance(kind, list):
        return any(_names_another(each) for each in kind)
    if not isinstance(kind, str):
        return kind is not None
    name = kind.lower()
    return any(word in name for word in _OTHER_TOKENS) or not _ID.isdisjoint([name, *words_of(kind), *words_of(name)])


def refuse_recognise(recognise: object) -> None:
    """Find what cannot say which claims are a session's.

    Raises:
        ConfigError: It is no plain function: a coroutine would be true whatever it returns.
    """
    if not callable(recognise) or is_async(recognise):
        raise ConfigError(
            f"recognise must be a plain function from claims to bool, got {name_of_type(recognise)}; "
            'use recognise=lambda claims: "role" in claims'
        )


def normal_typ(typ: str) -> str:
    """A ``typ`` as it is compared: media types ignore case, and ``application/`` is left out (RFC 7515, 4.1.9)."""
    return typ.lower().removeprefix("application/")


_NumericDate = Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
"""Seconds since the epoch (RFC 7519 section 2): a finite number, not a bool."""


class RegisteredClaims(Value, frozen=True, gc=False):
    """The claims that are checked here, with the types of RFC 7519 section 4.1. None is not a value of any."""

    exp: _NumericDate
    iat: _NumericDate | UnsetType = UNSET
    nbf: _NumericDate = -inf
    auth_time: _NumericDate | UnsetType = UNSET
    sid: str | UnsetType = UNSET
    sub: str | UnsetType = UNSET
    jti: str | UnsetType = UNSET
    iss: str | UnsetType = UNSET
    aud: str | Annotated[list[str], msgspec.Meta(min_length=1)] | UnsetType = UNSET


REGISTERED: Final = frozenset(RegisteredClaims.__struct_fields__)
_NOT_OF_FOREIGN: Final = frozenset({"sid", "auth_time"})


def read_registered(claims: Mapping[str, Any]) -> RegisteredClaims:
    """The registered claims of a payload.

    Raises:
        Refusal: ``claims_invalid`` if one has another type, or cannot name anything.
    """
    try:
        registered = msgspec.convert(claims, RegisteredClaims)
    except msgspec.ValidationError:
        raise Refusal(Reason.CLAIMS_INVALID) from None
    sid, sub = registered.sid, registered.sub
    if not (sid is UNSET or is_identifier(sid)) or not (sub is UNSET or is_identifier(sub)):
        raise Refusal(Reason.CLAIMS_INVALID)
    return registered


def as_own(claims: Mapping[str, Any]) -> dict[str, Any]:
    """The claims of a foreign token as this package would have written them: without null, ``sub`` as text.

    Its ``sid`` and ``auth_time`` are left out: they mean nothing here.
    """
    kept = {
        name: value
        for name, value in claims.items()
        if name not in _NOT_OF_FOREIGN and not (value is None and name in REGISTERED)
    }
    sub = kept.get("sub")
    if isinstance(sub, int) and not isinstance(sub, bool):
        kept["sub"] = str(sub)
    return kept


class Presentation(NamedTuple):
    """A token whose signature holds, as the rules see it."""

    signed: SignedClaims
    registered: RegisteredClaims
    lifetime: float
    """From ``iat`` to ``exp`` in seconds; without ``iat`` what is left."""
    raw: RawToken
    """Where it came from is a rule too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a token must be like: by today's settings, or by a line with all that it inherits. Times are in seconds."""

    name: str
    kind: Kind
    typs: frozenset[str]
    issuer: str | None
    audiences: frozenset[str]
    window: float
    leeway: float
    longest: float
    """``window`` + ``leeway``."""
    rows: bool
    """A token must have ``sid``: its session has a row."""
    cookie: SessionCookie
    version_claim: str | None
    """The claim that holds the payload version; None where every payload has version 1."""
    other_version_claims: frozenset[str] = frozenset()
    """Those of other rules for own tokens: a payload that has one of them, and not this rule's, is not of this rule."""
    iat: bool = True
    """``iat`` is required."""
    scheme: str | None = None
    recognise: Recognise | None = None
    minted_before: float = inf
    ends_at: float = inf
    differs: tuple[str, ...] = ()
    """The keywords whose value is another than today's."""

    def unmet(
        self, signed: SignedClaims, registered: RegisteredClaims, lifetime: float, raw: RawToken
    ) -> dict[str, Reason]:
        """The keywords whose rule the token does not meet, each with the reason to refuse it.

        The arguments are those of a :class:`Presentation`, which today's own tokens do without: it has its price.
        """
        unmet: dict[str, Reason] = {}
        if registered.iss != self.issuer and not self._accepts_any_issuer(registered.iss):
            unmet["issuer"] = Reason.ISSUER_MISMATCH
        if (self.audiences or registered.aud is not UNSET) and not self._names_audience(registered.aud):
            unmet["audience"] = Reason.AUDIENCE_MISMATCH
        if lifetime > self.longest:
            unmet["window"] = Reason.LIFETIME_EXCEEDED
        if self.rows and registered.sid is UNSET:
            unmet["store"] = Reason.SESSION_UNKNOWN
        if registered.iat is UNSET and self.iat:
            unmet["iat"] = Reason.CLAIMS_INVALID
        if signed.typ not in self.typs:
            unmet["typ"] = Reason.TOKEN_FOREIGN
        if raw.cookie is not None and raw.cookie != self.cookie.name:
            unmet["cookie"] = Reason.TOKEN_FOREIGN
        if raw.scheme is not None and raw.scheme != self.scheme:
            unmet["scheme"] = Reason.TOKEN_FOREIGN
        if self.other_version_claims and not self._names_version(signed.claims):
            unmet["version_claim"] = Reason.CLAIMS_INVALID
        return unmet

    def needed_for(self, unmet_today: Mapping[str, Reason]) -> tuple[str, ...]:
        """Of the keywords in which these rules differ, those by which today's refuse a token."""
        return tuple(keyword for keyword in self.differs if keyword == "foreign" or keyword in unmet_today)

    def admits(self, seen: Presentation, now: float) -> Reason | None:
        """The reason why the line does not admit a token, or None."""
        iat = seen.registered.iat
        if now >= self.ends_at or (iat is not UNSET and iat >= self.minted_before):
            return Reason.TOKEN_FOREIGN
        for reason in self.unmet(*seen).values():
            return reason
        return None if self.recognises(seen.signed.claims) else Reason.TOKEN_FOREIGN

    def recognises(self, claims: Mapping[str, Any]) -> bool:
        """True if the app says that the claims are those of a session, or is not asked."""
        if self.recognise is None:
            return True
        try:
            recognised = self.recognise(claims)
            return bool(recognised) and not inspect.isawaitable(recognised)
        except Exception:  # the app's code, given a payload of any shape
            return False

    def is_over(self, now: float) -> bool:
        """True once no token can be admitted by the line any more: it may be deleted."""
        return now >= self.ends_at

    def _accepts_any_issuer(self, iss: str | UnsetType) -> bool:
        """Where none is configured, own tokens may name one: another release minted them. Foreign ones may not."""
        return self.issuer is None and (iss is UNSET or self.kind != "foreign")

    def _names_audience(self, aud: str | list[str] | UnsetType) -> bool:
        if aud is UNSET:
            return not self.audiences
        return not self.audiences.isdisjoint(aud if isinstance(aud, list) else (aud,))

    def _names_version(self, claims: Mapping[str, Any]) -> bool:
        if self.version_claim is not None and is_version(claims.get(self.version_claim)):
            return True
        return not any(is_version(claims.get(name)) for name in self.other_version_claims)


def audiences_of(audience: str | Sequence[str] | None) -> frozenset[str]:
    """The values of ``aud`` that are accepted; none for tokens without ``aud``."""
    return frozenset([audience] if isinstance(audience, str) else audience or ())


class NotAdmitted(Refusal):
    """The signature holds, and neither today's settings nor a line of ``also_accept`` admit the token.

    ``advice`` is the line that would, where one would.
    """

    def __init__(self, reason: Reason, advice: str | None) -> None:
        super().__init__(reason)
        self.advice = advice


def as_foreign(today: Rules) -> Rules:
    """What the rules of a foreign token begin with."""
    return replace(
        today,
        kind="foreign",
        typs=frozenset(FOREIGN_TYPS),
        issuer=None,
        audiences=frozenset(),
        rows=False,
        version_claim=None,
        other_version_claims=frozenset(),
        recognise=is_session,
    )


def _refuse_times(claims: RegisteredClaims, iat: float, now: float, leeway: float) -> None:
    """Find times at which no rules admit a token; without ``iat``, ``iat`` is ``now``."""
    if iat > now + leeway or claims.nbf > now + leeway:  # -inf where there is no nbf
        raise Refusal(Reason.TOKEN_NOT_YET_VALID)
    if claims.auth_time is not UNSET and claims.auth_time > iat + leeway:
        raise Refusal(Reason.CLAIMS_INVALID)
    if now >= claims.exp + leeway:
        raise Refusal(Reason.TOKEN_EXPIRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedRules:
    """All rules of an authority, today's and those of its lines."""

    today: Rules
    """For own tokens."""
    remote: Rules | None
    """For the tokens of remote keys, which need no line; None where the keys are configured."""
    own_kids: frozenset[str | None] | None
    """The keys that sign own tokens; None: all that are not foreign."""
    own_lines: tuple[Rules, ...]
    foreign_lines: tuple[Rules, ...]
    own_typs: frozenset[str]

    @property
    def lines(self) -> tuple[Rules, ...]:
        return (*self.own_lines, *self.foreign_lines)

    def admitting(
        self, signed: SignedClaims, registered: RegisteredClaims, raw: RawToken, now: float
    ) -> tuple[Rules, tuple[str, ...]]:
        """The rules that admit a token, and the keywords of their line that it needed: none by today's rules.

        Args:
            signed: The claims, whose signature holds.
            registered: Those that are checked here.
            raw: The token; where it came from is a rule too.
            now: Seconds since the epoch.

        Raises:
            NotAdmitted: No rules admit it; with the reason by today's, or for a foreign token by its line.
            Refusal: ``claims_invalid``, ``token_expired``, ``token_not_yet_valid``: by no rules.
        """
        today = self.today
        iat = now if registered.iat is UNSET else registered.iat
        if signed.own and today.rows and registered.auth_time is UNSET:
            raise Refusal(Reason.CLAIMS_INVALID)
        _refuse_times(registered, iat, now, today.leeway)
        lifetime, unmet = registered.exp - iat, {}
        rules = today if signed.own else self.remote
        if rules is not None:
            unmet = rules.unmet(signed, registered, lifetime, raw)
            if not unmet:
                if rules.recognise is None or rules.recognises(signed.claims):
                    return rules, ()
                unmet["recognise"] = Reason.TOKEN_FOREIGN
        return self._line_for(Presentation(signed, registered, lifetime, raw), unmet, now)

    def _line_for(self, seen: Presentation, unmet: dict[str, Reason], now: float) -> tuple[Rules, tuple[str, ...]]:
        """The first line that admits a token which today's rules do not; ``unmet``: what they ask in vain."""
        reasons = list(unmet.values())
        for rules in self.own_lines if seen.signed.own else self.foreign_lines:
            reason = rules.admits(seen, now)
            if reason is None:
                needed = rules.needed_for(self.today.unmet(*seen))
                return rules, (*needed, "key") if seen.signed.key_foreign else needed
            if not seen.signed.own and reason is not Reason.TOKEN_FOREIGN:
                reasons.append(reason)
        raise NotAdmitted(next(iter(reasons), Reason.TOKEN_FOREIGN), self._advice(seen, unmet, now))

    def _advice(self, seen: Presentation, unmet: Mapping[str, Reason], now: float) -> str | None:
        """The line that would admit a token, if one may be advised."""
        if seen.signed.own:
            return None if unmet.keys() & {"recognise", "iat", "scheme"} else _line("before", unmet, seen, now)
        claims = seen.signed.claims
        asked = [each.recognises(claims) for each in (self.remote, *self.foreign_lines) if each is not None]
        if not (any(asked) if asked else is_session(claims)):
            return "none: its claims are not those of a session, unless recognise=… says so"
        return _line("foreign", as_foreign(self.today).unmet(*seen), seen, now)

    def longest_life(self) -> float:
        """The longest life of a token that any rules admit, in seconds."""
        return max(rules.window for rules in (self.today, *self.lines))

    def cookies(self) -> tuple[SessionCookie, ...]:
        """Every cookie that a token may come in or was ever set in, today's first; each scope once."""
        found = {cookie.scope: cookie for cookie in (self.today.cookie, *(rules.cookie for rules in self.lines))}
        return tuple(found.values())


_CENTURY: Final = 36_500 * 86_400.0


def _line(kind: str, unmet: Mapping[str, Reason], seen: Presentation, now: float) -> str:
    """The line that would admit a token, a week long. It quotes no claim."""
    moment = datetime.fromtimestamp(now, UTC) + timedelta(days=7)
    values = {
        "issuer": "None" if seen.registered.iss is UNSET else '"…"',
        "audience": "None" if seen.registered.aud is UNSET else '"…"',
        "window": f"timedelta(days={ceil(min(seen.lifetime, _CENTURY) / 86_400)})",
        "store": "None",
        "iat": "False",
        "typ": '"…"',
        "cookie": f'SessionCookie("{seen.raw.cookie}")',
        "scheme": f'"{seen.raw.scheme}"',
        "version_claim": '"…"',
    }
    date = f"datetime({moment.year}, {moment.month}, {moment.day}, tzinfo=UTC)"
    arguments = [f"before={date}" if kind == "foreign" else date, *(f"{name}={values[name]}" for name in unmet)]
    return f"Envelope.{kind}({', '.join(arguments)})"
