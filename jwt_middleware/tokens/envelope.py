"""What surrounds the payload, and how it changes: the settings under which living tokens were, or will be, minted.

A setting of the authority (its window, ``aud``, the cookie, …) holds for the tokens that are minted today. Each line of
``also_accept`` is an :class:`Envelope`: it says what a setting was before, will be in the next release, or was in other
code. :func:`resolve` makes the :class:`Rules` of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final, Literal, TypedDict, Unpack

from ..errors import ConfigError, refuse_numbers
from ..types import FOREVER, name_of_type
from .cookies import SessionCookie
from .rules import (
    PLAIN_TYP,
    REGISTERED,
    AcceptedRules,
    Kind,
    Recognise,
    Rules,
    as_foreign,
    audiences_of,
    is_session,
    normal_typ,
    refuse_recognise,
)


class _Changes(TypedDict, total=False):
    """The settings that a line may have otherwise."""

    window: timedelta
    issuer: str | None
    audience: str | Sequence[str] | None
    store: None
    cookie: SessionCookie
    typ: str
    version_claim: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One line of ``also_accept``: what else is alive. Use :meth:`before`, :meth:`coming` or :meth:`foreign`.

    A keyword is a setting of :class:`SessionAuthority` with its other value: ``window``, ``issuer``, ``audience``,
    ``store=None`` (sessions had no rows), ``cookie``, ``typ``, ``version_claim``.
    """

    kind: Kind
    name: str
    """In metrics, logs and ``request.state.token.envelope``."""
    moment: datetime | None
    changes: Mapping[str, Any]
    iat: bool = True
    scheme: str | None = None
    recognise: Recognise = is_session

    @classmethod
    def before(cls, moment: datetime, /, *, name: str | None = None, **changes: Unpack[_Changes]) -> Envelope:
        """Own tokens that were minted before a moment, when these settings were others.

        What a line leaves out is as in the ``before`` above it, in the first as today: a release that changes a setting
        adds one line on top and edits none.

        Args:
            moment: When the last instance of the former release is gone, aware. Later only moves the end.
            name: Default ``before-2026-12-01``.
            changes: The settings as they were.

        Raises:
            ConfigError: A value cannot work, or nothing is changed; the message says how to fix it.
        """
        _refuse_moment("before", moment)
        return cls._line("before", moment, name, changes)

    @classmethod
    def coming(cls, *, name: str = "coming", **changes: Unpack[_Changes]) -> Envelope:
        """Own tokens of the next release: deploy this to every reader first, and mint them with the release after.

        Args:
            name: As for :meth:`before`.
            changes: The settings as they will be.

        Raises:
            ConfigError: As for :meth:`before`.
        """
        return cls._line("coming", None, name, changes)

    @classmethod
    def foreign(
        cls,
        *,
        before: datetime | None = None,
        name: str | None = None,
        iat: bool = True,
        scheme: Literal["Bearer"] | None = None,
        recognise: Recognise = is_session,
        **changes: Unpack[_Changes],
    ) -> Envelope:
        """Tokens of the app's former code, or of another issuer that shares a key.

        They have no ``iss``, no ``aud``, payload version 1 and the lifetime of ``window`` unless a keyword says
        otherwise, and never a row: their ``sid`` and ``auth_time`` mean nothing. Registered claims that are null count
        as absent, and ``sub`` may be an integer.

        Args:
            before: When the last instance that mints them is gone, aware; None for as long as the line stands.
            name: Default ``foreign-2026-12-01``, or ``foreign``.
            iat: False accepts tokens without ``iat``.
            scheme: ``"Bearer"`` where the cookie holds ``Bearer <token>``, quoted or not.
            recognise: True for the claims of a session; an exception means False.
            changes: As for :meth:`before`. ``typ`` replaces none, ``JWT`` and ``at+jwt``.

        Raises:
            ConfigError: As for :meth:`before`.
        """
        if before is not None:
            _refuse_moment("foreign", before)
        refuse_recognise(recognise)
        if scheme not in (None, "Bearer"):
            raise ConfigError(f'scheme must be "Bearer" or None, got {scheme!r}')
        if "store" in changes:
            raise ConfigError("foreign tokens never have rows: remove store=")
        line = cls._line("foreign", before, name, changes)
        return replace(line, iat=iat, scheme=scheme, recognise=recognise)

    @classmethod
    def _line(cls, kind: Kind, moment: datetime | None, name: str | None, changes: Mapping[str, Any]) -> Envelope:
        if not changes and kind != "foreign":
            raise ConfigError(f"Envelope.{kind} says nothing: name a setting that was or will be another, window=…")
        for keyword, value in changes.items():
            _refuse_value(kind, keyword, value)
        default = kind if moment is None else f"{kind}-{moment.astimezone(UTC):%Y-%m-%d}"
        return cls(kind=kind, name=name or default, moment=moment, changes=dict(changes))


def _refuse_moment(kind: str, moment: object) -> None:
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise ConfigError(
            f"Envelope.{kind} needs an aware datetime, got {moment!r}; use datetime(2026, 12, 1, tzinfo=UTC)"
        )
    if not 1970 <= moment.year <= 9000:
        raise ConfigError(f"Envelope.{kind} needs a moment between the years 1970 and 9000, got {moment!r}")


_VALUES: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "window": (lambda given: timedelta(0) < given <= FOREVER, "a positive timedelta of at most 36,500 days"),
    "issuer": (lambda given: given is None or (isinstance(given, str) and given != ""), "a str, or None for no iss"),
    "audience": (
        lambda given: given is None or (isinstance(given, (str, list, tuple)) and bool(given) and all(given)),
        "a str, a list of str, or None for no aud",
    ),
    "store": (lambda given: given is None, "None: those sessions had no rows"),
    "cookie": (lambda given: isinstance(given, SessionCookie), 'a SessionCookie("name")'),
    "typ": (lambda given: isinstance(given, str) and given != "", 'a str, "JWT"'),
    "version_claim": (
        lambda given: isinstance(given, str) and given != "" and given not in REGISTERED,
        "the name of a claim that is not registered",
    ),
}


def _refuse_value(kind: str, keyword: str, value: object) -> None:
    if keyword not in _VALUES:
        raise ConfigError(f"Envelope.{kind} has no keyword {keyword!r}; use one of {', '.join(_VALUES)}")
    if keyword == "window":
        refuse_numbers(window=value)
    fits, expected = _VALUES[keyword]
    if not fits(value):
        raise ConfigError(f"Envelope.{kind}({keyword}=…) must be {expected}, got {name_of_type(value)}")


def resolve(
    lines: Sequence[Envelope],
    today: Rules,
    *,
    remote: Rules | None = None,
    own_kids: frozenset[str | None] | None = None,
    recognise_own: Recognise = is_session,
) -> AcceptedRules:
    """The rules of each line, in their order: ``before`` inherits from the one above it, the others from today.

    Args:
        lines: As configured.
        today: The rules of today's settings.
        remote: For the tokens of remote keys.
        own_kids: The keys that sign own tokens; None: all that are not foreign.
        recognise_own: Asked about own tokens of the ``typ`` that other tokens of the same key have too.

    Raises:
        ConfigError: The moments of ``before`` do not fall, or two lines have one name.
    """
    _refuse_order(lines)
    resolved, inherited = [], today
    for line in lines:
        if line.kind == "foreign":
            rules = _changed(as_foreign(today), line, recognise_own)
        elif line.kind == "before":
            rules = inherited = _changed(inherited, line, recognise_own)
        else:
            rules = _changed(today, line, recognise_own)
        resolved.append(replace(rules, differs=_differences(rules, today)))
    own = _with_version_claims([today, *(rules for rules in resolved if rules.kind != "foreign")])
    return AcceptedRules(
        today=own[0],
        remote=remote,
        own_kids=own_kids,
        own_lines=tuple(own[1:]),
        foreign_lines=tuple(rules for rules in resolved if rules.kind == "foreign"),
        own_typs=frozenset().union(*(rules.typs for rules in own)),
    )


def _changed(start: Rules, line: Envelope, recognise_own: Recognise) -> Rules:
    values: dict[str, Any] = dict(line.changes)
    if "window" in values:
        values["window"] = values["window"].total_seconds()
        values["longest"] = values["window"] + start.leeway
    if "audience" in values:
        values["audiences"] = audiences_of(values.pop("audience"))
    if "typ" in values:
        values["typs"] = frozenset([normal_typ(values.pop("typ"))])
    if "store" in values:
        values["rows"] = values.pop("store") is not None
    rules = replace(start, **values, name=line.name, kind=line.kind, iat=line.iat, scheme=line.scheme)
    if line.kind == "foreign":
        rules = replace(rules, recognise=line.recognise)
    else:  # of own tokens only those of this typ can be taken for others of the same key
        rules = replace(rules, recognise=recognise_own if PLAIN_TYP in rules.typs else None)
    if line.moment is None:
        return rules
    moment = line.moment.timestamp()
    # by the clock of the machine that minted, and of the one that reads
    return replace(rules, minted_before=moment + rules.leeway, ends_at=moment + rules.window + 2 * rules.leeway)


def _differences(rules: Rules, today: Rules) -> tuple[str, ...]:
    """The keywords by which today's rules may refuse what these admit."""
    differs = {
        "foreign": rules.kind == "foreign",
        "issuer": today.issuer not in (None, rules.issuer),
        "audience": rules.audiences != today.audiences,
        "window": rules.window > today.window,
        "store": today.rows and not rules.rows and rules.kind != "foreign",
        "iat": not rules.iat,
        "typ": rules.typs != today.typs and rules.kind != "foreign",
        "cookie": rules.cookie.name != today.cookie.name,
        "scheme": rules.scheme is not None,
        "version_claim": rules.version_claim != today.version_claim and rules.kind != "foreign",
    }
    return tuple(keyword for keyword, is_other in differs.items() if is_other)


def _with_version_claims(own: Sequence[Rules]) -> list[Rules]:
    """Each knows the version claims of the others."""
    claims = frozenset(rules.version_claim for rules in own if rules.version_claim is not None)
    return [replace(rules, other_version_claims=claims - {rules.version_claim}) for rules in own]


def _refuse_order(lines: Sequence[Envelope]) -> None:
    moments = [line.moment for line in lines if line.kind == "before" and line.moment is not None]
    for later, earlier in pairwise(moments):
        if earlier >= later:
            raise ConfigError(
                f"also_accept is a changelog, newest first: put Envelope.before({earlier:%Y-%m-%d}) above "
                f"Envelope.before({later:%Y-%m-%d}), and give two lines of one moment as one"
            )
    names = [line.name for line in lines]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"two lines of also_accept are named {repeated!r}; give one of them another name=")
