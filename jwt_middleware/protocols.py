"""The small Protocols at the edges, which adapters and apps implement; and the clock."""

from __future__ import annotations

import asyncio
import contextvars
import time
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from .types import (
    LookupFacts,
    Outcome,
    Purged,
    Retention,
    SessionCursor,
    SessionKey,
    SessionRecord,
    SessionStatus,
    UserSessions,
)


@runtime_checkable
class Clock(Protocol):
    """Two clocks: ``now`` for claims (seconds since the epoch), ``monotonic`` for caches and time limits."""

    def now(self) -> float: ...
    def monotonic(self) -> float: ...


class SystemClock:
    """The machine's clocks, as bare built-in functions: every request reads one of them."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


def call_weakly_later(seconds: float, method: Callable[[], None]) -> asyncio.TimerHandle:
    """Call a bound method later in the running loop; the timer does not keep its object alive.

    The call runs in an empty context: it belongs to no request's trace.
    """
    weak = weakref.WeakMethod(method)

    def call() -> None:
        if (alive := weak()) is not None:
            alive()

    return asyncio.get_running_loop().call_later(seconds, call, context=contextvars.Context())


class ClaimsSource(Protocol):
    """Where missing claims are fetched from, many keys at a time."""

    @property
    def claims(self) -> frozenset[str]:
        """Wire names of the claims it knows."""

    @property
    def by(self) -> str | None:
        """Wire name of the claim whose value is the key; None means the subject."""

    @property
    def require_row(self) -> bool:
        """True: a key without a row is refused, whatever defaults its claims have."""

    @property
    def resource(self) -> object:
        """What the lookups of one database share (an engine): at most two queries at once for each."""

    async def fetch(self, keys: Collection[str], /) -> Mapping[str, Mapping[str, Any]]:
        """Return a row (wire name to value) for each key that has one; a key it cannot read has none.

        Any exception means that the source could not answer: its text goes nowhere, and nothing is cached.
        """


class SessionStore(Protocol):
    """The table of sessions and its marks. Whatever fails is raised as ``Unavailable``."""

    @property
    def resource(self) -> object:
        """As :attr:`ClaimsSource.resource`."""

    async def stamp(self, user_id: str) -> float:
        """The store's clock, in seconds to the microsecond, later than every mark on that user."""

    async def add(self, record: SessionRecord) -> None:
        """Write the row of a session; its token leaves only after this returned."""

    async def statuses(self, keys: Collection[SessionKey]) -> Mapping[SessionKey, SessionStatus]:
        """One status for every key, by one or two queries: a row and a mark may have any of ``key.user_ids``."""

    async def sessions_of(
        self, user_id: str, *, limit: int | None = None, after: SessionCursor | None = None
    ) -> Sequence[SessionRecord]:
        """The user's active, unexpired sessions, the latest activity first (then the higher id); at most ``limit``."""

    async def active_users(self, *, limit: int, after: str | None = None) -> Sequence[UserSessions]:
        """The users with active, unexpired sessions and how many, by user id in the store's order, after that id."""

    async def revoke(self, session_id: str, *, user_id: str | None = None) -> bool:
        """Revoke one session; False if no active one has that id, or it is another user's."""

    async def replace_token(
        self, key: SessionKey, *, user_id: str, session_token: str, expires_at: datetime | None = None
    ) -> bool:
        """Write the digest of a newer token, the user id that it has, and a later end, to the row of an active session.

        False where no active one has that id and one of the user ids of ``key``. Marks need no look: they are compared
        with ``auth_time``, which no newer token changes.
        """

    async def revoke_token(self, record: SessionRecord) -> None:
        """Write a revoked row for a token that never had one; a row that exists is revoked."""

    async def revoke_user(self, user_id: str, *, keep: str | None = None) -> None:
        """Mark every session of the user up to now as revoked, but ``keep``."""

    async def revoke_all(self) -> None:
        """Mark every session up to now as revoked."""

    async def touch(self, moments: Mapping[str, datetime]) -> None:
        """Move the last activity of at most 1,000 sessions forward: of active rows, and nothing else of them."""

    async def purge(self, retention: Retention = Retention()) -> Purged:
        """Delete what need not be kept, in many small transactions."""


class VerificationKey(Protocol):
    """A key as ``tokens`` sees it: one key, one algorithm."""

    @property
    def id(self) -> str:
        """Its name in metrics and logs."""

    @property
    def kid(self) -> str | None: ...
    @property
    def alg(self) -> str: ...
    @property
    def until(self) -> float | None:
        """The end of verification with it, seconds since the epoch."""

    @property
    def foreign(self) -> bool:
        """It signed foreign tokens only."""

    def verify(self, signing_input: bytes, signature: bytes) -> bool: ...


class KeySource(Protocol):
    """Keys that may change while the process runs."""

    @property
    def usable_until(self) -> float:
        """The monotonic moment until which the result of :meth:`find` holds; infinite if the keys never change."""

    def find(self, kid: str | None, alg: str) -> Sequence[VerificationKey]:
        """The candidate keys, from a snapshot; never blocks.

        Raises:
            Refusal: ``key_unknown``, ``algorithm_mismatch``, or ``keys_unavailable`` where the snapshot is too old.
        """

    async def refresh(self, kid: str | None) -> bool:
        """Fetch the keys, for an unknown ``kid`` or an old snapshot; True if it is worth calling ``find`` again."""


class Observer(Protocol):
    """Sees what happened; synchronous, and never on a cache hit. If it raises, that is counted and changes nothing.

    The handles are opaque: they link a query to the requests that waited for it without this package knowing spans.
    """

    def waiting(self) -> object:
        """A request begins to wait for a query: return a handle of that request."""

    def looking_up(self, lookup: str, waiters: Sequence[object], total: int) -> object:
        """A query begins, in a task of its own: return a handle of the query.

        ``waiters`` are at most 32 handles of requests, ``total`` says how many wait.
        """

    def looked_up(self, handle: object, facts: LookupFacts) -> None:
        """The query with that handle ended."""

    def finished(self, outcome: Outcome[Any]) -> None:
        """A request was decided."""


class SilentObserver:
    """An observer that sees nothing: derive from it and override what you need."""

    def waiting(self) -> object:
        return None

    def looking_up(self, lookup: str, waiters: Sequence[object], total: int) -> object:
        return None

    def looked_up(self, handle: object, facts: LookupFacts) -> None:
        pass

    def finished(self, outcome: Outcome[Any]) -> None:
        pass
