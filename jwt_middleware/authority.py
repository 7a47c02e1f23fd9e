"""What the app calls: log in, log out, read the session, revoke. One object holds the configuration and the path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Generic, Self, cast

from starlette.requests import HTTPConnection
from starlette.responses import Response

from .assembly import Settings, assemble, configuration
from .decisions import Trail
from .errors import Reason, Refusal, SessionNotEnded, Unavailable
from .keys import KeyRing
from .lookup import LookupLimits
from .migration import Migration
from .ports import ClaimsSource, Clock, Observer, SessionStore, SystemClock
from .revocation import Revocation
from .schema import SessionSchema
from .secret_claims import SECRET_CLAIMS
from .seen import LONGEST, digest
from .telemetry import Telemetry
from .tokens import Adoption
from .transport import SessionCookie
from .types import Carrier, Issued, Outcome, RawToken, S, SessionRecord, VerifiedToken

RawHeaders = Iterable[tuple[bytes, bytes]]
"""Headers as ASGI has them: lower-case names and values as bytes, repeated headers repeated."""


class SessionAuthority(Generic[S]):
    """Mints, reads and revokes sessions of one schema.

    Args:
        schema: Today's session class and its versions.
        keys: The first key signs, all verify.
        sources: Where claims that an older token lacks are fetched from.
        store: The table of sessions; without one a session cannot be revoked before it expires.
        window: The life of a token, whole seconds.
        leeway: Clock skew allowed between machines (RFC 7519 section 4.1.4).
        rollout: How long old issuers may still mint after ``effective_at``.
        effective_at: The plan: from when on every login mints a version, ``{2: datetime}``, aware.
        issuer, audience: ``iss`` and ``aud`` (RFC 7519 section 4.1): minted, and required, where given.
        cookie: How the cookie is named and set.
        adoption: What is forgiven to tokens that were minted before this package came.
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
        keys: KeyRing,
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
        revocation: Revocation = Revocation(),
        lookups: LookupLimits = LookupLimits(),
        cache_entries: int = 100_000,
        secret_claims: Sequence[str] = SECRET_CLAIMS,
        telemetry: Telemetry = Telemetry(),
        observers: Sequence[Observer] = (),
        clock: Clock = SystemClock(),
    ) -> None:
        given = dict(locals())  # the keyword arguments above are the fields of Settings, name by name
        del given["self"], given["schema"]
        self._settings: Final = Settings(**{**given, "effective_at": effective_at or {}})
        self.schema: Final = schema
        self.window: Final = window
        self.cookie: Final = cookie
        self.clock: Final = clock
        self.parts: Final = assemble(schema, self._settings, self)
        self.hit: Final = self.parts.pipeline.hit
        self.transport: Final = self.parts.transport
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
        return issued

    async def end(self, response: Response, request: HTTPConnection) -> None:
        """Log out: revoke the session whose cookie the request carries, and clear every cookie. Works on public paths.

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

    async def end_token(self, headers: RawHeaders) -> list[str]:
        """As :meth:`end`, for other frameworks: the Set-Cookie values to send.

        Raises:
            SessionNotEnded: The store failed; the values are on the exception.
        """
        cleared = self.cookie.clear_headers()
        try:
            raw = self.transport.read(headers).raw
            if raw is not None:
                await self.parts.revoker.revoke_presented(raw)
        except Refusal:  # a token that opens nothing needs no revoking
            pass
        except Unavailable:
            raise SessionNotEnded(cleared) from None
        return cleared

    async def issue(self, session: S, *, label: str | None = None) -> Issued:
        """Mint a token, for APIs and tests.

        Raises:
            MintError: The session cannot become a token.
            Unavailable: The store could not write its row.
        """
        return await self.parts.minter.mint(session, label=label)

    async def verify(self, token: str) -> VerifiedToken:
        """The token alone, without revocation, fallback and session.

        Raises:
            Refusal: With the reason.
        """
        try:
            value = token.encode("ascii")
        except UnicodeEncodeError:
            raise Refusal(Reason.TOKEN_MALFORMED) from None
        raw = RawToken(value=value, carrier=Carrier.BEARER)
        return await self.parts.pipeline.verify(raw, digest(value))

    async def authenticate(self, headers: RawHeaders, *, optional: bool = False) -> Outcome[S]:
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
        known = self.hit(raw)
        if known is not None:
            return Outcome(result="accepted", session=known[0], token=known[1], carrier=raw.carrier)
        return await self.run(raw, optional=optional)

    def session(self, conn: HTTPConnection) -> S:
        """The request's session, typed; ``request.state.session`` is the same object.

        Raises:
            Refusal: ``token_missing`` where there is none; the middleware answers it as such.
        """
        session = conn.scope.get("state", {}).get("session")
        if session is None:
            raise Refusal(Reason.TOKEN_MISSING)
        return cast("S", session)

    async def dependency(self, conn: HTTPConnection) -> S:
        """As :meth:`session`, for FastAPI's ``Depends``: asynchronous, a plain function costs a thread there."""
        return self.session(conn)

    async def still_active(self, conn: HTTPConnection) -> bool:
        """Whether the session of a long-lived request still stands: not expired, not revoked."""
        try:
            raw = self.transport.read(conn.scope["headers"]).raw
            if raw is None:
                return False
            await self.check(raw)
        except Refusal:
            return False
        return True

    async def check(self, raw: RawToken) -> float:
        """Whether a token and its session still stand; counts no request.

        Returns:
            Seconds after which to ask again.

        Raises:
            Refusal: It ended, or the store cannot say.
        """
        ends = await self.parts.pipeline.check(raw)
        again = LONGEST if self._settings.store is None else self._settings.revocation.max_staleness.total_seconds()
        return max(0.05, min(ends - self.clock.now(), again, LONGEST))

    async def run(self, raw: RawToken, *, optional: bool = False) -> Outcome[S]:
        """Everything that is not a plain hit; see ``pipeline``."""
        return await self.parts.pipeline.run(raw, optional=optional)

    def refuse(self, reason: Reason, *, carrier: Carrier | None = None, optional: bool = False) -> Outcome[S]:
        """Count and report a request that is turned away before its token was looked at."""
        return self.parts.pipeline.refuse(reason, Trail(carrier=carrier), optional=optional)

    async def sessions_of(self, user_id: str) -> Sequence[SessionRecord]:
        """The user's active sessions, the latest activity first."""
        return await self.parts.revoker.sessions_of(user_id)

    async def revoke(self, session_id: str) -> bool:
        """Revoke one session; False where no active one has that id."""
        return await self.parts.revoker.revoke(session_id)

    async def revoke_user(self, user_id: str, *, keep: str | None = None) -> None:
        """Revoke every session of a user, but ``keep``."""
        await self.parts.revoker.revoke_user(user_id, keep=keep)

    async def revoke_all(self) -> None:
        """Revoke every session of everybody."""
        await self.parts.revoker.revoke_all()

    async def __aenter__(self) -> Self:
        self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def open(self) -> None:
        """Report the configuration, once; called by the first request or by lifespan."""
        if self._configured:
            return
        self._configured = True
        self._settings.telemetry.configured(**configuration(self.schema, self._settings))

    async def aclose(self) -> None:
        """End what the authority owns; its counts stay, its gauges go."""
        if self.parts.revocation is not None:
            await self.parts.revocation.aclose()
        self.parts.tallies.withdraw_gauges()
