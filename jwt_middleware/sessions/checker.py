"""Is the session still active? The store is asked through a lookup; its status counts for as long as the app allows.

From half of ``max_staleness`` on, a session in use is rechecked in the background; a request waits only past the bound.
What was revoked stays revoked, whatever the database does.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, Protocol

from .. import names
from ..counters import Runtime
from ..errors import ConfigError, Reason, refuse_numbers
from ..lookup.batch import Found, LookupFailed
from ..types import SessionKey, SessionStatus, Value
from .status_cache import CachedStatus, LocalRevocations, StatusCache


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """How old the status of a session may be.

    Raises:
        ConfigError: A negative time, or an unknown policy.
    """

    max_staleness: timedelta = timedelta(seconds=5)
    """A revocation elsewhere, also by plain SQL, is seen within this time."""
    stale_if_error: timedelta = timedelta(0)
    """How much longer the last status counts while the store cannot be asked."""
    on_unavailable: Literal["refuse", "allow"] = "refuse"
    """After that: 503, or the session passes, counted in ``revocation.stale`` and logged."""

    def __post_init__(self) -> None:
        refuse_numbers(max_staleness=self.max_staleness, stale_if_error=self.stale_if_error)
        for name in ("max_staleness", "stale_if_error"):
            if getattr(self, name) < timedelta(0):
                raise ConfigError(f"Revocation({name}=…) must not be negative, got {getattr(self, name)!r}")
        if self.on_unavailable not in ("refuse", "allow"):
            raise ConfigError(f'on_unavailable must be "refuse" or "allow", got {self.on_unavailable!r}')


class SessionsLookup(Protocol):
    """The part of ``lookup`` that the checker uses."""

    async def get(self, key: SessionKey, *, fresh: bool = False) -> Found[SessionStatus]: ...


class Standing(Value, frozen=True, kw_only=True, gc=False):
    """Whether a session is active: it is, it passes although the store cannot say (``stale``), or it is refused."""

    until: float = -math.inf
    """The monotonic moment until which it counts without another check; past at once where it is ``stale``."""
    stale: bool = False
    reason: Reason | None = None


ALWAYS: Final = Standing(until=math.inf)
"""Without a store every session is active until it expires."""
_STALE: Final = Standing(stale=True)


class SessionChecker:
    """Checks sessions, by the cached status where that is recent enough."""

    def __init__(self, settings: Revocation, lookup: SessionsLookup, runtime: Runtime) -> None:
        self._lookup: Final = lookup
        self._staleness: Final = settings.max_staleness.total_seconds()
        self._tolerated: Final = self._staleness + settings.stale_if_error.total_seconds()
        self._allow: Final = settings.on_unavailable == "allow"
        self._now: Final = runtime.clock.now
        self._monotonic: Final = runtime.clock.monotonic
        self._counts: Final = runtime.counters.counts
        self._stale: Final = runtime.counters.counter(names.REVOCATION_STALE)
        self._statuses: Final = StatusCache(math.inf if self._allow else self._tolerated)
        self._revocations: Final = LocalRevocations()
        self._rechecks: Final[dict[SessionKey, asyncio.Task[None]]] = {}

    def __len__(self) -> int:
        return len(self._statuses)

    def cached(self, key: SessionKey, auth_time: float | None, *, listed: bool) -> Standing | None:
        """What the cached status says; None if it is too old. Never suspends, and never answers ``stale``.

        Args:
            key: Which session of which user.
            auth_time: Compared with the marks; None precedes every mark.
            listed: The session must have a row; False for a token without ``sid``.
        """
        status = self._statuses.get(key)
        if status is None or not self._revocations.precede(key, status):
            return None
        age = self._monotonic() - status.sent_at
        if age >= self._staleness:
            return None
        reason = status.refuses(auth_time, listed=listed)
        if reason is None and age >= self._staleness / 2:
            self._recheck(key, auth_time, listed=listed)
        return Standing(until=status.sent_at + self._staleness / 2, reason=reason)

    async def check(self, key: SessionKey, auth_time: float | None, *, listed: bool, fresh: bool = False) -> Standing:
        """As :meth:`cached`, and where that says nothing, by a query.

        Args:
            key: Which session of which user.
            auth_time: Compared with the marks; None precedes every mark.
            listed: The session must have a row.
            fresh: Only a query that leaves after this call counts.
        """
        standing = None if fresh else self.cached(key, auth_time, listed=listed)
        if standing is not None:
            return standing
        try:
            return await self._fetch(key, auth_time, listed=listed, fresh=fresh)
        except LookupFailed:
            return self._without_store(key, auth_time, listed=listed, fresh=fresh)

    def session_revoked(self, session_id: str, *, done: bool) -> None:
        """Note a revocation by this process. ``done``: False where the store failed, and may have done it or not."""
        self._revoked("session", session_id, done=done)

    def user_revoked(self, user_id: str, *, keep: str | None, done: bool) -> None:
        """As :meth:`session_revoked`, of every session of a user but ``keep``."""
        self._revoked("user", user_id, kept=keep, done=done)

    def all_revoked(self, *, done: bool) -> None:
        """As :meth:`session_revoked`, of every session."""
        self._revoked("all", "", done=done)

    async def aclose(self) -> None:
        """End the checks in the background."""
        tasks = list(self._rechecks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _revoked(
        self, scope: Literal["session", "user", "all"], name: str, *, done: bool, kept: str | None = None
    ) -> None:
        self._revocations.add(scope, name, at=self._monotonic(), not_before=self._now(), kept=kept, done=done)

    async def _fetch(self, key: SessionKey, auth_time: float | None, *, listed: bool, fresh: bool = False) -> Standing:
        """Fetch the status, cache it, and say what it means.

        Raises:
            LookupFailed: The store could not answer.
        """
        called_at, generation = self._monotonic(), self._revocations.generation
        found = await self._lookup.get(key, fresh=fresh)
        if not fresh and found.origin == "coalesced" and self._left_too_early(key, found.sent_at, called_at):
            generation = self._revocations.generation
            found = await self._lookup.get(key, fresh=True)
        row = found.value or SessionStatus(known=False, active=False)
        status = CachedStatus(
            user_id=key.user_id,
            token_user_id=key.token_user_id,
            known=row.known,
            active=row.active,
            not_before=row.not_before,
            sent_at=found.sent_at,
            generation=generation,
        )
        reason = status.refuses(auth_time, listed=listed)
        self._statuses.put(key, status, active=reason is None, now=self._monotonic())
        return Standing(until=status.sent_at + self._staleness / 2, reason=reason)

    def _left_too_early(self, key: SessionKey, sent_at: float, called_at: float) -> bool:
        """The query that was joined had left before the bound, or before this process revoked something."""
        revocations = self._revocations.concerning(key)
        return sent_at < called_at - self._staleness or any(sent_at <= revocation.at for revocation in revocations)

    def _without_store(self, key: SessionKey, auth_time: float | None, *, listed: bool, fresh: bool) -> Standing:
        """The last status counts for a while; what it, or this process, revoked stays revoked for good."""
        now, status = self._monotonic(), self._statuses.get(key)
        if status is not None and (reason := status.refuses(auth_time, listed=listed)) is not None:
            return Standing(reason=reason)
        for revocation in self._revocations.concerning(key):
            newer = status is None or status.generation < revocation.generation
            if newer and revocation.ends(key, auth_time):
                return Standing(reason=Reason.SESSION_REVOKED)
        age = math.inf if status is None else now - status.sent_at
        if fresh or (age >= self._tolerated and not self._allow):
            return Standing(reason=Reason.SESSIONS_UNAVAILABLE)
        if age < self._staleness:
            return Standing(until=now)
        self._counts[self._stale] += 1
        return _STALE

    def _recheck(self, key: SessionKey, auth_time: float | None, *, listed: bool) -> None:
        """Fetch the status in the background, once at a time."""
        if key in self._rechecks:
            return
        task = asyncio.get_running_loop().create_task(self._fetch_quietly(key, auth_time, listed=listed))
        self._rechecks[key] = task
        task.add_done_callback(lambda _: self._rechecks.pop(key, None))

    async def _fetch_quietly(self, key: SessionKey, auth_time: float | None, *, listed: bool) -> None:
        with contextlib.suppress(LookupFailed, ConfigError):  # a request that waits past the bound meets them again
            await self._fetch(key, auth_time, listed=listed)
