"""What both apps are made of: routes that only a checked session reaches, one stylesheet, one way to fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ..authority import SessionAuthority
from ..errors import ConfigError, Refusal, Unavailable
from ..types import S
from .access import Visitor, visitor_of
from .forms import FORM_TOKEN, fields_of, form_token
from .html import STYLE, button, document, tag, together
from .responses import answer, html, prefers_html, problem, secured, turned_away

Links = Sequence[tuple[str, str]]
Handler = Callable[[Request, Visitor[S]], Awaitable[Response]]


class Mountable(Generic[S]):
    """An ASGI app below the authority's middleware. Its links are relative: they hold under any ``root_path``.

    Raises:
        ConfigError: The authority has no store.
    """

    links: Links = ()

    def __init__(self, authority: SessionAuthority[S], routes: Sequence[tuple[str, str, Handler[S]]]) -> None:
        if authority.parts.revocation is None:
            raise ConfigError("sessions can be listed and revoked only with a store: SessionAuthority(store=…)")
        self._authority: Final = authority
        self._app: Final = Starlette(
            routes=[
                Route("/style.css", _style),
                *(Route(path, self._guarded(handler), methods=[method]) for method, path, handler in routes),
            ],
            exception_handlers={HTTPException: turned_away, Refusal: turned_away, Unavailable: turned_away},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, secured(send) if scope["type"] == "http" else send)

    async def _admit(self, request: Request, visitor: Visitor[S]) -> None:
        """Raise ``HTTPException(403)`` for who may not."""

    def _guarded(self, handler: Handler[S]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            visitor = await visitor_of(self._authority, request)
            await self._admit(request, visitor)
            return await handler(request, visitor)

        return endpoint

    def _fields(self, visitor: Visitor[S]) -> dict[str, str]:
        """What every form of a page carries."""
        return {FORM_TOKEN: form_token(self._authority, visitor)}

    async def _posted(self, request: Request, visitor: Visitor[S]) -> dict[str, str]:
        return await fields_of(request, self._authority, visitor)

    def _unconfirmed(
        self, request: Request, visitor: Visitor[S], fields: dict[str, str], question: str, about: object
    ) -> Response | None:
        """The page that asks, or None where the answer is there."""
        if fields.pop("confirm", "") == "yes":
            return None
        if not prefers_html(request):
            return problem(request, 400, 'Nothing was revoked: say "confirm": true.')
        asked: dict[str, str] = {name: fields[name] for name in ("session_id", "user_id") if name in fields}
        confirmed: dict[str, str] = {**asked, **self._fields(visitor), "confirm": "yes"}
        action = request.url.path.rpartition("/")[2]
        body = (tag("p", about), button(action, "Yes, revoke", "", confirmed), tag("p", tag("a", "No", href="./")))
        return html(document(question, *body, links=self.links), 200)

    def _done(self, request: Request, what: str, text: str) -> Response:
        page = together(tag("p", text, role="status"), tag("p", tag("a", "Go on", href="./")))
        return answer(request, {"revoked": what}, lambda: document("Revoked", page, links=self.links))

    async def _revoke_one(self, request: Request, fields: dict[str, str], user_id: str | None) -> Response:
        if not await self._authority.revoke(fields.get("session_id", ""), user_id=user_id):
            raise HTTPException(404, "There is no such active session.")
        return self._done(request, "session", "The session is revoked.")


async def _style(request: Request) -> Response:
    return Response(STYLE, media_type="text/css")
