"""Session administration: list the users and their sessions, revoke them, and follow the payload migration."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ..authority import SessionAuthority
from ..errors import ConfigError
from ..types import S
from .access import Allow, Visitor, is_allowed
from .base import Mountable
from .forms import fields_of
from .html import button, join, table, tag, time_of
from .migration import migration_facts, migration_page
from .pagination import limit_of, pager, split, user_of
from .responses import respond

_OWN_SESSION: Final = "You are logged out too."


class SessionAdmin(Mountable[S]):
    """``Mount("/admin/sessions", SessionAdmin(authority, allow=is_administrator))``, inside the middleware.

    Args:
        authority: The authority of the sessions; it has a store.
        allow: Called with each request and its session, after the store confirmed that the session is active. Only
            ``True`` allows. If a default filled a claim of the session, the request is denied without a call.

    Raises:
        ConfigError: ``allow`` or the store is missing.
    """

    links = (("./", "Users"), ("migration", "Migration"))

    def __init__(self, authority: SessionAuthority[S], *, allow: Allow[S] | None = None) -> None:
        if not callable(allow):
            raise ConfigError(
                f"allow must be a function, got {type(allow).__name__}; "
                "use SessionAdmin(authority, allow=lambda request, session: …)"
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

    async def _authorize(self, request: Request, visitor: Visitor[S]) -> None:
        if not await is_allowed(self._allow, request, visitor):
            raise HTTPException(403, "You may not administrate sessions.")

    async def _users(self, request: Request, visitor: Visitor[S]) -> Response:
        limit, after = limit_of(request), request.query_params.get("after")
        if after is not None:
            user_of(after)  # the cursor of this list is a user id
        users, last = split(await self._authority.active_users(limit=limit + 1, after=after), limit)
        next_after = None if last is None else last.user_id
        facts = [
            {"user_id": user.user_id, "sessions": user.sessions, "last_activity_at": user.last_activity_at.isoformat()}
            for user in users
        ]

        def page() -> Markup:
            rows = [[_link(user.user_id), user.sessions, time_of(user.last_activity_at)] for user in users]
            return self._document(
                "Active sessions",
                _search(),
                table("Active sessions by user", ["User", "Sessions", "Last activity"], rows),
                pager("./", request, next_after),
                button("revoke-all", "Revoke all sessions of all users", self._hidden_fields(visitor)),
            )

        return respond(request, {"users": facts, "next": next_after}, page)

    async def _sessions(self, request: Request, visitor: Visitor[S]) -> Response:
        user_id = user_of(request.query_params.get("user_id", ""))
        sessions = await self._session_page(request, user_id, visitor)

        def page() -> Markup:
            fields = {**self._hidden_fields(visitor), "user_id": user_id}
            return self._document(
                "Sessions of one user",
                tag("p", "User: ", tag("bdi", user_id)),
                sessions.table("Active sessions, the latest activity first", fields),
                pager("sessions", request, sessions.next_after),
                button("revoke-user", "Revoke all sessions of this user", fields),
            )

        return respond(request, {"user_id": user_id, "sessions": sessions.facts, "next": sessions.next_after}, page)

    async def _migration(self, request: Request, visitor: Visitor[S]) -> Response:
        facts = migration_facts(self._authority)
        return respond(request, facts, lambda: self._document("Migration", *migration_page(facts)))

    async def _revoke_session(self, request: Request, visitor: Visitor[S]) -> Response:
        fields = await fields_of(request, self._authority, visitor)
        user_id = user_of(fields["user_id"]) if "user_id" in fields else None
        owner = join("A session of user ", tag("bdi", user_id or "(not given)"), ".")
        about = join(owner, f" {_OWN_SESSION}" if fields.get("session_id") == visitor.session_id else "")
        confirmation = self._confirmation(request, visitor, fields, "Revoke this session?", about)
        return confirmation or await self._revoke_one(request, fields, user_id)

    async def _revoke_user(self, request: Request, visitor: Visitor[S]) -> Response:
        fields = await fields_of(request, self._authority, visitor)
        user_id = user_of(fields.get("user_id", ""))
        own = f" {_OWN_SESSION}" if user_id == visitor.user_id else ""
        about = join("All sessions of user ", tag("bdi", user_id), f" end.{own}")
        confirmation = self._confirmation(request, visitor, fields, "Revoke all sessions of this user?", about)
        if confirmation is not None:
            return confirmation
        await self._authority.revoke_user(user_id)
        return self._revoked(request, "user", "All sessions of the user are revoked.")

    async def _revoke_all(self, request: Request, visitor: Visitor[S]) -> Response:
        fields = await fields_of(request, self._authority, visitor)
        about = f"Every user has to log in again. {_OWN_SESSION}"
        confirmation = self._confirmation(request, visitor, fields, "Revoke all sessions of all users?", about)
        if confirmation is not None:
            return confirmation
        await self._authority.revoke_all()
        return self._revoked(request, "all", "All sessions of all users are revoked.")


def _link(user_id: str) -> Markup:
    return tag("a", tag("bdi", user_id), href=f"sessions?{urlencode({'user_id': user_id})}")


def _search() -> Markup:
    """A form that finds a user by id, so that no administrator pages through a long list."""
    return tag(
        "form",
        tag("label", "User id", for_="user_id"),
        tag("input", id="user_id", name="user_id", maxlength="255", required="required", autocomplete="off"),
        tag("button", "Show sessions", type="submit"),
        action="sessions",
        role="search",
    )
