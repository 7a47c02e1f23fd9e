"""My devices: each user lists and revokes their own sessions, and every statement carries that user's id."""

from __future__ import annotations

from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ..authority import SessionAuthority
from ..types import S
from .access import Visitor
from .base import Mountable
from .forms import fields_of
from .html import button
from .pagination import pager
from .responses import respond


class MyDevices(Mountable[S]):
    """``Mount("/devices", MyDevices(authority))``, inside the middleware: the sessions of the request's user.

    Raises:
        ConfigError: The authority has no store.
    """

    links = (("./", "My devices"),)

    def __init__(self, authority: SessionAuthority[S]) -> None:
        super().__init__(
            authority,
            [
                ("GET", "/", self._list),
                ("POST", "/revoke-session", self._revoke_session),
                ("POST", "/revoke-others", self._revoke_others),
            ],
        )

    async def _list(self, request: Request, visitor: Visitor[S]) -> Response:
        sessions = await self._session_page(request, visitor.user_id, visitor)

        def page() -> Markup:
            fields = self._hidden_fields(visitor)
            return self._document(
                "My devices",
                sessions.table("Where you are logged in", fields),
                pager("./", request, sessions.next_after),
                button("revoke-others", "Log out on all other devices", fields),
            )

        return respond(request, {"sessions": sessions.facts, "next": sessions.next_after}, page)

    async def _revoke_session(self, request: Request, visitor: Visitor[S]) -> Response:
        fields = await fields_of(request, self._authority, visitor)
        own = fields.get("session_id") == visitor.session_id
        about = "You are logged out here." if own else "That device is logged out."
        confirmation = self._confirmation(request, visitor, fields, "Log out on this device?", about)
        return confirmation or await self._revoke_one(request, fields, visitor.user_id)

    async def _revoke_others(self, request: Request, visitor: Visitor[S]) -> Response:
        fields = await fields_of(request, self._authority, visitor)
        if visitor.token.session_id is None:  # without a row there is nothing to keep, and it would end too
            raise HTTPException(409, "This session is older than the list of sessions. Log in again first.")
        about = "You stay logged in here."
        confirmation = self._confirmation(request, visitor, fields, "Log out on all other devices?", about)
        if confirmation is not None:
            return confirmation
        await self._authority.revoke_user(visitor.user_id, keep=visitor.session_id)
        return self._revoked(request, "others", "All other devices are logged out.")
