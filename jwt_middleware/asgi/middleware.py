"""ASGI in and out: what stands between the server and the app on every request.

Pure ASGI. ``self`` is read-only after construction, and ``send`` is wrapped only to see a response start.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Any, Final
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..authenticator import Presented
from ..authority import SessionAuthority
from ..errors import ConfigError, Reason, Refusal, SessionNotEnded, Unavailable
from ..names import SCOPE_KEY
from ..sessions.token_cache import Hit
from ..tokens.cookies import Unreadable
from ..tokens.transport import COOKIE_READ
from ..types import Carrier, Outcome, RawToken, RenewalDue
from .csrf import CrossSiteGuard, is_navigation
from .fast_path import FastPath
from .paths import PublicPaths
from .responses import Refusals, RenewalResponse
from .user import Decision, attach, decision_of, detach
from .websocket import WatchedWebSocket

_COOKIE_DECIDES: Final = (b"vary", COOKIE_READ)
_STARTS: Final = frozenset(
    {"http.response.start", "websocket.accept", "websocket.close", "websocket.http.response.start"}
)


class JWTSessionMiddleware:
    """Gives every request its session, or refuses it. Default deny.

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
            raise ConfigError(
                f"authority must be the SessionAuthority that issues the app's tokens, got {type(authority).__name__}"
            )
        self.app: Final = app
        self.authority: Final = authority
        self._public: Final = PublicPaths(public)
        self._optional: Final = PublicPaths(optional)
        self._has_optional: Final = bool(optional)
        self._guard: Final = CrossSiteGuard(trusted_origins, trusted_proxy=trusted_proxy)
        self._login: Final = PublicPaths(() if login is None else (unquote(login),))
        self._redirects: Final = login is not None
        self._on_refused: Final = on_refused
        self._refusals: Final = Refusals(login)
        self._parts: Final = authority.parts
        self._authenticator: Final = authority.parts.authenticator
        self._take: Final = FastPath(authority, self._public).take
        self._renewal_response: Final = RenewalResponse(authority.transport.names)
        self._attribute: Final = authority.schema.subject_attribute
        if login is not None and (login.endswith("/*") or not self._public.match({"path": unquote(login)})):
            raise ConfigError(f"login must be one of the public paths, got {login!r}; add it to public=")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        taken = self._take(scope)
        if type(taken) is not Hit:
            await self._slow_path(scope, receive, send, taken)
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
        except (Refusal, Unavailable) as error:
            if began:
                raise
            await self._answer_error(error, scope, receive, send, COOKIE_READ)

    async def _slow_path(self, scope: Scope, receive: Receive, send: Send, presented: Presented | None) -> None:
        """Every request that is not a cache hit; ``presented`` is its token where the fast path read one."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
        else:
            detach(scope)
            if not self._parts.is_open:
                self._parts.open()
            if presented is not None or not self._public.match(scope):
                await self._private(scope, receive, send, presented)
            elif self._guard.allows_public(scope):
                await self._run_app(scope, receive, send, None)
            else:
                self._count(Reason.CROSS_SITE, scope)
                await self._answer(Reason.CROSS_SITE, scope, receive, send, None)

    async def _private(self, scope: Scope, receive: Receive, send: Send, presented: Presented | None) -> None:
        """A path that needs a session, or may have one."""
        outer = decision_of(scope, self.authority) if SCOPE_KEY in scope else None
        optional = self._has_optional and self._optional.match(scope)
        raw, vary = None, COOKIE_READ
        decision: Decision | Presented
        try:
            if presented is None:
                raw, vary = await self._read_token(scope, outer)
            else:
                raw = presented.raw
        except Refusal as refusal:
            decision = self._refuse_unread(refusal, outer, optional=optional)
        else:
            decision = outer or presented or self._authenticator.present(raw)
            if isinstance(decision, Presented):
                decision = await self._authenticator.decide(decision, optional=optional)
        if decision.session is not None:
            attach(scope, self.authority, decision, self._attribute)
            own = (raw, decision.renewal) if outer is None else (None, None)  # else the outer one watches and renews
            await self._run_app(scope, receive, send, vary, *own)
        elif decision.result == "anonymous" and optional:
            scope[SCOPE_KEY] = self.authority, decision
            await self._run_app(scope, receive, send, vary)
        else:
            await self._answer(decision.reason or Reason.TOKEN_MISSING, scope, receive, send, vary)

    async def _read_token(self, scope: Scope, outer: Decision | None) -> tuple[RawToken, bytes]:
        """The token, and the headers that decided which.

        Raises:
            Refusal: There is none, it cannot be read, or another site sent it.
        """
        raw, vary, others = self.authority.transport.read(scope["headers"])
        if raw is None:
            raise Refusal(Reason.TOKEN_MISSING)
        if raw.carrier is Carrier.COOKIE and not self._guard.allows(scope):
            raise Unreadable(Reason.CROSS_SITE, raw.carrier)
        if others and outer is None:
            raw = await self._authenticator.choose([raw, *others])
        return raw, vary

    def _refuse_unread(self, refusal: Refusal, outer: Decision | None, *, optional: bool) -> Decision:
        """Refused before the token is verified. A request that an outer middleware counted is not counted again."""
        if outer is None:
            carrier = getattr(refusal, "carrier", None)
            return self._authenticator.refuse(refusal.reason, carrier=carrier, optional=optional)
        return outer if outer.reason is refusal.reason else Outcome(result="refused", reason=refusal.reason)

    def _count(self, reason: Reason, scope: Scope) -> None:
        """Count a refusal that no decision counted."""
        if decision_of(scope, self.authority) is None:
            self._authenticator.refuse(reason)

    async def _run_app(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        vary: bytes | None,
        raw: RawToken | None = None,
        renewal: RenewalDue | None = None,
    ) -> None:
        """Run the app; a Refusal that it raises before its response begins is answered as one.

        ``vary`` names the request headers that decided, ``raw`` is the token whose end closes a websocket, ``renewal``
        the newer token that the response may carry.
        """
        began = False

        def sending(message: Message) -> Awaitable[None]:
            nonlocal began
            if began or message["type"] not in _STARTS:
                return send(message)
            began = True
            if message["type"] == "http.response.start":
                if vary is not None:
                    message = _with_vary(message, vary)
                if renewal is not None:
                    return self._send_with_cookie(message, renewal, send)
            return send(message)

        try:
            if scope["type"] == "websocket" and raw is not None:
                check = partial(self._authenticator.check, raw)
                await WatchedWebSocket(check, receive, sending).run(self.app, scope)
            else:
                await self.app(scope, receive, sending)
        except (Refusal, Unavailable) as error:
            if began:
                raise
            await self._answer_error(error, scope, receive, send, vary)

    async def _send_with_cookie(self, message: Message, renewal: RenewalDue, send: Send) -> None:
        """Send the start of a response, with the newer cookie if it may carry one and there is one."""
        headers = list(message.get("headers", ()))
        if self._renewal_response.allows(message["status"], headers):
            set_cookie = await self._parts.renewer.set_cookie(renewal)
            if set_cookie is not None:
                headers = self._renewal_response.add(headers, set_cookie)
        await send({**message, "headers": headers})

    async def _answer_error(
        self, error: Refusal | Unavailable, scope: Scope, receive: Receive, send: Send, vary: bytes | None
    ) -> None:
        """Answer what the app raised before its response began; a log-out that failed still clears the cookies."""
        reason = error.reason if isinstance(error, Refusal) else Reason.SESSIONS_UNAVAILABLE
        cleared = error.set_cookie if isinstance(error, SessionNotEnded) else ()
        self._count(reason, scope)

        async def sending(message: Message) -> None:
            if message["type"] in _STARTS and "headers" in message:
                cookies = [(b"set-cookie", value.encode("latin-1")) for value in cleared]
                message = {**message, "headers": [*message["headers"], *cookies]}
            await send(message)

        await self._answer(reason, scope, receive, sending if cleared else send, vary)

    async def _answer(self, reason: Reason, scope: Scope, receive: Receive, send: Send, vary: bytes | None) -> None:
        """Answer a refused request: by a redirect to the log-in page, the app's own response, or the built-in one."""
        if self._redirects and reason.status == 401 and is_navigation(scope) and not self._login.match(scope):
            await self._refusals.redirect(vary, send)
            return
        if self._on_refused is None or not _is_answerable(scope):
            await self._refusals.answer(reason, vary, scope, receive, send)
            return
        scope["state"]["refusal"] = reason

        async def sending(message: Message) -> None:
            await send(_with_vary(message, vary) if vary and message["type"] == "http.response.start" else message)

        await self._on_refused(scope, receive, sending)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start the authority once the app is up, and end it before the app goes down. It fails neither."""

        async def receiving() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                with contextlib.suppress(Exception):  # the shutdown of the app is worth more than a last write
                    await self.authority.aclose()
            return message

        async def sending(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                with contextlib.suppress(Exception):  # the first request would start the same
                    self._parts.open()
            await send(message)

        await self.app(scope, receiving, sending)


def _is_answerable(scope: Scope) -> bool:
    """True if an HTTP response can be sent: to a websocket's handshake, with the denial response extension."""
    return scope["type"] == "http" or "websocket.http.response" in scope.get("extensions", {})


def _with_vary(message: Message, vary: bytes) -> Message:
    """The start of a response that depends on these request headers."""
    return {**message, "headers": [*message.get("headers", ()), (b"vary", vary)]}
