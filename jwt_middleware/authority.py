"""What the app calls: log in, log out, read the session, revoke. One object holds the configuration and the path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from types import TracebackType
from typing import TYPE_CHECKING, Final, Generic, Self, cast

from starlette.requests import HTTPConnection
from starlette.responses import Response

from .authenticator import RequestFacts
from .config import Settings, assemble, configuration
from .errors import ConfigError, Reason, Refusal, SessionNotEnded, Unavailable
from .lookup.lookup import LookupLimits
from .names import DECIDED
from .payload.migration import Migration
from .payload.schema import SessionSchema
from .protocols import ClaimsSource, Clock, Observer, SessionStore, SystemClock
from .sessions.activity import LONGEST
from .sessions.checker import Revocation
from .sessions.issuing import SECRET_CLAIMS
from .telemetry import Telemetry
from .telemetry.logs import configured
from .tokens.cookies import SessionCookie
from .tokens.jws import MAX_TOKEN, adopted_session_id, digest
from .tokens.jwt import Adoption
from .tokens.keys import KeyRing
from .types import (
    Carrier,
    Issued,
    Outcome,
    Purged,
    RawToken,
    S,
    SessionCursor,
    SessionRecord,
    TokenInfo,
    UserSessions,
    VerifiedToken,
    moment,
)

if TYPE_CHECKING:
    from .tokens.jwks import RemoteKeys


_RawHeaders = Iterable[tuple[bytes, bytes]]
"""Headers as ASGI has them: lower-case names and values as bytes, repeated headers repeated."""


class Reader(Generic[S]):
    """The half of an authority that reads; it holds the parts that both halves use."""

    def __init__(self, schema: SessionSchema[S], settings: Settings) -> None:
        self._settings: Final = settings
        self.schema: Final = schema
        self.window: Final = settings.window
        self.cookie: Final = settings.cookie
        self.clock: Final = settings.clock
        self.signing: Final = settings.keys.signing
        self.parts: Final = assemble(schema, settings, self)
        self.transport: Final = self.parts.transport

    async def verify(self, token: str) -> VerifiedToken:
        """The token alone, without revocation, fallback and session.

        Raises:
            Refusal: With the reason.
        """
        try:
            value = token.encode("ascii")
        except UnicodeEncodeError:
            raise Refusal(Reason.TOKEN_MALFORMED) from None
        if len(value) > MAX_TOKEN:  # before it is digested
            raise Refusal(Reason.TOKEN_OVERSIZE)
        raw = RawToken(value=value, carrier=Carrier.BEARER)
        return await self.parts.pipeline.verify(raw, digest(value))

    async def authenticate(self, headers: _RawHeaders, *, optional: bool = False) -> Outcome[S]:
        """The whole path without ASGI; cross-site rules are the caller's.

        Args:
            headers: Raw headers of the request.
            optional: A bad cookie, or none, makes an anonymous request instead of a refused one.
        """
        try:
            raw = self.transport.read(headers).raw
        except Refusal as refusal:
            return self.refuse(refusal.reason, carrier=getattr(refusal, "carrier", None), optional=optional)
        if raw is None:
            return self.refuse(Reason.TOKEN_MISSING, optional=optional)
        key = digest(raw.value)
        decided = (None if raw.adopted else self.parts.known.hit(key)) or await self.run(raw, key, optional=optional)
        return decided if isinstance(decided, Outcome) else self._known(raw, *decided)

    def session(self, conn: HTTPConnection) -> S:
        """The request's session, typed; ``request.state.session`` is the same object.

        Raises:
            Refusal: ``token_missing`` where there is none; the middleware answers it.
            ConfigError: No middleware has seen it, or another authority's, with sessions of another class.
        """
        state = conn.scope.get("state", {})
        if "session" not in state:
            raise ConfigError(
                "no JWTSessionMiddleware has seen this request: wrap the app with it, outside of whatever asks"
            )
        session = state["session"]
        if session is None:
            raise Refusal(Reason.TOKEN_MISSING)
        if conn.scope.get(DECIDED, (self,))[0] is not self:
            raise ConfigError("another authority read this request: ask the one the middleware was given")
        return cast("S", session)

    async def dependency(self, conn: HTTPConnection) -> S:
        """As :meth:`session`, for FastAPI's ``Depends``: asynchronous, a plain function costs a thread there."""
        return self.session(conn)

    async def still_active(self, conn: HTTPConnection) -> bool:
        """Whether the session of a long-lived request still stands: not expired, not revoked, and the store says so."""
        try:
            raw = self.transport.read(conn.scope["headers"]).raw
            if raw is None:
                return False
            await self.check(raw)
        except Refusal:
            return False
        return True

    async def check(self, raw: RawToken, *, fresh: bool = False) -> float:
        """Whether a token and its session still stand; counts no request. ``fresh``: by what the store says now.

        Returns:
            Seconds after which to ask again.

        Raises:
            Refusal: It ended, or the store cannot say.
        """
        ends = await self.parts.pipeline.check(raw, fresh=fresh)
        again = LONGEST if self._settings.store is None else self._settings.revocation.max_staleness.total_seconds()
        return max(0.05, min(ends - self.clock.now(), again, LONGEST))

    async def run(self, raw: RawToken, key: bytes, *, optional: bool = False) -> Outcome[S] | tuple[S, TokenInfo]:
        """Everything that is not a plain hit; see ``pipeline``."""
        return await self.parts.pipeline.run(raw, key, optional=optional)

    def refuse(self, reason: Reason, *, carrier: Carrier | None = None, optional: bool = False) -> Outcome[S]:
        """Count and report a request that is turned away before its token was looked at."""
        return self.parts.pipeline.refuse(reason, RequestFacts(carrier=carrier), optional=optional)

    def _known(self, raw: RawToken, session: S, token: TokenInfo) -> Outcome[S]:
        """The Outcome of a plain hit, for who asked for one; it is shown to nobody else."""
        return Outcome(
            result="accepted",
            session=session,
            token=token,
            subject=str(getattr(session, self.schema.subject_attribute)),
            carrier=raw.carrier,
            payload_version=self.schema.label(token.version),
            payload_expected=self.schema.version,
        )


class SessionAuthority(Reader[S]):
    """Mints, reads and revokes sessions of one schema.

    Args:
        schema: Today's session class and its versions.
        keys: The first key signs, all verify; or the keys of another issuer, fetched from a URL.
        sources: Where claims that an older token lacks are fetched from.
        store: The table of sessions; without one a session cannot be revoked before it expires.
        window: The life of a token, whole seconds.
        leeway: Clock skew allowed between machines (RFC 7519 section 4.1.4).
        rollout: How long old issuers may still mint after ``effective_at``.
        effective_at: The plan: from when on every login mints a version, ``{2: datetime}``, aware.
        issuer, audience: ``iss`` and ``aud`` (RFC 7519 section 4.1): minted, and required, where given.
        cookie: How the cookie is named and set.
        adoption: What is forgiven to tokens that were minted before this package came.
        reissue: A cookie of an older payload is replaced by today's, so that a session pays the fallback once.
        renew_within: A cookie in use is renewed when this much of its life is left; needs a store.
        max_session_age: How long after the log-in a renewed token may live.
        revocation: How old the answer to "is this session active?" may be.
        lookups: Limits of the queries for claims and sessions.
        cache_entries: How many accepted tokens are remembered.
        secret_claims: Words that no claim's name may contain.
        telemetry: Providers of OpenTelemetry; the global ones by default.
        observers: More eyes on what happens.
        clock: For tests.

    Raises:
        ConfigError: Settings contradict each other; the message says how to mend it.
    """

    def __init__(
        self,
        schema: SessionSchema[S],
        *,
        keys: KeyRing | RemoteKeys,
        sources: Sequence[ClaimsSource] = (),
        store: SessionStore | None = None,
        window: timedelta = timedelta(days=7),
        leeway: timedelta = timedelta(seconds=30),
        rollout: timedelta = timedelta(hours=1),
        effective_at: Mapping[int, datetime] | None = None,
        issuer: str | None = None,
        audience: str | Sequence[str] | None = None,
        cookie: SessionCookie = SessionCookie(),
        adoption: Adoption = Adoption(),
        reissue: bool = False,
        renew_within: timedelta | None = None,
        max_session_age: timedelta = timedelta(days=30),
        revocation: Revocation = Revocation(),
        lookups: LookupLimits = LookupLimits(),
        cache_entries: int = 100_000,
        secret_claims: Sequence[str] = SECRET_CLAIMS,
        telemetry: Telemetry = Telemetry(),
        observers: Sequence[Observer] = (),
        clock: Clock = SystemClock(),
    ) -> None:
        if not isinstance(schema, SessionSchema):
            raise ConfigError("the first argument is a schema: SessionSchema(Session, version=1, subject='userId')")
        given = dict(locals())  # the keyword arguments above are the fields of Settings, name by name
        for other in ("self", "schema", "__class__"):
            given.pop(other, None)
        super().__init__(schema, Settings(**{**given, "effective_at": effective_at or {}}))
        self._configured = False

    @property
    def migration(self) -> Migration:
        """The plan, what was seen of each payload version, and the verdict."""
        return self.parts.migration

    async def start(self, response: Response, session: S, *, label: str | None = None) -> Issued:
        """Log in: issue a token for the session and put its cookie on the response.

        Raises:
            MintError: The session cannot become a token.
            Unavailable: The store could not write its row.
        """
        issued = await self.issue(session, label=label)
        for set_cookie in self.cookie.clear_also_read():
            response.headers.append("set-cookie", set_cookie)
        response.headers.append("set-cookie", issued.set_cookie)
        response.headers.setdefault("cache-control", "no-store")
        return issued

    async def end(self, response: Response, request: HTTPConnection) -> None:
        """Log out: revoke the session that the request shows, and clear every cookie. Works on public paths.

        Where a Bearer token came beside the cookie, both sessions end.

        Raises:
            SessionNotEnded: The store failed; the cookies are cleared.
        """
        failure: SessionNotEnded | None = None
        try:
            cleared: Sequence[str] = await self.end_token(request.scope["headers"])
        except SessionNotEnded as failed:
            failure, cleared = failed, failed.set_cookie
        for set_cookie in cleared:
            response.headers.append("set-cookie", set_cookie)
        if failure is not None:
            raise failure

    async def end_token(self, headers: _RawHeaders) -> list[str]:
        """As :meth:`end`, for other frameworks: the Set-Cookie values to send.

        Raises:
            SessionNotEnded: The store failed; the values are on the exception.
        """
        cleared = self.cookie.clear_headers()
        failed = False
        for presented in _presented(headers):
            try:
                raw = self.transport.read(presented).raw
                if raw is not None:
                    await self._revoke_presented(raw)
            except Refusal as refusal:  # a token that opens nothing needs no revoking; one nobody could check does
                failed = failed or refusal.reason.status == 503
            except Unavailable:
                failed = True
        if failed:
            raise SessionNotEnded(cleared)
        return cleared

    async def _revoke_presented(self, raw: RawToken) -> None:
        """Revoke the session of a token, also of one that never had a row.

        Raises:
            Refusal: The token opens nothing.
            Unavailable: The store failed.
        """
        if self._settings.store is None:
            return
        key = digest(raw.value)
        token = await self.parts.pipeline.verify(raw, key)
        if token.session_id is not None:
            await self.parts.revoker.revoke(token.session_id)
            return
        await self.parts.revoker.revoke_token(self._revoked_row(raw, token, adopted_session_id(key)))
        self.parts.known.seen.drop(key)

    def _revoked_row(self, raw: RawToken, token: VerifiedToken, session_id: str) -> SessionRecord:
        now = moment(self.clock.now())
        return SessionRecord(
            id=session_id,
            user_id=self.schema.upgrade(token.claims, token.payload_version).subject,
            session_token=sha256(raw.value).hexdigest(),
            expires_at=moment(token.valid_until),
            last_activity_at=now,
            created_at=now,
            is_active=False,
            revoked_at=now,
        )

    async def issue(self, session: S, *, label: str | None = None) -> Issued:
        """Mint a token, for APIs and tests.

        Raises:
            MintError: The session cannot become a token.
            Unavailable: The store could not write its row.
        """
        return await self.parts.minter.mint(session, label=label)

    async def sessions_of(
        self, user_id: str | int, *, limit: int | None = None, after: SessionCursor | None = None
    ) -> Sequence[SessionRecord]:
        """The user's active sessions, the latest activity first: ``limit`` of them, after the page before."""
        return await self.parts.revoker.sessions_of(user_id, limit=limit, after=after)

    async def active_users(self, *, limit: int = 100, after: str | None = None) -> Sequence[UserSessions]:
        """Who has active sessions and how many, by user id; ``after`` the last one of the page before."""
        return await self.parts.revoker.active_users(limit=limit, after=after)

    async def revoke(self, session_id: str, *, user_id: str | int | None = None) -> bool:
        """Revoke one session; False where no active one has that id, or it is another user's than ``user_id``."""
        return await self.parts.revoker.revoke(session_id, user_id=user_id)

    async def revoke_user(self, user_id: str | int, *, keep: str | None = None) -> None:
        """Revoke every session of a user, but ``keep``."""
        await self.parts.revoker.revoke_user(user_id, keep=keep)

    async def revoke_all(self) -> None:
        """Revoke every session of everybody."""
        await self.parts.revoker.revoke_all()

    async def purge(self, *, expired: timedelta = timedelta(days=1), chunk: int = 1_000) -> Purged:
        """Delete sessions that expired longer ago than this, and marks that have outlived every token, in chunks.

        Raises:
            ConfigError: No store, or a time or a chunk that cannot be.
            Unavailable: The store failed; what it deleted stays deleted.
        """
        return await self.parts.revoker.purge(self._settings.retention(expired, chunk))

    async def __aenter__(self) -> Self:
        self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def open(self) -> None:
        """Report the configuration and begin to fetch remote keys, once; the first request or lifespan calls this."""
        if self._configured:
            return
        self._configured = True
        if self._settings.remote is not None:
            self._settings.remote.open()
        configured(self.parts.counters, configuration(self.schema, self._settings))

    async def aclose(self) -> None:
        """End what the authority owns; its counts stay, its gauges go. Its queries have ended before the engine is."""
        if self.parts.revocation is not None:
            await self.parts.revocation.aclose()
        if self.parts.activity is not None:
            await self.parts.activity.aclose()
        await self.parts.lanes.drain()
        if self._settings.remote is not None:
            await self._settings.remote.aclose()
        self.parts.counters.withdraw_gauges()


def _presented(headers: _RawHeaders) -> list[list[tuple[bytes, bytes]]]:
    """The headers as they came, and the cookies alone where an Authorization header hides them."""
    sent = list(headers)
    cookies = [header for header in sent if header[0] != b"authorization"]
    return [sent] if len(cookies) == len(sent) else [sent, cookies]
