"""The live page at ``/``: its files, the figures for every visitor, and the token and actions of a logged-in user.

The page polls and says which points and events it has, so only newer ones are sent. The cookie is HttpOnly, so the
page's script cannot read it: the server decodes the token for the page, and never sends the token itself.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from jwt_middleware import Refusal, SessionAuthority, SessionRecord, TokenInfo
from jwt_middleware.admin.devices import MyDevices
from jwt_middleware.admin.sessions import SessionAdmin

from .database import email_of, role_of
from .deployment import DeployedApp, Deployment, authority_of
from .session import Session
from .settings import Settings
from .telemetry import RecentEvents
from .watch import Figures, Point, Watch, sentence

PUBLIC: Final = ("/", "/api/live", "/static/*")
"""Every visitor may see the figures: they contain nothing about a user."""
OPTIONAL: Final = ("/api/you",)
STATIC: Final = Path(__file__).with_name("static")
SECURITY: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""The headers of a page without scripts."""
_SCRIPTED: Final = {
    **SECURITY,
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
}
_ADMIN: Final = "admin"
_MOST_EVENTS: Final = 40
"""Events of one response."""
_MOST_USERS: Final = 12
"""Users that the page offers to log in as."""
_MOST_DEVICES: Final = 8
_ENVELOPE: Final = ("version", "iat", "exp", "auth_time", "sid")
_TIMES: Final = frozenset({"iat", "exp", "auth_time"})


def routes(facts: LiveFacts) -> list[BaseRoute]:
    """The routes of the live page, and the package's own pages for sessions, mounted."""
    page = _Page(facts)
    return [
        Route("/", page.home),
        Route("/api/live", page.live),
        Route("/api/you", page.you),
        Route("/logout-everywhere", page.logout_everywhere, methods=["POST"]),
        Mount("/devices", DeployedApp(MyDevices)),
        Mount("/admin/sessions", DeployedApp(lambda authority: SessionAdmin(authority, allow=_is_administrator))),
    ]


class Files(StaticFiles):
    """Styles and scripts. Browsers revalidate them each time, because a demo gets edited."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-cache"
        return response


class _Page:
    """One method a route."""

    def __init__(self, facts: LiveFacts) -> None:
        self._facts: Final = facts

    async def home(self, _: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers=_SCRIPTED)

    async def live(self, request: Request) -> Response:
        since, event = _number(request, "since"), _number(request, "event")
        return _json(self._facts.newer_than(since=since, event=int(event)))

    async def you(self, request: Request) -> Response:
        """The logged-in user. The page polls it, and it counts like every other request."""
        try:
            return _json({"you": await you(authority_of(request), request)})
        except Refusal:  # the session ended meanwhile
            return _json({"you": None})

    async def logout_everywhere(self, request: Request) -> Response:
        """Revoke every session of the user, also this one."""
        authority = authority_of(request)
        await authority.revoke_user(authority.session(request).user_id)
        response = Response(status_code=204)
        response.headers.append("set-cookie", authority.cookie.clear_header())
        return response


def _json(content: dict[str, Any]) -> Response:
    return JSONResponse(content, headers={"Cache-Control": "no-store"})


def _number(request: Request, name: str) -> float:
    """A query parameter: the newest point or event that the page has; 0 by default.

    Raises:
        HTTPException: 400, not a number in range.
    """
    try:
        number = float(request.query_params.get(name, "0"))
    except ValueError:
        number = math.nan
    if not 0 <= number < 1e12:
        raise HTTPException(400)
    return number


def _is_administrator(_: HTTPConnection, session: Session) -> bool:
    return session.role == _ADMIN


class LiveFacts:
    """The public facts of a run, collected from its parts."""

    def __init__(self, settings: Settings, deployment: Deployment, watch: Watch, events: RecentEvents) -> None:
        self._settings: Final = settings
        self._deployment: Final = deployment
        self._watch: Final = watch
        self._events: Final = events
        self._run: Final = secrets.token_hex(4)

    def newer_than(self, *, since: float, event: int) -> dict[str, Any]:
        """The current facts, the points later than ``since``, the events after number ``event``."""
        figures = self._watch.figures()
        return {
            "run": self._run,
            "window": self._settings.window,
            "day": self._settings.day,
            "planned": self._deployment.planned,
            "released": self._deployment.released_at is not None,
            "mints": self._deployment.authority.schema.mints,
            "figures": None if figures is None else _figures(figures),
            "columns": [field.name for field in fields(Point)],
            "points": [astuple(point) for point in self._watch.curves.since(since)],
            "events": self._events.since(event, limit=_MOST_EVENTS),
            "users": [
                {"email": email_of(number), "role": role_of(number)}
                for number in range(1, min(_MOST_USERS, self._settings.users) + 1)
            ],
        }


def _figures(figures: Figures) -> dict[str, Any]:
    return {**asdict(figures), "verdict": figures.verdict.value, "sentence": sentence(figures.verdict)}


async def you(authority: SessionAuthority[Session], request: Request) -> dict[str, Any] | None:
    """The logged-in user and the decoded token; None without a session."""
    token: TokenInfo | None = request.state.token
    if token is None:
        return None
    session = authority.session(request)
    carried = authority.transport.read(request.scope["headers"]).raw
    assert carried is not None  # noqa: S101 - the session came from it
    verified = await authority.verify(carried.value.decode("ascii"))
    devices = await authority.sessions_of(session.user_id, limit=_MOST_DEVICES)
    return {
        "email": session.email,
        "role": session.role,
        "mayRelease": "release" in session.permissions,
        "mayAdministrate": session.role == _ADMIN,
        "version": token.version,
        "today": authority.schema.version,
        "expiresAt": token.expires_at.timestamp(),
        "claims": list(_claims(authority, session, token, dict(verified.claims))),
        "devices": [_device(record, current=token.session_id) for record in devices],
    }


def _claims(
    authority: SessionAuthority[Session], session: Session, token: TokenInfo, carried: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Today's claims with their sources, then the registered claims of the envelope."""
    filled = {claim.claim: claim.source for claim in token.filled}
    for spec in authority.schema.claims:
        source = filled.get(spec.name, "token" if spec.name in carried else "default")
        value = carried[spec.name] if source == "token" else getattr(session, spec.attribute)
        yield {"name": spec.name, "value": value, "source": source, "since": spec.since}
    for name in _ENVELOPE:
        if name in carried:
            value = f"{carried[name][:8]}…" if name == "sid" else carried[name]
            yield {"name": name, "value": value, "source": "token", "since": 1, "time": name in _TIMES}


def _device(record: SessionRecord, *, current: str | None) -> dict[str, Any]:
    return {
        "id": record.id,
        "label": record.label or "no label",
        "since": record.created_at.timestamp(),
        "current": record.id == current,
    }
