"""The authority's life inside the app's: opened after the app is up, flushed before it goes down, breaking neither."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Any, Final
from urllib.parse import unquote

from starlette.authentication import UnauthenticatedUser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..authority import SessionAuthority
from ..errors import ConfigError, Reason, Refusal
from ..names import DECIDED
from ..tokens.cookies import Unreadable
from ..tokens.jws import digest
from ..tokens.transport import COOKIE_READ
from ..types import Carrier, Outcome, RawToken, RenewalDue, TokenInfo
from .csrf import CrossSiteGuard, navigates
from .fast_path import FastPath
from .paths import PublicPaths
from .responses import Refusals, ResponseCookie
from .user import AUTHENTICATED, Credentials, SessionUser
from .websocket import watched

_COOKIE_DECIDES: Final = (b"vary", COOKIE_READ)
_NOBODY: Final = UnauthenticatedUser()
_NO_CREDENTIALS: Final = Credentials()
_STARTS: Final = frozenset(
    {"http.response.start", "websocket.accept", "websocket.close", "websocket.http.response.start"}
)


class JWTSessionMiddleware:
    """Gives every request its session, or turns it away. Default deny.

    Args:
        app: The ASGI app inside.
        authority: Reads the tokens.
        public: Paths whose token is not read: ``/login``, ``/static/*`` (everything below), whole segments.
        optional: Paths on which a bad or missing cookie makes an anonymous request, by the same patterns.
        login: A public path, spelled as a URL, to which a navigation without a session is sent (303).
        on_refused: An ASGI app that answers in place of the built-in response; ``request.state.refusal`` is the
            :class:`Reason`, which must not reach the client.
        trusted_origins: Origins that may send unsafe requests with the cookie: ``https://app.example.com``.
        trusted_proxy: A proxy in front sets ``X-Forwarded-Host``, and strips it from what comes in.

    Raises:
        ConfigError: A pattern or an origin that can match nothing, or a log-in page that is not public.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        authority: SessionAuthority[Any],
        public: Sequence[str] = (),
        optional: Sequence[str] = (),
        login: str | None = None,
        on_refused: ASGIApp | None = None,
        trusted_origins: Sequence[str] = (),
        trusted_proxy: bool = False,
    ) -> None:
        if not isinstance(authority, SessionAuthority):
            raise ConfigError("authority= is a SessionAuthority: the one that issues the app's tokens")
        self.app: Final = app
        self.authority: Final = authority
        self._public: Final = PublicPaths(public)
        self._optional: Final = PublicPaths(optional)
        self._guard: Final = CrossSiteGuard(trusted_origins, trusted_proxy=trusted_proxy)
        self._login: Final = PublicPaths(() if login is None else (unquote(login),))
        self._on_refused: Final = on_refused
        self._sends_to_login: Final = login is not None
        self._refusals: Final = Refusals(login)
        self._read: Final = authority.transport.read
        self._hit: Final = authority.parts.known.hit
        self._takes: Final = FastPath(authority, self._public).take
        self._carrying: Final = ResponseCookie((authority.cookie.name, *authority.cookie.also_read))
        self._attribute: Final = authority.schema.subject_attribute
        if login is not None and (login.endswith("/*") or not self._public.match({"path": unquote(login)})):
            raise ConfigError(f"login={login!r} must be one of the public paths, or nobody could log in")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._takes(scope):
            await self._otherwise(scope, receive, send)
            return
        began = False

        def sending(message: Message) -> Awaitable[None]:
            nonlocal began
            if began or message["type"] != "http.response.start":
                return send(message)
            began = True
            return send({**message, "headers": [*message.get("headers", ()), _COOKIE_DECIDES]})

        try:
            await self.app(scope, receive, sending)
        except Refusal as refusal:
            if began:
                raise
            await self._answer(refusal.reason, scope, receive, send, COOKIE_READ)

    async def _otherwise(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Everything that is no plain hit."""
        if scope["type"] == "lifespan":
            await lifespan(self.app, self.authority, scope, receive, send)
            return
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["session"] = state["token"] = None
        scope["user"], scope["auth"] = _NOBODY, _NO_CREDENTIALS
        self.authority.open()
        if not self._public.match(scope):
            await self._private(scope, receive, send)
        elif self._guard.allows_public(scope):
            await self._inside(scope, receive, send, None)
        else:
            self._count(Reason.CROSS_SITE, scope)
            await self._answer(Reason.CROSS_SITE, scope, receive, send, None)

    async def _private(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw, vary, outside = None, COOKIE_READ, self._decided_outside(scope)
        decided: Outcome[Any] | tuple[Any, TokenInfo] | None
        session: Any
        token: TokenInfo | None
        try:
            raw, vary = self._token(scope)
        except Refusal as refusal:
            decided = self._early(refusal, scope, outside)
        else:
            key = digest(raw.value)
            decided = outside or (None if raw.adopted else self._hit(key))
            if decided is None:
                decided = await self.authority.run(raw, key, optional=self._optional.match(scope))
        if not isinstance(decided, Outcome):
            session, token = decided
        elif decided.session is not None or (decided.result == "anonymous" and self._optional.match(scope)):
            session, token = decided.session, decided.token
        else:
            await self._answer(decided.reason or Reason.TOKEN_MISSING, scope, receive, send, vary)
            return
        scope[DECIDED] = self.authority, decided
        if session is not None:
            scope["state"]["session"], scope["state"]["token"] = session, token
            user = SessionUser()
            user.session, user.attribute = session, self._attribute
            scope["user"], scope["auth"] = user, AUTHENTICATED
        watch = raw if session is not None and outside is None else None
        due = decided.due if isinstance(decided, Outcome) and outside is None else None
        await self._inside(scope, receive, send, vary, watch, due)

    def _token(self, scope: Scope) -> tuple[RawToken, bytes]:
        raw, vary = self._read(scope["headers"])
        if raw is None:
            raise Refusal(Reason.TOKEN_MISSING)
        if raw.carrier is Carrier.COOKIE and not self._guard.allows(scope):
            raise Unreadable(Reason.CROSS_SITE, raw.carrier)
        return raw, vary

    def _early(
        self, refusal: Refusal, scope: Scope, outside: Outcome[Any] | tuple[Any, TokenInfo] | None
    ) -> Outcome[Any]:
        """Refused before the token was looked at; a request that an outer middleware counted is not counted twice."""
        if outside is None:
            carrier = getattr(refusal, "carrier", None)
            return self.authority.refuse(refusal.reason, carrier=carrier, optional=self._optional.match(scope))
        if isinstance(outside, Outcome) and outside.reason is refusal.reason:
            return outside
        return Outcome(result="refused", reason=refusal.reason)

    def _count(self, reason: Reason, scope: Scope) -> None:
        """A refusal on a public path is one too; where something was decided already, the request is counted."""
        if self._decided_outside(scope) is None:
            self.authority.refuse(reason)

    def _decided_outside(self, scope: Scope) -> Outcome[Any] | tuple[Any, TokenInfo] | None:
        """What an outer middleware of the same authority found: this one applies its own policy to it."""
        authority, decided = scope.get(DECIDED, (None, None))
        return decided if authority is self.authority else None

    async def _inside(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        vary: bytes | None,
        watch: RawToken | None = None,
        due: RenewalDue | None = None,
    ) -> None:
        """The app; a Refusal it raises before its response begins is answered as one. ``watch`` ends a websocket."""
        began = False

        def sending(message: Message) -> Awaitable[None]:
            nonlocal began
            if began or message["type"] not in _STARTS:
                return send(message)
            began = True
            if message["type"] == "http.response.start":
                if vary is not None:
                    message = _varied(message, vary)
                if due is not None:
                    return self._send_with_cookie(message, due, send)
            return send(message)

        try:
            if scope["type"] == "websocket" and watch is not None:
                await watched(self.app, partial(self.authority.check, watch), scope, receive, sending)
            else:
                await self.app(scope, receive, sending)
        except Refusal as refusal:
            if began:
                raise
            self._count(refusal.reason, scope)
            await self._answer(refusal.reason, scope, receive, send, vary)

    async def _send_with_cookie(self, message: Message, due: RenewalDue, send: Send) -> None:
        """The start of a response, with the newer cookie where it may carry one and there is one."""
        headers = list(message.get("headers", ()))
        set_cookie = None
        if self._carrying.allows(message["status"], headers):
            set_cookie = await self.authority.parts.reissuer.set_cookie(due)
        await send({**message, "headers": headers if set_cookie is None else self._carrying.put(headers, set_cookie)})

    async def _answer(self, reason: Reason, scope: Scope, receive: Receive, send: Send, vary: bytes | None) -> None:
        if self._sends_to_login and reason.status == 401 and navigates(scope) and not self._login.match(scope):
            await self._refusals.redirect(vary, send)
        elif self._on_refused is None or not _answerable(scope):
            await self._refusals.answer(reason, vary, scope, receive, send)
        else:
            scope["state"]["refusal"] = reason

            async def sending(message: Message) -> None:
                await send(_varied(message, vary) if vary and message["type"] == "http.response.start" else message)

            await self._on_refused(scope, receive, sending)


def _answerable(scope: Scope) -> bool:
    """Whether an HTTP response can be sent: a websocket's handshake needs the denial response extension for it."""
    return scope["type"] == "http" or "websocket.http.response" in scope.get("extensions", {})


def _varied(message: Message, vary: bytes) -> Message:
    """The response depends on what was read of the request; whatever else it says stays."""
    return {**message, "headers": [*message.get("headers", ()), (b"vary", vary)]}


async def lifespan(app: ASGIApp, authority: SessionAuthority[Any], scope: Scope, receive: Receive, send: Send) -> None:
    """Run the inner app's lifespan with the authority's hooked in."""

    async def receiving() -> Message:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            with contextlib.suppress(Exception):  # the app's own shutdown is worth more than a last flush
                await authority.aclose()
        return message

    async def sending(message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            with contextlib.suppress(Exception):  # what it starts here, the first request would start too
                authority.open()
        await send(message)

    await app(scope, receiving, sending)
