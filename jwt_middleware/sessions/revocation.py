"""Ending sessions before they expire: the store is told, and this process sees it with its next request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal

from .. import names
from ..counters import Counters
from ..errors import ConfigError, Refusal
from ..payload.fields import subject_key
from ..protocols import SessionStore
from ..types import (
    Purged,
    Retention,
    SessionCursor,
    SessionKey,
    SessionRecord,
    UserSessions,
)
from .checker import SessionChecker
from .token_cache import TokenCache

_SCOPES: Final = ("session", "user", "all")


class Revoker:
    """What an authority revokes with. Without a store there is nothing to revoke in."""

    def __init__(
        self,
        *,
        store: SessionStore | None,
        revocation: SessionChecker | None,
        token_cache: TokenCache[Any],
        counters: Counters,
    ) -> None:
        self._given: Final = store
        self._revocation: Final = revocation
        self._token_cache: Final = token_cache
        self._counts: Final = counters.counts
        self._at: Final = {
            scope: counters.counter(names.SESSIONS_REVOCATIONS, {names.REVOCATION_SCOPE: scope})
            for scope in (_SCOPES if store is not None else ())
        }

    async def sessions_of(
        self, user_id: str | int, *, limit: int | None = None, after: SessionCursor | None = None
    ) -> Sequence[SessionRecord]:
        return await self._store.sessions_of(user_key(user_id), limit=limit, after=after)

    async def active_users(self, *, limit: int, after: str | None) -> Sequence[UserSessions]:
        return await self._store.active_users(limit=limit, after=after)

    async def revoke(self, session_id: str, *, user_id: str | int | None = None) -> bool:
        store = self._store
        if user_id is not None:
            user_id = user_key(user_id)
            key = SessionKey(session_id=session_id, user_id=user_id)
            if not (await store.statuses([key]))[key].known:  # somebody else's goes on here as if nobody had asked
                return False
        with self._seen_here("session", session_id=session_id):
            return await store.revoke(session_id, user_id=user_id)

    async def revoke_user(self, user_id: str | int, *, keep: str | None) -> None:
        store, user_id = self._store, user_key(user_id)
        with self._seen_here("user", user_id=user_id, keep=keep):
            await store.revoke_user(user_id, keep=keep)

    async def revoke_all(self) -> None:
        store = self._store
        with self._seen_here("all"):
            await store.revoke_all()

    async def purge(self, retention: Retention) -> Purged:
        return await self._store.purge(retention)

    async def revoke_token(self, record: SessionRecord) -> None:
        """Write a revoked row for a token that never had one.

        Raises:
            Unavailable: The store failed.
        """
        store = self._store
        with self._seen_here("session", session_id=record.id):
            await store.revoke_token(record)

    @property
    def _store(self) -> SessionStore:
        if self._given is None:
            raise ConfigError("sessions can be listed and revoked only with a store: SessionAuthority(store=…)")
        return self._given

    @contextmanager
    def _seen_here(
        self,
        scope: Literal["session", "user", "all"],
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        keep: str | None = None,
    ) -> Iterator[None]:
        """Believe nothing older afterwards; also where it failed or was cancelled, which may be after its commit."""
        done = False
        try:
            yield
            done = True
        finally:
            self._counts[self._at[scope]] += done
            if self._revocation is not None:
                self._revocation.revoked_here(session_id=session_id, user_id=user_id, keep=keep, done=done)
            self._token_cache.forget(session_id)


def user_key(user_id: str | int) -> str:
    """The user id as tokens and rows spell it.

    Raises:
        ConfigError: No text and no integer.
    """
    try:
        return subject_key(user_id)
    except Refusal:
        raise ConfigError("a user id is an integer, or 1 to 255 characters without control characters") from None
