"""The values that cross module borders: frozen, slotted, keyword-only, and silent about what they hold.

Times are seconds since the epoch (RFC 7519 ``NumericDate``) unless a name or a docstring says otherwise. What
comes out of a token or a table is kept out of ``repr``, because reprs end in logs.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Generic, Literal, NamedTuple, Self, TypeVar
from uuid import UUID

import msgspec

from .errors import ConfigError, Reason, refuse_numbers

_HIDDEN: Final = frozenset(
    {"session_id", "user_id", "subject", "session", "token", "value", "registered", "sid", "sub", "jti"}
)
"""Fields that come out of a token or hold such values; mappings are hidden too."""


class Value(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Holds no reference back to itself, so that the garbage collector need not track it."""

    def __repr__(self) -> str:
        shown = (f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({', '.join(shown)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """The fields to show, also to rich; msgspec would show them all."""
        fields = [(name, getattr(self, name)) for name in self.__struct_fields__ if name not in _HIDDEN]
        return [(name, value) for name, value in fields if not isinstance(value, Mapping)]

    def replace(self, **changes: Any) -> Self:
        """A copy with other values in some fields."""
        return msgspec.structs.replace(self, **changes)


class Untracked(msgspec.Struct, gc=False):
    """As :class:`Value`, but it may change. It may hold a session, so it shows nothing."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


FOREVER: Final = timedelta(days=36_500)


class Purged(NamedTuple):
    """How many rows of each table were deleted."""

    sessions: int
    marks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What stays, and for how long; the store's clock decides.

    Raises:
        ConfigError: A negative time, one beyond a hundred years, or a chunk that is not between 1 and 10,000.
    """

    expired: timedelta = timedelta(days=1)
    """How long a session's row stays after it expired."""
    longest_token: timedelta | None = None
    """How long a token lives at most. A mark stays that long after it was set, and a revoked row that long after it
    expired: a token without ``sid`` may outlive its row. None if it is unknown: then marks stay for good."""
    chunk: int = 1_000
    """Rows that one transaction deletes."""

    def __post_init__(self) -> None:
        longest = timedelta(0) if self.longest_token is None else self.longest_token
        refuse_numbers(expired=self.expired, longest_token=longest)
        if not all(timedelta(0) <= time <= FOREVER for time in (self.expired, longest)):
            raise ConfigError(f"Retention times must lie between 0 and 36,500 days, got {self.expired} and {longest}")
        if not 1 <= self.chunk <= 10_000:
            raise ConfigError(f"Retention(chunk=…) must lie between 1 and 10,000 rows, got {self.chunk}")

    def expired_before(self, now: datetime) -> datetime:
        """Rows that expired before this may go."""
        return now - self.expired

    def revoked_before(self, now: datetime) -> datetime:
        """Rows that were revoked may go where they expired before this."""
        return now - max(self.expired, self.longest_token or self.expired)

    def marks_before(self, now: datetime) -> int | None:
        """Marks that were set before this may go; microseconds since the epoch, as they are written."""
        return None if self.longest_token is None else int((now - self.longest_token).timestamp() * 1e6)


S = TypeVar("S")
"""The app's own session class."""


class Carrier(StrEnum):
    """Where a token came from."""

    COOKIE = "cookie"
    BEARER = "bearer"


class RawToken(NamedTuple):
    """A token as it arrived, unverified; a tuple, since many requests make one."""

    value: bytes
    carrier: Carrier
    cookie: str | None = None
    """The name of its cookie, if that is not today's."""
    scheme: str | None = None
    """The scheme that stood before it in its cookie (RFC 9110 section 11.1), if one did."""

    def __repr__(self) -> str:
        return f"RawToken(carrier={self.carrier!r}, cookie={self.cookie!r}, scheme={self.scheme!r})"


class SignedClaims(Value, frozen=True, kw_only=True, gc=False):
    """A payload whose signature holds and whose claims are not checked yet."""

    claims: Mapping[str, Any]
    key_id: str
    """The name of the key in metrics and logs: its ``kid`` or a placeholder."""
    typ: str
    """Of the header (RFC 7519 section 5.1), in lower case and without ``application/``; empty where it is absent."""
    own: bool
    """Minted by this package: its header says so, and its key is not a foreign one."""
    key_until: float | None = None
    """When the key stops verifying, if it does."""
    key_foreign: bool = False
    """True for a ``Key(…, foreign=True)``."""


class VerifiedToken(Value, frozen=True, kw_only=True, gc=False):
    """A token that passed every rule of RFC 7519 and of this package; its payload may be of an older version."""

    claims: Mapping[str, Any]
    key_id: str
    payload_version: int
    issued_at: float | None
    expires_at: float
    session_id: str | None
    """``sid``; None for a token that never had a row: an own one without, and every foreign one."""
    auth_time: float | None
    """When the user logged in (OpenID Connect Core section 2); no reissue or renewal changes it. None: foreign."""
    began_at: float | None
    """What is compared with the marks of a store; None precedes every mark."""
    valid_until: float
    """The last moment this token is accepted: ``exp`` + leeway, or the end of its key or line if that comes first."""
    typ: str = ""
    """Of its header; empty for that of tokens that are minted today."""
    own: bool = True
    """Minted by this package."""
    envelope: str | None = None
    """The name of the line of ``also_accept`` that admits it; None: today's settings do."""
    needed: tuple[str, ...] = ()
    """The keywords of that line without which it would be refused."""
    replaceable: bool = True
    """It may be reissued or renewed: it is own, and no sibling host can have put it where it was found."""
    version_claim: str | None = None
    """The claim that held the payload version, where that is not today's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalDue:
    """A newer token that the response to a request may carry, and what it is made of."""

    trigger: Literal["reissue", "renew"]
    token: VerifiedToken
    key: SessionKey = field(repr=False)
    """Its session; also of a token without ``sid``."""
    claims: dict[str, Any] = field(repr=False)
    """Today's claims, with those the schema does not know; for a renewal without what the fallback filled."""
    times: dict[str, float] = field(default_factory=dict)
    """The new ``iat`` and ``exp`` of a renewal; a reissue keeps both."""


class FilledClaim(Value, frozen=True, kw_only=True, gc=False):
    """One missing claim of one request, what filled it, and how the attempt ended."""

    claim: str
    source: Literal["database", "cache", "coalesced", "default", "none"]
    outcome: FillOutcome


class FillOutcome(StrEnum):
    """How the search for one missing claim ended, from best to worst."""

    __hash__ = str.__hash__  # that of Enum is a Python function, called for each count
    RESOLVED = "resolved"
    NULL = "null"
    NOT_FOUND = "not_found"
    INVALID = "invalid"
    SHED = "shed"
    BREAKER_OPEN = "breaker_open"
    TIMEOUT = "timeout"
    ERROR = "error"


class TokenInfo(Value, frozen=True, kw_only=True, gc=False):
    """What the app may know about the token behind its session: ``request.state.token``."""

    version: int
    """The payload version the token was minted with."""
    iat: float | None
    exp: float
    session_id: str | None = None
    """``sid``; None for a token without a row in a session store."""
    own: bool = True
    """Minted by this package; False for a token of the app's former code or of another issuer."""
    envelope: str | None = None
    """The name of the line of ``also_accept`` that admitted it; None for a token of today's settings."""
    auth_time: float | None = None
    """When the user logged in, seconds since the epoch; None for a foreign token."""
    filled: tuple[FilledClaim, ...] = ()
    """The claims the fallback filled for this request; empty for a token of today's payload."""

    @property
    def issued_at(self) -> datetime | None:
        """``iat`` as an aware UTC datetime; None if the token has none."""
        return None if self.iat is None else moment(self.iat)

    @property
    def expires_at(self) -> datetime:
        """``exp`` as an aware UTC datetime."""
        return moment(self.exp)


class Fallback(Value, frozen=True, kw_only=True, gc=False):
    """The fallback of one request: which claims, from where, how long it took."""

    claims: tuple[FilledClaim, ...]
    outcome: FillOutcome
    """The worst of its claims."""
    started_at: int
    ended_at: int
    """Wall clock, nanoseconds, both."""
    lookups: tuple[object, ...] = ()
    """Handles of observers for the queries it waited for; opaque here."""


Minted = Literal["before_change", "after_change", "unknown"]
Result = Literal["accepted", "anonymous", "refused"]


class Outcome(Value, Generic[S], frozen=True, kw_only=True, gc=False):
    """What was decided about one request. One exists for each request that is not a cache hit."""

    result: Result
    reason: Reason | None = None
    """Why it was refused, or why it is anonymous."""
    claim: str | None = None
    """Wire name of the claim that the reason is about, if there is one."""
    session: S | None = None
    token: TokenInfo | None = None
    subject: str | None = None
    carrier: Carrier | None = None
    key_id: str | None = None
    payload_version: str | None = None
    """As metrics label it: a number, ``newer`` or ``unknown``; None if nothing was verified."""
    payload_expected: int = 1
    """The version this process reads."""
    minted: Minted | None = None
    """If an older payload was accepted: whether it was minted before or after the planned change."""
    token_age: float | None = None
    """Seconds since ``iat``."""
    fallback: Fallback | None = None
    auth_time: float | None = None
    stale: bool = False
    """The session's status was older than ``max_staleness``, or unknown, while the store could not be asked."""
    renewal: RenewalDue | None = None
    """The newer token that the response may carry."""
    advice: str | None = None
    """If its signature holds and it is refused: the line of ``also_accept`` that would admit it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupFacts:
    """One finished query: how many keys it asked for, how long it took, how it ended, the class it raised."""

    lookup: Literal["claims", "sessions"]
    outcome: Literal["ok", "error", "timeout"]
    keys: int
    waiters: int
    duration: float
    """Seconds, monotonic."""
    error_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A freshly minted token and the cookie that carries it."""

    token: str = field(repr=False)
    set_cookie: list[str] = field(repr=False)
    """The Set-Cookie values: they clear every other scope that the cookie had, then set it."""
    session_id: str | None = field(repr=False)
    """The id of its row in the session store; None without one."""
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """One row of ``user_sessions``. ``session_token`` is a digest, so that a stolen table opens nothing."""

    id: str = field(repr=False)
    user_id: str = field(repr=False)
    session_token: str = field(repr=False)
    """SHA-256 of the session's newest token, hexadecimal."""
    expires_at: datetime
    last_activity_at: datetime
    created_at: datetime
    is_active: bool = True
    revoked_at: datetime | None = None
    label: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionCursor:
    """Where a page of a user's sessions ended: the next one begins after it."""

    last_activity_at: datetime
    id: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserSessions:
    """How many active sessions a user has, and the latest activity of them."""

    user_id: str = field(repr=False)
    sessions: int
    last_activity_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionKey:
    """The key of a status: one session of one user."""

    session_id: str | None = field(repr=False)
    user_id: str = field(repr=False)
    """The subject as today's payload has it."""
    token_user_id: str | None = field(default=None, repr=False)
    """The subject as the token itself has it, where an upgrade step changed it: the row may have either."""

    @property
    def user_ids(self) -> tuple[str, ...]:
        """The user ids that its row and its marks may have."""
        return (self.user_id,) if self.token_user_id is None else (self.user_id, self.token_user_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStatus:
    """What a store says of a :class:`SessionKey`."""

    known: bool
    """There is a row with that id, and it is that user's."""
    active: bool
    not_before: float | None = None
    """The later of the user's and the global mark, or None: a session whose ``auth_time`` is not later is revoked."""


def moment(seconds: float) -> datetime:
    """Seconds since the epoch as an aware UTC datetime."""
    return datetime.fromtimestamp(seconds, UTC)


EVERYBODY: Final = ""
"""The user id of the mark on the sessions of all users; no subject is empty."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Revokes the sessions that began no later than ``not_before`` (microseconds since the epoch), except ``kept``."""

    not_before: int
    kept: str | None = None


Marks = Mapping[str, Mark]
"""Marks by user id; :data:`EVERYBODY` has its own."""


def marks_on(marks: Marks, *user_ids: str) -> list[Mark]:
    """The marks on a user, whose id may have two spellings, and the mark on all users, where they are set."""
    return [marks[key] for key in (*user_ids, EVERYBODY) if key in marks]


def later_than(marks: Iterable[Mark], now: int) -> int:
    """``now``, or the microsecond after these marks if the clock stands still or was set back: logins follow marks."""
    return max([now, *(mark.not_before + 1 for mark in marks)])


def not_before(marks: Marks, key: SessionKey) -> float | None:
    """The latest mark that applies to a session, in seconds since the epoch."""
    found = marks_on(marks, *key.user_ids)
    applying = [mark.not_before for mark in found if mark.kept is None or mark.kept != key.session_id]
    return max(applying) / 1e6 if applying else None


def is_marked(marks: Marks, record: SessionRecord) -> bool:
    """True if a mark revokes the session of that row."""
    latest = not_before(marks, SessionKey(session_id=record.id, user_id=record.user_id))
    return latest is not None and record.created_at.timestamp() <= latest


def status_of(key: SessionKey, row: Any, marks: Marks) -> SessionStatus:
    """The status of a key; ``row`` is the row with its session id (``user_id``, ``is_active``), or None."""
    known = row is not None and row.user_id in key.user_ids
    return SessionStatus(known=known, active=known and row.is_active, not_before=not_before(marks, key))


def uuid_of(text: str | None) -> UUID | None:
    """The UUID of its canonical spelling (RFC 9562, section 4, in lower case); None for every other text."""
    try:
        parsed = UUID(text or "")
    except ValueError:
        return None
    return parsed if str(parsed) == text else None


_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def is_identifier(value: object) -> bool:
    """True for text that may name a subject, a session or a user: 1 to 255 characters, no control characters."""
    return isinstance(value, str) and 0 < len(value) <= 255 and (value.isprintable() or _CONTROL.search(value) is None)


_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def words_of(name: str) -> list[str]:
    """The words of a name in lower case, whatever its spelling: ``passwordReset``, ``password_reset``."""
    return [word.lower() for word in _WORD.findall(name)]


def is_version(value: object) -> bool:
    """True for a payload version: an integer of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def name_of_type(given: object) -> str:
    """What to call a wrong value in an error: its class, whose name holds nothing secret."""
    return f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__


def is_async(function: object) -> bool:
    """True for a function whose call returns a coroutine or an async generator, and so is never what it seems."""
    calls = (function, getattr(function, "__call__", None))  # noqa: B004 - of an object whose call is async
    return any(inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call) for call in calls)
