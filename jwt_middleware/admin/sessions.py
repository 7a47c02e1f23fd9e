"""For administrators: who is logged in, revoking, and how far the migration of the payload is."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ..authority import SessionAuthority
from ..errors import ConfigError
from ..types import S
from .access import Allow, Visitor, allowed
from .base import Mountable
from .html import Html, button, clock_time, document, table, tag, together
from .migration import migration_facts, migration_page
from .pagination import (
    Forms,
    asked_of,
    cursor_after,
    cursor_of,
    cut,
    facts_of,
    limit_of,
    pager,
    sessions_table,
    user_of,
)
from .responses import answer

_HERE: Final = "You are logged out too."


class SessionAdmin(Mountable[S]):
    """``Mount("/admin/sessions", SessionAdmin(authority, allow=is_administrator))``, inside of the middleware.

    Args:
        authority: Whose sessions; it has a store.
        allow: Asked on every request with the request and its session, after the store was asked whether that session
            is active. Only ``True`` allows. A session of which a claim was filled from a default is not asked about.

    Raises:
        ConfigError: ``allow`` or the store is missing.
    """

    links = (("./", "Users"), ("migration", "Migration"))

    def __init__(self, authority: SessionAuthority[S], *, allow: Allow[S] | None = None) -> None:
        if not callable(allow):
            raise ConfigError(
                "who may administrate sessions? SessionAdmin(authority, allow=lambda request, session: …)"
            )
        self._allow: Final[Allow[S]] = allow
        super().__init__(
            authority,
            [
                ("GET", "/", self._users),
                ("GET", "/sessions", self._sessions),
                ("GET", "/migration", self._migration),
                ("POST", "/revoke-session", self._revoke_session),
                ("POST", "/revoke-user", self._revoke_user),
                ("POST", "/revoke-all", self._revoke_all),
            ],
        )

    async def _admit(self, request: Request, visitor: Visitor[S]) -> None:
        if not await allowed(self._allow, request, visitor):
            raise HTTPException(403, "You may not administrate sessions.")

    async def _users(self, request: Request, visitor: Visitor[S]) -> Response:
        limit, asked = limit_of(request), asked_of(request, "limit", "after")
        after = user_of(asked["after"]) if "after" in asked else None
        users, last = cut(await self._authority.active_users(limit=limit + 1, after=after), limit)
        next_after = None if last is None else last.user_id
        facts = [
            {"user_id": user.user_id, "sessions": user.sessions, "last_activity_at": user.last_activity_at.isoformat()}
            for user in users
        ]

        def page() -> Html:
            rows = [[_link(user.user_id), user.sessions, clock_time(user.last_activity_at)] for user in users]
            return document(
                "Active sessions",
                _search(),
                table("Active sessions by user", ["User", "Sessions", "Last activity"], rows),
                pager("./", asked, next_after),
                button("revoke-all", "Revoke all sessions of everybody", "", self._fields(visitor)),
                links=self.links,
            )

        return answer(request, {"users": facts, "next": next_after}, page)

    async def _sessions(self, request: Request, visitor: Visitor[S]) -> Response:
        user_id, limit = user_of(request.query_params.get("user_id", "")), limit_of(request)
        asked = asked_of(request, "user_id", "limit", "after")
        found = await self._authority.sessions_of(user_id, limit=limit + 1, after=cursor_of(request))
        records, last = cut(found, limit)
        next_after = None if last is None else cursor_after(last)
        current = visitor.session_id

        def page() -> Html:
            fields = {**self._fields(visitor), "user_id": user_id}
            forms = Forms(action="revoke-session", fields=fields)
            return document(
                "Sessions of one user",
                tag("p", "User: ", tag("bdi", user_id)),
                sessions_table("Active sessions, the latest activity first", records, forms, current=current),
                pager("sessions", asked, next_after),
                button("revoke-user", "Revoke all sessions of this user", "", fields),
                links=self.links,
            )

        facts = [facts_of(record, current=current) for record in records]
        return answer(request, {"user_id": user_id, "sessions": facts, "next": next_after}, page)

    async def _migration(self, request: Request, visitor: Visitor[S]) -> Response:
        facts = migration_facts(self._authority)
        return answer(request, facts, lambda: document("Migration", *migration_page(facts), links=self.links))

    async def _revoke_session(self, request: Request, visitor: Visitor[S]) -> Response:
        fields = await self._posted(request, visitor)
        user_id = user_of(fields["user_id"]) if "user_id" in fields else None
        whose = together("A session of user ", tag("bdi", user_id or "(not told)"), ".")
        here = f" {_HERE}" if fields.get("session_id") == visitor.session_id else ""
        asking = self._unconfirmed(request, visitor, fields, "Revoke this session?", together(whose, here))
        return asking or await self._revoke_one(request, fields, user_id)

    async def _revoke_user(self, request: Request, visitor: Visitor[S]) -> Response:
        fields = await self._posted(request, visitor)
        user_id = user_of(fields.get("user_id", ""))
        here = f" {_HERE}" if user_id == visitor.user_id else ""
        about = together("All sessions of user ", tag("bdi", user_id), f" end.{here}")
        asking = self._unconfirmed(request, visitor, fields, "Revoke all sessions of this user?", about)
        if asking is not None:
            return asking
        await self._authority.revoke_user(user_id)
        return self._done(request, "user", "All sessions of the user are revoked.")

    async def _revoke_all(self, request: Request, visitor: Visitor[S]) -> Response:
        fields = await self._posted(request, visitor)
        about = f"Everybody has to log in again. {_HERE}"
        asking = self._unconfirmed(request, visitor, fields, "Revoke all sessions of everybody?", about)
        if asking is not None:
            return asking
        await self._authority.revoke_all()
        return self._done(request, "all", "All sessions of everybody are revoked.")


def _link(user_id: str) -> Html:
    return tag("a", tag("bdi", user_id), href=f"sessions?{urlencode({'user_id': user_id})}")


def _search() -> Html:
    """A user is found by id, however many there are."""
    return tag(
        "form",
        tag("label", "User id", for_="user_id"),
        tag("input", id="user_id", name="user_id", maxlength="255", required="required", autocomplete="off"),
        tag("button", "Show sessions", type="submit"),
        action="sessions",
        role="search",
    )
