"""Is the session still active? Asked of the store by lookup, and believed for as long as the app allows.

From half of ``max_staleness`` on a session in use is checked again in the background; a request waits only past the
bound. What was revoked stays revoked, whatever the database does.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, Protocol

from . import names
from .errors import ConfigError, Reason, Refusal
from .lookup import Found, LookupFailed
from .ports import Clock
from .tallies import Tallies
from .types import SessionKey, SessionStatus

MOST_KNOWN: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """How old the answer to "is this session active?" may be.

    Raises:
        ConfigError: A negative time, or an unknown policy.
    """

    max_staleness: timedelta = timedelta(seconds=5)
    """A revocation elsewhere, also by plain SQL, is seen within this time."""
    stale_if_error: timedelta = timedelta(0)
    """How much longer the last answer stands while the store cannot be asked."""
    on_unavailable: Literal["refuse", "allow"] = "refuse"
    """After that: 503, or let the session pass, counted in ``revocation.stale``."""

    def __post_init__(self) -> None:
        if self.max_staleness < timedelta(0) or self.stale_if_error < timedelta(0):
            raise ConfigError("Revocation: max_staleness and stale_if_error must not be negative")
        if self.on_unavailable not in ("refuse", "allow"):
            raise ConfigError('Revocation(on_unavailable=…) must be "refuse" or "allow"')


class SessionsLookup(Protocol):
    """The one thing asked of ``lookup`` here."""

    async def get(self, key: SessionKey, *, fresh: bool = False) -> Found[SessionStatus]: ...


class RevocationView:
    """What this process knows of sessions."""

    def __init__(self, settings: Revocation, lookup: SessionsLookup, *, clock: Clock, tallies: Tallies) -> None:
        self._lookup: Final = lookup
        self._staleness: Final = settings.max_staleness.total_seconds()
        self._tolerated: Final = self._staleness + settings.stale_if_error.total_seconds()
        self._allow: Final = settings.on_unavailable == "allow"
        self._monotonic: Final = clock.monotonic
        self._cells: Final = tallies.cells
        self._stale: Final = tallies.cell(names.REVOCATION_STALE)
        self._known: Final[dict[SessionKey, tuple[SessionStatus, float]]] = {}
        self._rechecks: Final[dict[SessionKey, asyncio.Task[None]]] = {}
        self._generation = 0

    def __len__(self) -> int:
        return len(self._known)

    def check_now(self, key: SessionKey, auth_time: float, *, listed: bool) -> float | None:
        """The monotonic moment until which the answer may be believed without looking here again; None: ask.

        Args:
            key: Which session of whom.
            auth_time: Compared with the marks.
            listed: The session must have a row; False for tokens of before this package.

        Raises:
            Refusal: ``session_unknown`` or ``session_revoked``.
        """
        known = self._known.get(key)
        if known is None:
            return None
        status, sent_at = known
        age = self._monotonic() - sent_at
        if age >= self._staleness:
            return None
        _judge(status, auth_time, listed=listed)
        if age >= self._staleness / 2:
            self._recheck(key)
        return sent_at + self._staleness / 2

    async def check(self, key: SessionKey, auth_time: float, *, listed: bool, fresh: bool = False) -> float:
        """As :meth:`check_now`, asking the store.

        ``fresh``: by a query that leaves after this call.

        Raises:
            Refusal: ``session_unknown``, ``session_revoked``, or ``sessions_unavailable``.
        """
        try:
            status, sent_at = await self._ask(key, fresh=fresh)
        except LookupFailed:
            return self._without_answer(key, auth_time, listed=listed)
        _judge(status, auth_time, listed=listed)
        return sent_at + self._staleness / 2

    def revoked_here(self, *, session_id: str | None = None, user_id: str | None = None) -> None:
        """Something was revoked by this process: forget what was known of it, and keep nothing asked before."""
        self._generation += 1
        for key in [
            key
            for key in self._known
            if (session_id is None and user_id is None) or key.session_id == session_id or key.user_id == user_id
        ]:
            del self._known[key]

    async def aclose(self) -> None:
        """End the checks in the background."""
        tasks = list(self._rechecks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, key: SessionKey, *, fresh: bool = False) -> tuple[SessionStatus, float]:
        generation = self._generation
        found = await self._lookup.get(key, fresh=fresh)
        status = found.value or SessionStatus(known=False, active=False)
        if generation == self._generation:
            self._known.pop(key, None)
            while len(self._known) >= MOST_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[key] = status, found.sent_at
        return status, found.sent_at

    def _without_answer(self, key: SessionKey, auth_time: float, *, listed: bool) -> float:
        """The last answer stands for a while; what it revoked stays revoked for good."""
        now = self._monotonic()
        known = self._known.get(key)
        if known is not None:
            _judge(known[0], auth_time, listed=listed)
        age = float("inf") if known is None else now - known[1]
        if age >= self._tolerated and not self._allow:
            raise Refusal(Reason.SESSIONS_UNAVAILABLE)
        if age >= self._staleness:
            self._cells[self._stale] += 1
        return now

    def _recheck(self, key: SessionKey) -> None:
        if key in self._rechecks:
            return
        task = asyncio.get_running_loop().create_task(self._ask_quietly(key))
        self._rechecks[key] = task
        task.add_done_callback(lambda _: self._rechecks.pop(key, None))

    async def _ask_quietly(self, key: SessionKey) -> None:
        with contextlib.suppress(LookupFailed):  # the request that waits for it past the bound is told
            await self._ask(key)


def _judge(status: SessionStatus, auth_time: float, *, listed: bool) -> None:
    if not status.known:
        if listed:
            raise Refusal(Reason.SESSION_UNKNOWN)
    elif not status.active:
        raise Refusal(Reason.SESSION_REVOKED)
    if status.not_before is not None and auth_time <= status.not_before:
        raise Refusal(Reason.SESSION_REVOKED)
