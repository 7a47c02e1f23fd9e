"""For everybody: my devices. Whatever is read or revoked here is the asking user's, by the statement itself."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ..authority import SessionAuthority
from ..types import S
from .access import Visitor
from .base import Mountable
from .html import Html, button, document
from .pagination import Forms, asked_of, cursor_after, cursor_of, cut, facts_of, limit_of, pager, sessions_table
from .responses import answer


class MyDevices(Mountable[S]):
    """``Mount("/devices", MyDevices(authority))``, inside of the middleware: a user's own sessions.

    Raises:
        ConfigError: The authority has no store.
    """

    links = (("./", "My devices"),)

    def __init__(self, authority: SessionAuthority[S]) -> None:
        super().__init__(
            authority,
            [
                ("GET", "/", self._mine),
                ("POST", "/revoke-session", self._revoke_session),
                ("POST", "/revoke-others", self._revoke_others),
            ],
        )

    async def _mine(self, request: Request, visitor: Visitor[S]) -> Response:
        limit, asked = limit_of(request), asked_of(request, "limit", "after")
        found = await self._authority.sessions_of(visitor.user_id, limit=limit + 1, after=cursor_of(request))
        records, last = cut(found, limit)
        next_after = None if last is None else cursor_after(last)
        current = visitor.session_id

        def page() -> Html:
            fields = self._fields(visitor)
            forms = Forms(action="revoke-session", fields=fields)
            return document(
                "My devices",
                sessions_table("Where you are logged in", records, forms, current=current),
                pager("./", asked, next_after),
                button("revoke-others", "Log out on all other devices", "", fields),
                links=self.links,
            )

        facts = [facts_of(record, current=current) for record in records]
        return answer(request, {"sessions": facts, "next": next_after}, page)

    async def _revoke_session(self, request: Request, visitor: Visitor[S]) -> Response:
        fields = await self._posted(request, visitor)
        here = fields.get("session_id") == visitor.session_id
        about = "You are logged out here." if here else "That device is logged out."
        asking = self._unconfirmed(request, visitor, fields, "Log out on this device?", about)
        return asking or await self._revoke_one(request, fields, visitor.user_id)

    async def _revoke_others(self, request: Request, visitor: Visitor[S]) -> Response:
        fields = await self._posted(request, visitor)
        if visitor.token.session_id is None:
            raise HTTPException(409, "This session is older than the list of sessions. Log in again first.")
        about = "You stay logged in here."
        asking = self._unconfirmed(request, visitor, fields, "Log out on all other devices?", about)
        if asking is not None:
            return asking
        await self._authority.revoke_user(visitor.user_id, keep=visitor.session_id)
        return self._done(request, "others", "All other devices are logged out.")
