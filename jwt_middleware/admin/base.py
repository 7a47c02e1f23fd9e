"""The base of both apps: routes behind a session check, confirmation before a revocation, one error handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Generic

from markupsafe import Markup
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ..authority import SessionAuthority
from ..errors import ConfigError, Reason, Refusal, Unavailable
from ..names import SCOPE_KEY
from ..types import S
from .access import Visitor
from .forms import FORM_TOKEN, form_token
from .html import STYLE, button, document, join, tag
from .pagination import SessionPage, cursor_after, cursor_of, limit_of, split
from .responses import error_response, html, prefers_html, problem, respond, with_security_headers

Links = Sequence[tuple[str, str]]
Handler = Callable[[Request, Visitor[S]], Awaitable[Response]]


class Mountable(Generic[S]):
    """An ASGI app below the authority's middleware. Its links are relative, so it works under any ``root_path``.

    Raises:
        ConfigError: The authority has no store.
    """

    links: Links = ()

    def __init__(self, authority: SessionAuthority[S], routes: Sequence[tuple[str, str, Handler[S]]]) -> None:
        if authority.parts.revoker is None:
            raise ConfigError(f"{type(self).__name__} needs a session store; use SessionAuthority(store=…)")
        self._authority: Final = authority
        self._app: Final = Starlette(
            routes=[
                Route("/style.css", _style),  # no secret: it needs no session
                *(Route(path, self._guarded(handler), methods=[method]) for method, path, handler in routes),
            ],
            exception_handlers={HTTPException: error_response, Refusal: error_response, Unavailable: error_response},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, with_security_headers(send) if scope["type"] == "http" else send)

    async def _authorize(self, request: Request, visitor: Visitor[S]) -> None:
        """Raise ``HTTPException(403)`` if the visitor may not use this app."""

    def _guarded(self, handler: Handler[S]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            visitor = await visitor_of(self._authority, request)
            await self._authorize(request, visitor)
            return await handler(request, visitor)

        return endpoint

    def _hidden_fields(self, visitor: Visitor[S]) -> dict[str, str]:
        """The fields of every form."""
        return {FORM_TOKEN: form_token(self._authority, visitor)}

    def _document(self, title: str, *body: object) -> Markup:
        return document(title, *body, links=self.links)

    async def _session_page(self, request: Request, user_id: str, visitor: Visitor[S]) -> SessionPage:
        """One page of a user's sessions, the latest activity first."""
        limit = limit_of(request)
        records = await self._authority.sessions_of(user_id, limit=limit + 1, after=cursor_of(request))
        shown, last = split(records, limit)
        next_after = None if last is None else cursor_after(last)
        return SessionPage(records=shown, next_after=next_after, current=visitor.session_id)

    def _confirmation(
        self, request: Request, visitor: Visitor[S], fields: Mapping[str, str], question: str, about: object
    ) -> Response | None:
        """The response that asks for confirmation; None if the request confirms."""
        if fields.get("confirm") == "yes":
            return None
        if not prefers_html(request):
            return problem(request, 400, 'Nothing was revoked: add "confirm": true.')
        # Only these two: a field that the caller invents must not return in the form.
        target = {name: fields[name] for name in ("session_id", "user_id") if name in fields}
        confirmed = {**target, **self._hidden_fields(visitor), "confirm": "yes"}
        action = request.url.path.rpartition("/")[2]  # relative: this app does not know where it is mounted
        body = (tag("p", about), button(action, "Yes, revoke", confirmed), tag("p", tag("a", "No", href="./")))
        return html(self._document(question, *body), 200)

    def _revoked(self, request: Request, scope: str, text: str) -> Response:
        """The response after a revocation; ``scope`` is what was revoked."""
        page = join(tag("p", text, role="status"), tag("p", tag("a", "Continue", href="./")))
        return respond(request, {"revoked": scope}, lambda: self._document("Revoked", page))

    async def _revoke_one(self, request: Request, fields: Mapping[str, str], user_id: str | None) -> Response:
        if not await self._authority.revoke(fields.get("session_id", ""), user_id=user_id):
            raise HTTPException(404, "There is no such active session.")
        return self._revoked(request, "session", "The session is revoked.")


async def _style(request: Request) -> Response:
    return Response(STYLE, media_type="text/css")


async def visitor_of(authority: SessionAuthority[S], request: Request) -> Visitor[S]:
    """Check the request's session against the store, past every cache.

    Raises:
        Refusal: There is no session, another authority read it, it ended, or the store is down.
    """
    if request.scope.get(SCOPE_KEY, (None,))[0] is not authority:
        raise Refusal(Reason.TOKEN_MISSING)
    session = authority.session(request)
    raw = await authority.parts.token_in(request.scope["headers"])
    if raw is None:  # something between the middleware and this app removed the headers
        raise Refusal(Reason.TOKEN_MISSING)
    key = await authority.parts.authenticator.confirm(raw)
    return Visitor(
        session=session,
        token=request.scope["state"]["token"],
        raw=raw,
        session_id=key.session_id or "",
        user_id=key.user_id,
    )
