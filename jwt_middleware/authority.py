"""``SessionAuthority``: every call that an app makes to mint, read, list and revoke sessions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from types import TracebackType
from typing import TYPE_CHECKING, Final, Generic, Self, cast

from starlette.requests import HTTPConnection
from starlette.responses import Response

from .authenticator import session_id_of
from .config import Settings, build
from .errors import ConfigError, Reason, Refusal, SessionNotEnded, Unavailable
from .lookup.lookup import LookupLimits
from .names import SCOPE_KEY
from .payload.migration import Migration
from .payload.schema import SessionSchema
from .protocols import ClaimsSource, Clock, Observer, SessionStore, SystemClock
from .sessions.checker import Revocation
from .sessions.issuing import SECRET_CLAIMS
from .sessions.revocation import Revoker
from .sessions.token_cache import Hit
from .telemetry import Telemetry
from .tokens.cookies import SessionCookie
from .tokens.envelope import Envelope
from .tokens.jws import MAX_TOKEN
from .tokens.keys import KeyRing
from .tokens.rules import OWN_TYP
from .tokens.transport import MAX_VALUES
from .types import (
    FOREVER,
    Carrier,
    Issued,
    Outcome,
    Purged,
    RawToken,
    S,
    SessionCursor,
    SessionRecord,
    UserSessions,
    VerifiedToken,
    moment,
)

if TYPE_CHECKING:
    from .tokens.jwks import RemoteKeys  # at run time an extra that may not be installed

_Headers = Iterable[tuple[bytes, bytes]]
"""Headers as ASGI has them: names in lower case and values as bytes, repeated headers repeated."""


class SessionAuthority(Generic[S]):
    """Mints, reads and revokes sessions of one schema.

    Args:
        schema: Today's session class and its versions.
        keys: The first key signs, all verify; or the keys of another issuer, fetched from a URL.
        sources: Where claims that an older token lacks are fetched from.
        store: The table of sessions; without one a session cannot be revoked before it expires.
        window: The life of a token, whole seconds.
        leeway: Clock skew allowed between machines (RFC 7519 section 4.1.4).
        rollout: How long old issuers may still mint after ``effective_at``.
        effective_at: The plan: from when on every log-in mints a version, ``{2: datetime}``, aware.
        issuer, audience: ``iss`` and ``aud`` (RFC 7519 section 4.1): minted, and required, if set.
        cookie: How the cookie is named and set.
        also_accept: What else is alive, newest first: a line for each setting that was or will be another.
        typ: The ``typ`` of minted tokens (RFC 7519 section 5.1); ``"JWT"`` is for readers that refuse other types.
        reissue: A cookie of an older payload is replaced by today's, so that a session pays the fallback once.
        renew_within: A cookie in use is renewed when this much of its life is left; needs a store.
        max_session_age: How long after the log-in a renewed token may live.
        revocation: How old the status of a session may be.
        lookups: Limits of the queries for claims and sessions.
        cache_entries: How many accepted tokens are cached.
        secret_claims: Words that no claim's name may contain.
        telemetry: Providers of OpenTelemetry; the global ones by default.
        observers: Additional observers.
        clock: For tests.

    Raises:
        ConfigError: A setting cannot work, or contradicts another one; the message explains how to fix it.
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
        also_accept: Sequence[Envelope] = (),
        typ: str = OWN_TYP,
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
            raise ConfigError(
                f"schema must be a SessionSchema, got {schema!r}; use SessionSchema(Session, version=1, subject=…)"
            )
        settings = Settings(
            keys=keys,
            sources=sources,
            store=store,
            window=window,
            leeway=leeway,
            rollout=rollout,
            effective_at={} if effective_at is None else effective_at,
            issuer=issuer,
            audience=audience,
            cookie=cookie,
            also_accept=also_accept,
            typ=typ,
            reissue=reissue,
            renew_within=renew_within,
            max_session_age=max_session_age,
            revocation=revocation,
            lookups=lookups,
            cache_entries=cache_entries,
            secret_claims=secret_claims,
            telemetry=telemetry,
            observers=observers,
            clock=clock,
        )
        self.schema: Final = schema
        self.window: Final = window
        self.cookie: Final = cookie
        self.clock: Final = clock
        self.signing: Final = keys.signing
        self.parts: Final = build(schema, settings, self)
        self.transport: Final = self.parts.transport

    @property
    def migration(self) -> Migration:
        """The plan, what was seen of each payload version, and the verdict."""
        return self.parts.migration

    # Reading

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
        return await self.parts.authenticator.verify(RawToken(value=value, carrier=Carrier.BEARER))

    async def authenticate(self, headers: _Headers, *, optional: bool = False) -> Outcome[S]:
        """The whole path without ASGI; cross-site rules are the caller's.

        Args:
            headers: Raw headers of the request.
            optional: A bad cookie, or none, makes an anonymous request instead of a refused one.
        """
        authenticator = self.parts.authenticator
        try:
            raw, _, others = self.transport.read(headers)
            if others and raw is not None:  # as `token_in`, whose coroutine every request would pay for
                raw = await authenticator.choose([raw, *others])
        except Refusal as refusal:
            carrier = getattr(refusal, "carrier", None)
            return authenticator.refuse(refusal.reason, carrier=carrier, optional=optional)
        if raw is None:
            return authenticator.refuse(Reason.TOKEN_MISSING, optional=optional)
        presented = authenticator.present(raw)
        decision = presented if isinstance(presented, Hit) else await authenticator.decide(presented, optional=optional)
        return authenticator.outcome_of(decision, raw.carrier) if isinstance(decision, Hit) else decision

    def session(self, conn: HTTPConnection) -> S:
        """The request's session, typed; ``request.state.session`` is the same object.

        Raises:
            Refusal: ``token_missing`` where there is none; the middleware answers it.
            ConfigError: No middleware read the request, or one of another authority did.
        """
        state = conn.scope.get("state", {})
        if "session" not in state:
            raise ConfigError("no JWTSessionMiddleware read this request; wrap the app, outside of the code that asks")
        session = state["session"]
        if session is None:
            raise Refusal(Reason.TOKEN_MISSING)
        if conn.scope.get(SCOPE_KEY, (self,))[0] is not self:
            raise ConfigError("another authority read this request; ask the one that its middleware was given")
        return cast("S", session)

    async def dependency(self, conn: HTTPConnection) -> S:
        """As :meth:`session`, for FastAPI's ``Depends``: asynchronous, since a plain function costs a thread there."""
        return self.session(conn)

    async def still_active(self, conn: HTTPConnection) -> bool:
        """True if the session of a long-lived request has not expired and is not revoked, by the store's word."""
        try:
            raw = await self.parts.token_in(conn.scope["headers"])
            if raw is None:
                return False
            await self.parts.authenticator.check(raw)
        except Refusal:
            return False
        return True

    # Log-in and log-out

    async def start(
        self, response: Response, session: S, *, label: str | None = None, replacing: HTTPConnection | None = None
    ) -> Issued:
        """Log in: issue a token for the session and put its cookie on the response.

        Args:
            response: Gets the cookie; other scopes that the cookie had are cleared.
            session: What the token holds.
            label: Of its row, for the user's list of sessions: the device.
            replacing: The request of the log-in. The sessions that it shows end, as by :meth:`end` (ASVS 7.2.4).

        Raises:
            MintError: The session cannot become a token.
            SessionNotEnded: The store could not end a former session.
            Unavailable: The store could not write its row.
        """
        if replacing is not None:
            await self.end_token(replacing.scope["headers"])
        issued = await self.issue(session, label=label)
        for set_cookie in issued.set_cookie:
            response.headers.append("set-cookie", set_cookie)
        response.headers.setdefault("cache-control", "no-store")
        return issued

    async def end(self, response: Response, request: HTTPConnection) -> None:
        """Log out: end every session that the request shows, and clear every cookie. Works on public paths.

        It shows all values of all cookies that a token may come in, and a Bearer token.

        Raises:
            SessionNotEnded: The store or the keys failed; the cookies are cleared. The middleware answers it with 503.
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

    async def end_token(self, headers: _Headers) -> list[str]:
        """As :meth:`end`, for other frameworks: the Set-Cookie values to send.

        Raises:
            SessionNotEnded: The store or the keys failed; the values are on the exception.
        """
        cleared = [cookie.clear_header() for cookie in self.parts.cookies]
        failures = 0
        for raw in self.transport.read_all(headers):
            try:
                await self._end_shown(raw)
            except Refusal as refusal:  # a bad token needs no revoking; one that could not be checked does
                failures += refusal.reason.status == 503 and self.parts.revoker is not None
            except Unavailable:
                failures += 1
            if failures == MAX_VALUES:  # the store is away, and a request may show a hundred tokens
                break
        if failures:
            raise SessionNotEnded(cleared)
        return cleared

    async def issue(self, session: S, *, label: str | None = None) -> Issued:
        """Mint a token, for APIs and tests.

        Raises:
            MintError: The session cannot become a token.
            Unavailable: The store could not write its row.
        """
        return await self.parts.minter.mint(session, label=label)

    # Administration

    async def sessions_of(
        self, user_id: str | int, *, limit: int | None = None, after: SessionCursor | None = None
    ) -> Sequence[SessionRecord]:
        """The user's active sessions, the latest activity first: ``limit`` of them, after the page before."""
        return await self._revoker.sessions_of(user_id, limit=limit, after=after)

    async def active_users(self, *, limit: int = 100, after: str | None = None) -> Sequence[UserSessions]:
        """The users with active sessions and how many, by user id; ``after`` is the last one of the page before."""
        return await self._revoker.active_users(limit=limit, after=after)

    async def revoke(self, session_id: str, *, user_id: str | int | None = None) -> bool:
        """Revoke one session; False if no active one has that id, or it is another user's than ``user_id``."""
        return await self._revoker.revoke(session_id, user_id=user_id)

    async def revoke_user(self, user_id: str | int, *, keep: str | None = None) -> None:
        """Revoke every session of a user, but ``keep``."""
        await self._revoker.revoke_user(user_id, keep=keep)

    async def revoke_all(self) -> None:
        """Revoke every session of every user."""
        await self._revoker.revoke_all()

    async def purge(self, *, expired: timedelta = timedelta(days=1), chunk: int = 1_000) -> Purged:
        """Delete sessions that expired longer ago than this, and marks that have outlived every token, in chunks.

        Raises:
            ConfigError: No store, a negative time, or a chunk out of range.
            Unavailable: The store failed; what it deleted stays deleted.
        """
        return await self._revoker.purge(self.parts.settings.retention(self.parts.rules, expired, chunk))

    # Its life

    async def __aenter__(self) -> Self:
        self.parts.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End what the authority owns; its counts stay, its gauges go. Its queries have ended before the engine is."""
        await self.parts.aclose()

    @property
    def _revoker(self) -> Revoker:
        if self.parts.revoker is None:
            raise ConfigError("sessions can be listed and revoked only with a store: SessionAuthority(store=…)")
        return self.parts.revoker

    async def _end_shown(self, raw: RawToken) -> None:
        """End the session of a token: revoke its row, or write a revoked one for a token that never had one.

        An own token whose signature holds is ended although another rule refuses it here: another instance may accept
        it. A foreign one is ended if it is accepted here.

        Raises:
            Refusal: The signature does not hold, or the token is foreign and not accepted.
            Unavailable: The store failed.
        """
        authenticator = self.parts.authenticator
        signed = await authenticator.open(raw.value)
        if signed.own:
            token = authenticator.tokens.identify(signed)
        else:  # wherever it was found, it may be shown where every token is read
            token = await authenticator.verify(RawToken(raw.value, raw.carrier))
        if token.valid_until <= self.clock.now():
            return
        session_id, subject = token.session_id, ""
        if session_id is None:
            subject = self._subject_of(token)
            session_id = session_id_of(raw.value, subject, token.auth_time)
        self.parts.renewer.session_ended(session_id)
        if self.parts.revoker is None:
            return
        if token.session_id is not None:
            await self.parts.revoker.revoke(session_id)
        else:
            await self.parts.revoker.revoke_token(self._revoked_row(raw, token, subject, session_id))

    def _subject_of(self, token: VerifiedToken) -> str:
        """The subject that the token itself has; Refusal if it has none, also after the upgrade steps."""
        own_subject = self.schema.own_subject(token.claims)
        return own_subject or self.schema.upgrade(token.claims, token.payload_version).subject

    def _revoked_row(self, raw: RawToken, token: VerifiedToken, subject: str, session_id: str) -> SessionRecord:
        now = moment(self.clock.now())
        return SessionRecord(
            id=session_id,
            user_id=subject,
            session_token=sha256(raw.value).hexdigest(),
            expires_at=moment(min(token.valid_until, self.clock.now() + FOREVER.total_seconds())),
            last_activity_at=now,
            created_at=now,
            is_active=False,
            revoked_at=now,
        )
