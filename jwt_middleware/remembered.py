"""Tokens that were accepted before: what is spared of the path, and for how long.

Of a plain token all is spared but its session's state, which is asked for again from time to time: ``hit`` is answered
from memory, ``again`` waits for the store. Of any other token the verification is spared.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, Generic

from .activity import Activity
from .errors import Refusal
from .ports import Clock
from .revocation import STALE, RevocationView
from .schema import SessionSchema
from .seen import Entry, Seen
from .tallies import Tallies
from .tokens import pack, unpack
from .types import S, SessionKey, TokenInfo, VerifiedToken

_MOST_ENDED: Final = 10_000


class Remembered(Generic[S]):
    """The table of such tokens, by digest, and all that may be said of them without reading one again."""

    def __init__(
        self,
        *,
        schema: SessionSchema[S],
        revocation: RevocationView | None,
        activity: Activity | None,
        tallies: Tallies,
        clock: Clock,
        limit: int,
    ) -> None:
        self._build: Final = schema.build
        self._subject: Final = schema.subject_attribute
        self._revocation: Final = revocation
        self._activity: Final = activity
        self._cells: Final = tallies.cells
        self._monotonic: Final[Callable[[], float]] = clock.monotonic
        self.seen: Final = Seen(limit)
        self._find: Final = self.seen.get
        self._ended: Final[set[str | None]] = set()
        self.generation = 0
        """How often something was revoked here: what was asked for before may be false by now."""

    def hit(self, key: bytes) -> tuple[S, TokenInfo] | None:
        """The plain hit, or None where the path must decide. Never suspends."""
        entry = self._find(key)
        if entry is None:
            return None
        frozen, info, deadline, cell, _, _ = entry
        if info is None or (self._ended and info.session_id in self._ended):
            return None
        try:
            session = self._build(frozen)
        except Exception:  # the session class runs code of the app's, which may change its mind
            return None
        if deadline <= self._monotonic() and not self._stands(key, entry, session):
            return None
        self._cells[cell] += 1
        return session, info

    async def again(self, key: bytes) -> tuple[S, TokenInfo] | Refusal | float | None:
        """A plain token whose session must be asked for: as a hit, or what the path would be told if it asked.

        That is a Refusal, or :data:`STALE`. None: no such token, nothing was asked.
        """
        entry, revocation = self._find(key), self._revocation
        if entry is None or revocation is None:
            return None
        frozen, info, _, cell, ends, auth_time = entry
        if info is None or info.session_id in self._ended or ends <= self._monotonic():
            return None
        generation = self.generation
        try:
            session = self._build(frozen)
        except Exception:  # as above
            return None
        try:
            checked = await revocation.ask(self._asked(info, session), since(auth_time), listed=True)
        except Refusal as refusal:
            return refusal
        if checked == STALE:
            return checked
        if generation == self.generation:
            self._extend(key, entry, checked)
        self._note(info)
        self._cells[cell] += 1
        return session, info

    def verified(self, key: bytes) -> VerifiedToken | None:
        """A token of which only the verification is spared."""
        entry = self._find(key)
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
    ) -> None:
        """A plain token. Its session is known to be active until ``checked``; all else holds until ``ends``."""
        self.seen.put(key, (frozen, info, min(ends, checked), cell, ends, token.auth_time))

    def put_verified(self, key: bytes, token: VerifiedToken, *, ends: float) -> None:
        """Any other token, unless it is known: what is known of it was read at the same time."""
        if not self._holds(self._find(key)):
            self.seen.put(key, (pack(token), None, ends, 0, ends, None))

    def forget(self, session_id: str | None = None) -> None:
        """A session was revoked here (None: many): the next request of this process sees it."""
        self.generation += 1
        if session_id is None or len(self._ended) >= _MOST_ENDED:
            self.seen.clear()
            self._ended.clear()
        if session_id is not None:
            self._ended.add(session_id)

    def _stands(self, key: bytes, entry: Entry, session: S) -> bool:
        """Whether a token past its deadline lacked nothing but a newer answer of the store, and there is one."""
        _, info, _, _, ends, auth_time = entry
        if self._revocation is None or info is None or ends <= self._monotonic():
            return False
        try:
            checked = self._revocation.check_now(self._asked(info, session), since(auth_time), listed=True)
        except Refusal:  # the path says so, and counts it
            return False
        if checked is None:
            return False
        self._extend(key, entry, checked)
        self._note(info)
        return True

    def _asked(self, info: TokenInfo, session: S) -> SessionKey:
        return SessionKey(session_id=info.session_id, user_id=str(getattr(session, self._subject)))

    def _extend(self, key: bytes, entry: Entry, checked: float) -> None:
        frozen, info, deadline, cell, ends, auth_time = entry
        if checked > deadline:
            self.seen.put(key, (frozen, info, min(ends, checked), cell, ends, auth_time))

    def _note(self, info: TokenInfo) -> None:
        if self._activity is not None and info.session_id is not None:
            self._activity.note(info.session_id)

    def _holds(self, entry: Entry | None) -> bool:
        return entry is not None and entry[2] > self._monotonic()


def since(auth_time: float | None) -> float:
    """What marks are compared with: before everything, where nobody knows."""
    return -math.inf if auth_time is None else auth_time
