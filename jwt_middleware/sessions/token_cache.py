"""Tokens that were accepted before: what is spared of the path, and for how long.

Of a plain token all is spared but its session's state, which is asked for again from time to time: ``hit`` is answered
from memory, ``again`` waits for the store. Of any other token the verification is spared.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, Generic

from ..counters import Counters
from ..errors import Refusal
from ..lookup.cache import make_room
from ..payload.schema import SessionSchema
from ..protocols import Clock
from ..tokens.jwt import pack, unpack
from ..types import S, SessionKey, TokenInfo, VerifiedToken
from .activity import Activity
from .checker import STALE, SessionChecker

Entry = tuple[bytes, TokenInfo | None, float, int, float, float | None]
"""What the session is built from; the facts of its token; the monotonic moment until which both hold; the counter
that a cache hit increments; the moment until which they would hold if only the session were known active; the token's
 ``auth_time``. Without the facts the bytes are the verified token, and no plain hit comes of it."""


class Seen:
    """The table; the oldest entries leave first when it is full."""

    __slots__ = ("__weakref__", "_entries", "_limit", "get")

    def __init__(self, limit: int) -> None:
        self._entries: Final[dict[bytes, Entry]] = {}
        self._limit: Final = limit
        self.get: Final = self._entries.get
        """The bound method of the dictionary: the hot path asks once a request."""

    def put(self, key: bytes, entry: Entry) -> None:
        self._entries.pop(key, None)
        make_room(self._entries, self._limit)
        self._entries[key] = entry

    def drop(self, key: bytes) -> None:
        self._entries.pop(key, None)

    def clear(self) -> None:
        self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)


_MOST_ENDED: Final = 10_000


class TokenCache(Generic[S]):
    """The table of such tokens, by digest, and all that may be said of them without reading one again."""

    def __init__(
        self,
        *,
        schema: SessionSchema[S],
        revocation: SessionChecker | None,
        activity: Activity | None,
        counters: Counters,
        clock: Clock,
        leeway: float,
        limit: int,
    ) -> None:
        self._schema: Final = schema
        self.build: Final = schema.build
        self._revocation: Final = revocation
        self._activity: Final = activity
        self.counts: Final = counters.counts
        self._now: Final = clock.now
        self.monotonic: Final[Callable[[], float]] = clock.monotonic
        self._leeway: Final = leeway
        self.seen: Final = Seen(limit)
        self.find: Final = self.seen.get
        self.ended: Final[set[str | None]] = set()
        self.generation = 0
        """How often something was revoked here: what was asked for before may be false by now."""

    def hit(self, key: bytes) -> tuple[S, TokenInfo] | None:
        """The plain hit of any carrier, or None where the path must decide. Never suspends."""
        generation, entry = self.generation, self.find(key)
        if entry is None:
            return None
        frozen, info, deadline, cell, _, _ = entry
        if info is None or (self.ended and info.session_id in self.ended):
            return None
        try:
            session = self.build(frozen)
        except Exception:  # the session class runs code of the app's, which may change its mind
            return None
        if deadline <= self.monotonic() and not self.stands(key, entry, info, generation):
            return None
        self.counts[cell] += 1
        return session, info

    async def again(self, key: bytes) -> tuple[S, TokenInfo] | Refusal | float | None:
        """A plain token whose session must be asked for: as a hit, or what the path would be told if it asked.

        That is a Refusal, or :data:`STALE`. None: no such token, nothing was asked.
        """
        generation, entry, revocation = self.generation, self.find(key), self._revocation
        if entry is None or revocation is None:
            return None
        frozen, info, _, cell, _, auth_time = entry
        if info is None or info.session_id in self.ended or not self._holds_but_for_its_session(entry, info):
            return None
        try:
            session = self.build(frozen)
        except Exception:  # as above
            return None
        try:
            checked = await revocation.ask(self._asked(frozen, info), since(auth_time), listed=True)
        except Refusal as refusal:
            return refusal
        if checked == STALE:
            return checked
        self._extend(key, entry, checked, generation)
        self._note(info)
        self.counts[cell] += 1
        return session, info

    def verified(self, key: bytes) -> VerifiedToken | None:
        """A token of which only the verification is spared."""
        entry = self.find(key)
        return None if entry is None or entry[1] is not None or not self._holds(entry) else unpack(entry[0])

    def put(
        self,
        key: bytes,
        token: VerifiedToken,
        frozen: bytes,
        info: TokenInfo,
        cell: int,
        *,
        checked: float,
        ends: float,
        generation: int,
    ) -> None:
        """A plain token. Its session is known to be active until ``checked``; all else holds until ``ends``.

        ``generation``: what it was when the request began; nothing is remembered if it is another one by now.
        """
        self._put(key, (frozen, info, min(ends, checked), cell, ends, token.auth_time), generation)

    def put_verified(self, key: bytes, token: VerifiedToken, *, ends: float, generation: int) -> None:
        """Any other token, unless it is known: what is known of it was read at the same time."""
        if not self._holds(self.find(key)):
            self._put(key, (pack(token), None, ends, 0, ends, None), generation)

    def forget(self, session_id: str | None = None) -> None:
        """A session was revoked here (None: many): the next request of this process sees it."""
        self.generation += 1
        if session_id is None or len(self.ended) >= _MOST_ENDED:
            self.seen.clear()
            self.ended.clear()
        if session_id is not None:
            self.ended.add(session_id)

    def stands(self, key: bytes, entry: Entry, info: TokenInfo, generation: int) -> bool:
        """Whether a token past its deadline lacked nothing but a newer answer of the store, and there is one."""
        if self._revocation is None or not self._holds_but_for_its_session(entry, info):
            return False
        try:
            checked = self._revocation.check_now(self._asked(entry[0], info), since(entry[5]), listed=True)
        except Refusal:  # the path says so, and counts it
            return False
        if checked is None:
            return False
        self._extend(key, entry, checked, generation)
        self._note(info)
        return True

    def _holds_but_for_its_session(self, entry: Entry, info: TokenInfo) -> bool:
        """The wall clock is read too: it may have been set meanwhile."""
        now = self._now()
        return (
            entry[4] > self.monotonic()
            and now < info.exp + self._leeway
            and (info.iat is None or info.iat <= now + self._leeway)
        )

    def _asked(self, frozen: bytes, info: TokenInfo) -> SessionKey:
        return SessionKey(session_id=info.session_id, user_id=self._schema.subject_in(frozen))

    def _extend(self, key: bytes, entry: Entry, checked: float, generation: int) -> None:
        frozen, info, deadline, cell, ends, auth_time = entry
        if checked > deadline:
            self._put(key, (frozen, info, min(ends, checked), cell, ends, auth_time), generation)

    def _put(self, key: bytes, entry: Entry, generation: int) -> None:
        """Unless something was revoked here since: looked at afterwards, since another thread may revoke in between."""
        self.seen.put(key, entry)
        if generation != self.generation:
            self.seen.drop(key)

    def _note(self, info: TokenInfo) -> None:
        if self._activity is not None and info.session_id is not None:
            self._activity.note(info.session_id)

    def _holds(self, entry: Entry | None) -> bool:
        return entry is not None and entry[2] > self.monotonic()


def since(auth_time: float | None) -> float:
    """What marks are compared with: before everything, where nobody knows."""
    return -math.inf if auth_time is None else auth_time
