"""Accepted tokens, by digest: what a later request with the same token need not do again.

Of a token of today's payload the cache keeps the JSON of its session, and a later request only rechecks the session's
status. Of any other token it keeps the verified claims, and a later request only skips the verification. An entry holds
for at most :data:`LONGEST` seconds; then the wall clock is read again, whatever happened to it meanwhile.

Entries hold bytes, numbers and values without references to containers: 100,000 of them add nothing to a pause of the
garbage collector.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import takewhile
from typing import Any, ClassVar, Final, Generic, final

from ..counters import Runtime
from ..errors import Reason
from ..lookup.cache import make_room
from ..payload.schema import SessionSchema
from ..tokens.jwt import pack, unpack
from ..types import RenewalDue, Result, S, SessionKey, TokenInfo, Untracked, VerifiedToken
from .activity import LONGEST, Activity
from .checker import SessionChecker, Standing

_MOST_ENDED: Final = 10_000
"""Revoked sessions and users that are kept by name; of more, the cache is emptied instead."""


class CurrentEntry(Untracked, gc=False):
    """A token of today's payload. Times are monotonic."""

    claims: bytes
    """What the session is built from."""
    token: TokenInfo
    counter: int
    """The counter of accepted requests that a cache hit increments."""
    valid_until: float
    """All but the session's status holds until then."""
    fresh_until: float
    """The session's status holds until then, which is never later than ``valid_until``."""


class VerifiedEntry(Untracked, gc=False):
    """Any other token."""

    packed: bytes
    """The :class:`VerifiedToken` as ``tokens.jwt.pack`` wrote it."""
    valid_until: float


@final
class Hit(Untracked, Generic[S], gc=False):
    """The token is accepted as it is; the request is counted. Has the attributes of an accepted :class:`Outcome`."""

    session: S
    token: TokenInfo
    result: ClassVar[Result] = "accepted"
    reason: ClassVar[Reason | None] = None
    renewal: ClassVar[RenewalDue | None] = None


class Unchecked(Untracked, Generic[S], gc=False):
    """The token is accepted if the store says that its session is active."""

    key: bytes
    entry: CurrentEntry
    session: S
    session_key: SessionKey
    generation: int
    """:attr:`TokenCache.generation` when the entry was read."""


class Revoked(Untracked, gc=False):
    """The session's cached status refuses it."""

    standing: Standing


class Verified(Untracked, gc=False):
    """The token needs no verification; everything after it is still to do."""

    token: VerifiedToken


class Unknown(Untracked, gc=False):
    """Nothing is cached for the token."""


UNKNOWN: Final = Unknown()
Recalled = Hit[Any] | Unchecked[Any] | Revoked | Verified | Unknown


class TokenCache(Generic[S]):
    """The table, and what is known of a token without reading it again.

    Args:
        schema: Builds the sessions.
        checker: Knows the status of sessions; None without a store.
        activity: Notes that a session is in use; None without a store.
        leeway: Clock skew allowed between machines, in seconds.
        limit: The most entries. A full table drops its oldest.
    """

    def __init__(
        self,
        *,
        schema: SessionSchema[S],
        checker: SessionChecker | None,
        activity: Activity | None,
        runtime: Runtime,
        leeway: float,
        limit: int,
    ) -> None:
        self._build: Final = schema.build
        self._subject_in: Final = schema.subject_in
        self._checker: Final = checker
        self._activity: Final = activity
        self._counts: Final = runtime.counters.counts
        self._now: Final = runtime.clock.now
        self._monotonic: Final[Callable[[], float]] = runtime.clock.monotonic
        self._leeway: Final = leeway
        self._limit: Final = limit
        self._entries: Final[dict[bytes, CurrentEntry | VerifiedEntry]] = {}
        self._find: Final = self._entries.get
        self._ended: Final[dict[str | None, float]] = {}
        """The sessions and users that this process revoked, by id, and until when an entry may be older than that."""
        self._user_ended_until = 0.0
        """As in ``_ended``, for the last user: until then the subject of a token has to be looked at."""
        self._ending: Final = threading.Lock()
        """Held while ``_ended`` changes: what one thread adds, no other removes."""
        self.generation = 0
        """How often this process revoked something: what a request read under an earlier number is not cached."""

    def __len__(self) -> int:
        return len(self._entries)

    def recall(self, key: bytes) -> Recalled:
        """What is cached for the token with this digest. Never suspends; a hit is counted."""
        generation, entry = self.generation, self._find(key)
        if type(entry) is not CurrentEntry:
            return self.recall_verified(key)
        try:
            session = self._build(entry.claims)
        except Exception:  # the session class runs code of the app, which may raise today and not yesterday
            return UNKNOWN
        if entry.fresh_until > self._monotonic() and not (self._ended and self._may_have_ended(entry)):
            self._counts[entry.counter] += 1
            return Hit(session, entry.token)
        return self._recheck(key, entry, session, generation)

    def recall_verified(self, key: bytes) -> Verified | Unknown:
        """The cached verification of a token, if there is one: no session and no count come of it."""
        entry = self._find(key)
        if type(entry) is not VerifiedEntry or entry.valid_until <= self._monotonic():
            return UNKNOWN
        return Verified(unpack(entry.packed))

    def extend(self, unchecked: Unchecked[S], standing: Standing) -> Hit[S]:
        """The session is active: count the request, note the activity, and keep the entry for longer."""
        entry = unchecked.entry
        entry.fresh_until = min(entry.valid_until, standing.until)
        self._put(unchecked.key, entry, unchecked.generation)
        if self._activity is not None and entry.token.session_id is not None:
            self._activity.note(entry.token.session_id)
        self._counts[entry.counter] += 1
        return Hit(unchecked.session, entry.token)

    def put(self, key: bytes, entry: CurrentEntry, *, generation: int) -> None:
        """Cache a token of today's payload.

        Args:
            key: The digest of the token.
            entry: What to keep.
            generation: :attr:`generation` when the request began; under a later one nothing is cached.
        """
        self._put(key, entry, generation)

    def put_verified(self, key: bytes, token: VerifiedToken, *, valid_until: float, generation: int) -> None:
        """Cache the verified claims of any other token, unless they are cached already."""
        entry = self._find(key)
        if entry is None or entry.valid_until <= self._monotonic():
            self._put(key, VerifiedEntry(pack(token), valid_until), generation)

    def forget(self, session_id: str) -> None:
        """A session was revoked here: the next request with one of its tokens is checked."""
        self._end(session_id)

    def forget_user(self, user_id: str) -> None:
        """The sessions of a user were revoked here. An id that equals one of a session costs a check and no more."""
        self._end(user_id)
        self._user_ended_until = self._monotonic() + LONGEST

    def forget_all(self) -> None:
        """Every session was revoked here, or a key left the key set: nothing that is cached may be trusted."""
        with self._ending:
            self.generation += 1
            self._entries.clear()

    def _end(self, name: str) -> None:
        with self._ending:
            self.generation += 1
            now = self._monotonic()
            # the oldest stand first
            for expired in list(takewhile(lambda each: self._ended[each] <= now, self._ended)):
                del self._ended[expired]
            if len(self._ended) >= _MOST_ENDED:
                self._entries.clear()
                self._ended.clear()
            self._ended[name] = now + LONGEST

    def _recheck(self, key: bytes, entry: CurrentEntry, session: S, generation: int) -> Recalled:
        """Past its time, or perhaps revoked: a newer status of the session may be cached."""
        if self._checker is None or not self._still_valid(entry):
            return UNKNOWN
        session_key = SessionKey(session_id=entry.token.session_id, user_id=self._subject_in(entry.claims))
        unchecked = Unchecked(key, entry, session, session_key, generation)
        standing = self._checker.cached(session_key, entry.token.auth_time, listed=True)
        if standing is None:
            return unchecked
        return Revoked(standing) if standing.reason is not None else self.extend(unchecked, standing)

    def _still_valid(self, entry: CurrentEntry) -> bool:
        """All but the session's status holds. The wall clock is read too: it may have been set meanwhile."""
        now, token = self._now(), entry.token
        return (
            entry.valid_until > self._monotonic()
            and now < token.exp + self._leeway
            and (token.iat is None or token.iat <= now + self._leeway)
        )

    def _may_have_ended(self, entry: CurrentEntry) -> bool:
        now, ended_until = self._monotonic(), self._ended.get
        if ended_until(entry.token.session_id, now) > now:
            return True
        return self._user_ended_until > now and ended_until(self._subject_in(entry.claims), now) > now

    def _put(self, key: bytes, entry: CurrentEntry | VerifiedEntry, generation: int) -> None:
        self._entries.pop(key, None)
        make_room(self._entries, self._limit)
        self._entries[key] = entry
        if generation != self.generation:  # looked at last: another thread may have revoked something meanwhile
            self._entries.pop(key, None)
