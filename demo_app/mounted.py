"""The package's own pages for sessions, mounted: ``/admin/sessions`` for administrators, ``/devices`` for everybody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from jwt_middleware import SessionAuthority
from jwt_middleware.admin.devices import MyDevices
from jwt_middleware.admin.sessions import SessionAdmin

from .release import authority_of
from .session import Session
from .you import ADMIN


class Deployed:
    """ASGI: an app that belongs to an authority, of the authority that let the request in."""

    def __init__(self, build: Callable[[SessionAuthority[Session]], ASGIApp]) -> None:
        self._build: Final = build
        self._built: tuple[SessionAuthority[Session], ASGIApp] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        authority = authority_of(HTTPConnection(scope))
        if self._built is None or self._built[0] is not authority:
            self._built = authority, self._build(authority)
        await self._built[1](scope, receive, send)


def administration() -> ASGIApp:
    """Who is logged in, and the state of the migration. Who may: whose token says that they are an administrator."""
    return Deployed(lambda authority: SessionAdmin(authority, allow=_is_administrator))


def devices() -> ASGIApp:
    """Everybody's own sessions; the live page revokes by its JSON."""
    return Deployed(MyDevices)


def _is_administrator(_: HTTPConnection, session: Session) -> bool:
    return session.role == ADMIN
