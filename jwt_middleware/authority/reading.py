"""Reading a request: from its headers to its session, by the path or by what the middleware decided already."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Generic, cast

from starlette.requests import HTTPConnection

from ..assembly import assemble
from ..decisions import DECIDED, Trail
from ..errors import ConfigError, Reason, Refusal
from ..schema import SessionSchema
from ..seen import LONGEST, digest
from ..settings import Settings
from ..strict import MAX_TOKEN
from ..types import Carrier, Outcome, RawToken, S, TokenInfo, VerifiedToken

RawHeaders = Iterable[tuple[bytes, bytes]]
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
        return self.parts.pipeline.refuse(reason, Trail(carrier=carrier), optional=optional)

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
