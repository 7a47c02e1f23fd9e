"""Is the session still active? Asked of the store by lookup, and believed for as long as the app allows.

From half of ``max_staleness`` on a session in use is checked again in the background; a request waits only past the
bound. What was revoked stays revoked, whatever the database does.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, Protocol

from .. import names
from ..counters import Counters
from ..errors import ConfigError, Reason, Refusal, refuse_numbers
from ..lookup.batch import Found, LookupFailed
from ..protocols import Clock
from ..types import SessionKey, SessionStatus
from .status_cache import CachedStatus, LocalRevocations, StatusCache

STALE: Final = -math.inf
"""The deadline of a session that passes on an answer older than ``max_staleness``, or on none."""


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
    """After that: 503, or let the session pass, counted in ``revocation.stale`` and logged."""

    def __post_init__(self) -> None:
        refuse_numbers(max_staleness=self.max_staleness, stale_if_error=self.stale_if_error)
        if self.max_staleness < timedelta(0) or self.stale_if_error < timedelta(0):
            raise ConfigError("Revocation: max_staleness and stale_if_error must not be negative")
        if self.on_unavailable not in ("refuse", "allow"):
            raise ConfigError('Revocation(on_unavailable=…) must be "refuse" or "allow"')


class SessionsLookup(Protocol):
    """The one thing asked of ``lookup`` here."""

    async def get(self, key: SessionKey, *, fresh: bool = False) -> Found[SessionStatus]: ...


class SessionChecker:
    """What this process knows of sessions."""

    def __init__(self, settings: Revocation, lookup: SessionsLookup, *, clock: Clock, counters: Counters) -> None:
        self._lookup: Final = lookup
        self._staleness: Final = settings.max_staleness.total_seconds()
        self._tolerated: Final = self._staleness + settings.stale_if_error.total_seconds()
        self._allow: Final = settings.on_unavailable == "allow"
        self._now: Final = clock.now
        self._monotonic: Final = clock.monotonic
        self._counts: Final = counters.counts
        self._stale: Final = counters.counter(names.REVOCATION_STALE)
        self._answers: Final = StatusCache(math.inf if self._allow else self._tolerated)
        self._rechecks: Final[dict[SessionKey, asyncio.Task[None]]] = {}
        self._here: Final = LocalRevocations()

    def __len__(self) -> int:
        return len(self._answers)

    async def ask(self, key: SessionKey, auth_time: float, *, listed: bool, fresh: bool = False) -> float:
        """As :meth:`check_now` where that is enough, and else as :meth:`check`.

        Raises:
            Refusal: As they say.
        """
        deadline = None if fresh else self.check_now(key, auth_time, listed=listed)
        return await self.check(key, auth_time, listed=listed, fresh=fresh) if deadline is None else deadline

    def check_now(self, key: SessionKey, auth_time: float, *, listed: bool) -> float | None:
        """The monotonic moment until which the answer may be believed without looking here again; None: ask.

        Args:
            key: Which session of whom.
            auth_time: Compared with the marks.
            listed: The session must have a row; False for tokens of before this package.

        Raises:
            Refusal: ``session_unknown`` or ``session_revoked``.
        """
        known = self._answers.of(key)
        if known is None or not self._here.allows(key, known):
            return None
        age = self._monotonic() - known.sent_at
        if age >= self._staleness:
            return None
        _judge(known, auth_time, listed=listed)
        if age >= self._staleness / 2:
            self._recheck(key, auth_time, listed=listed)
        return known.sent_at + self._staleness / 2

    async def check(self, key: SessionKey, auth_time: float, *, listed: bool, fresh: bool = False) -> float:
        """As :meth:`check_now`, asking the store; :data:`STALE` where it cannot say and the session passes anyway.

        ``fresh``: by a query that leaves after this call, and by nothing else.

        Raises:
            Refusal: ``session_unknown``, ``session_revoked``, or ``sessions_unavailable``.
        """
        try:
            known = await self._ask(key, auth_time, listed=listed, fresh=fresh)
        except LookupFailed:
            return self._without_answer(key, auth_time, listed=listed, fresh=fresh)
        _judge(known, auth_time, listed=listed)
        return known.sent_at + self._staleness / 2

    def revoked_here(
        self,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        keep: str | None = None,
        done: bool = True,
    ) -> None:
        """One session, those of a user but ``keep``, or everybody's were revoked here: believe nothing older.

        ``done``: False where the store failed. Then nothing may have been revoked, and nothing is known any more.
        """
        at, now = self._monotonic(), self._now() if done else -math.inf
        if session_id is not None:
            self._here.add("session", session_id, at=at, not_before=math.inf if done else -math.inf, kept=None)
        elif user_id is not None:
            self._here.add("user", user_id, at=at, not_before=now, kept=keep)
        else:
            self._here.add("all", "", at=at, not_before=now, kept=None)

    async def aclose(self) -> None:
        """End the checks in the background."""
        tasks = list(self._rechecks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, key: SessionKey, auth_time: float, *, listed: bool, fresh: bool = False) -> CachedStatus:
        asked_at, generation = self._monotonic(), self._here.generation
        found = await self._lookup.get(key, fresh=fresh)
        if not fresh and found.origin == "coalesced" and self._is_too_old(key, found.sent_at, asked_at):
            generation = self._here.generation
            found = await self._lookup.get(key, fresh=True)
        status = found.value or SessionStatus(known=False, active=False)
        known = CachedStatus(
            user_id=key.user_id,
            known=status.known,
            active=status.active,
            not_before=status.not_before,
            sent_at=found.sent_at,
            generation=generation,
        )
        before = self._answers.of(key)
        if before is None or before.sent_at <= found.sent_at:  # an older query may be answered later
            passes = known.refuses(auth_time, listed=listed) is None
            self._answers.put(key, known, passes=passes, now=self._monotonic())
        return known

    def _is_too_old(self, key: SessionKey, sent_at: float, asked_at: float) -> bool:
        """The query that was joined had left before the bound, or before something was revoked here."""
        return sent_at < asked_at - self._staleness or any(sent_at <= revoked.at for revoked in self._here.of(key))

    def _without_answer(self, key: SessionKey, auth_time: float, *, listed: bool, fresh: bool) -> float:
        """The last answer stands for a while; what it, or this process, revoked stays revoked for good."""
        now = self._monotonic()
        known = self._answers.of(key)
        if known is not None:
            _judge(known, auth_time, listed=listed)
        for revoked in self._here.of(key):
            if (known is None or known.generation < revoked.generation) and revoked.ends(key, auth_time):
                raise Refusal(Reason.SESSION_REVOKED)
        age = math.inf if known is None else now - known.sent_at
        if fresh or (age >= self._tolerated and not self._allow):
            raise Refusal(Reason.SESSIONS_UNAVAILABLE)
        if age < self._staleness:
            return now
        self._counts[self._stale] += 1
        return STALE

    def _recheck(self, key: SessionKey, auth_time: float, *, listed: bool) -> None:
        if key in self._rechecks:
            return
        task = asyncio.get_running_loop().create_task(self._ask_quietly(key, auth_time, listed=listed))
        self._rechecks[key] = task
        task.add_done_callback(lambda _: self._rechecks.pop(key, None))

    async def _ask_quietly(self, key: SessionKey, auth_time: float, *, listed: bool) -> None:
        with contextlib.suppress(LookupFailed, ConfigError):  # the request that waits for it past the bound is told
            await self._ask(key, auth_time, listed=listed)


def _judge(known: CachedStatus, auth_time: float, *, listed: bool) -> None:
    """Let it pass, or say why not.

    Raises:
        Refusal: ``session_unknown`` or ``session_revoked``.
    """
    reason = known.refuses(auth_time, listed=listed)
    if reason is not None:
        raise Refusal(reason)
