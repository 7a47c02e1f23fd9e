"""Ends sessions before they expire: the store writes it, and the next request of this process sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from .. import names
from ..counters import Counters
from ..errors import ConfigError, Refusal
from ..payload.fields import subject_key
from ..protocols import SessionStore
from ..types import Purged, Retention, SessionCursor, SessionKey, SessionRecord, UserSessions
from .checker import SessionChecker
from .token_cache import TokenCache


class Revoker:
    """Lists and revokes the sessions of a store."""

    def __init__(
        self, *, store: SessionStore, checker: SessionChecker, token_cache: TokenCache[Any], counters: Counters
    ) -> None:
        self._store: Final = store
        self._checker: Final = checker
        self._token_cache: Final = token_cache
        self._counts: Final = counters.counts
        self._revocations: Final = {
            scope: counters.counter(names.SESSIONS_REVOCATIONS, {names.REVOCATION_SCOPE: scope})
            for scope in ("session", "user", "all")
        }

    async def sessions_of(
        self, user_id: str | int, *, limit: int | None = None, after: SessionCursor | None = None
    ) -> Sequence[SessionRecord]:
        return await self._store.sessions_of(user_key(user_id), limit=limit, after=after)

    async def active_users(self, *, limit: int, after: str | None) -> Sequence[UserSessions]:
        return await self._store.active_users(limit=limit, after=after)

    async def purge(self, retention: Retention) -> Purged:
        return await self._store.purge(retention)

    async def revoke(self, session_id: str, *, user_id: str | int | None = None) -> bool:
        if user_id is not None:
            user_id = user_key(user_id)
            key = SessionKey(session_id=session_id, user_id=user_id)
            if not (await self._store.statuses([key]))[key].known:  # another user's session: nothing is forgotten here
                return False
        with self._revoking("session", lambda done: self._session_revoked(session_id, done=done)):
            return await self._store.revoke(session_id, user_id=user_id)

    async def revoke_token(self, record: SessionRecord) -> None:
        """Write a revoked row for a token that never had one.

        Raises:
            Unavailable: The store failed.
        """
        with self._revoking("session", lambda done: self._session_revoked(record.id, done=done)):
            await self._store.revoke_token(record)

    async def revoke_user(self, user_id: str | int, *, keep: str | None) -> None:
        user_id = user_key(user_id)

        def revoked(done: bool) -> None:
            self._checker.user_revoked(user_id, keep=keep, done=done)
            self._token_cache.forget_user(user_id)

        with self._revoking("user", revoked):
            await self._store.revoke_user(user_id, keep=keep)

    async def revoke_all(self) -> None:
        def revoked(done: bool) -> None:
            self._checker.all_revoked(done=done)
            self._token_cache.forget_all()

        with self._revoking("all", revoked):
            await self._store.revoke_all()

    def _session_revoked(self, session_id: str, *, done: bool) -> None:
        self._checker.session_revoked(session_id, done=done)
        self._token_cache.forget(session_id)

    @contextmanager
    def _revoking(self, scope: str, revoked: Callable[[bool], None]) -> Iterator[None]:
        """Tell this process's caches afterwards, also of a failure or a cancellation: it may come after the commit."""
        done = False
        try:
            yield
            done = True
        finally:
            self._counts[self._revocations[scope]] += done
            revoked(done)


def user_key(user_id: str | int) -> str:
    """The user id as tokens and rows spell it.

    Raises:
        ConfigError: It is neither an integer nor text of 1 to 255 characters.
    """
    try:
        return subject_key(user_id)
    except Refusal:
        raise ConfigError(
            "user_id must be an integer, or 1 to 255 characters without control characters, "
            f"got {type(user_id).__name__}"
        ) from None
