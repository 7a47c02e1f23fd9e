"""Ending sessions before they expire: the store is told, and this process sees it with its next request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, Final, Literal

from . import names
from .errors import ConfigError, Refusal
from .pipeline import Pipeline, adopted_session_id
from .ports import Clock, SessionStore
from .retention import Purged, Retention
from .revocation import RevocationView
from .schema import SessionSchema, subject_key
from .seen import digest
from .tallies import Tallies
from .types import RawToken, SessionCursor, SessionKey, SessionRecord, UserSessions, VerifiedToken, moment

_SCOPES: Final = ("session", "user", "all")


class Revoker:
    """What an authority revokes with. Without a store there is nothing to revoke in."""

    def __init__(
        self,
        *,
        schema: SessionSchema[Any],
        store: SessionStore | None,
        revocation: RevocationView | None,
        pipeline: Pipeline[Any],
        tallies: Tallies,
        clock: Clock,
    ) -> None:
        self._schema: Final = schema
        self._given: Final = store
        self._revocation: Final = revocation
        self._pipeline: Final = pipeline
        self._clock: Final = clock
        self._cells: Final = tallies.cells
        self._at: Final = {
            scope: tallies.cell(names.SESSIONS_REVOCATIONS, {names.REVOCATION_SCOPE: scope})
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

    async def revoke_presented(self, raw: RawToken) -> None:
        """Revoke the session of a token, also of one that never had a row.

        Raises:
            Refusal: The token opens nothing.
            Unavailable: The store failed.
        """
        if self._given is None:
            return
        key = digest(raw.value)
        token = await self._pipeline.verify(raw, key)
        if token.session_id is not None:
            await self.revoke(token.session_id)
            return
        record = self._adopted_row(raw, token, adopted_session_id(key))
        with self._seen_here("session", session_id=record.id):
            await self._given.revoke_token(record)
        self._pipeline.known.seen.drop(key)

    @property
    def _store(self) -> SessionStore:
        if self._given is None:
            raise ConfigError("sessions can be listed and revoked only with a store: SessionAuthority(store=…)")
        return self._given

    def _adopted_row(self, raw: RawToken, token: VerifiedToken, session_id: str) -> SessionRecord:
        now = moment(self._clock.now())
        return SessionRecord(
            id=session_id,
            user_id=self._schema.upgrade(token.claims, token.payload_version).subject,
            session_token=sha256(raw.value).hexdigest(),
            expires_at=moment(token.valid_until),
            last_activity_at=now,
            created_at=now,
            is_active=False,
            revoked_at=now,
        )

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
            self._cells[self._at[scope]] += done
            if self._revocation is not None:
                self._revocation.revoked_here(session_id=session_id, user_id=user_id, keep=keep, done=done)
            self._pipeline.known.forget(session_id)


def user_key(user_id: str | int) -> str:
    """The user id as tokens and rows spell it.

    Raises:
        ConfigError: No text and no integer.
    """
    try:
        return subject_key(user_id)
    except Refusal:
        raise ConfigError("a user id is an integer, or 1 to 255 characters without control characters") from None
