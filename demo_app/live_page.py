"""The live page at ``/``: its files, the figures for everybody, and what it shows and does for who is logged in."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from jwt_middleware import Refusal

from .board import Board
from .mounted import administration, devices
from .pages import SECURITY
from .release import authority_of
from .you import you

PUBLIC: Final = ("/", "/api/live", "/static/*")
"""The figures of the demo are everybody's, and hold nothing about anybody."""
OPTIONAL: Final = ("/api/you",)
STATIC: Final = Path(__file__).with_name("static")
_SCRIPTED: Final = {
    **SECURITY,
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
}


def routes(board: Board) -> list[BaseRoute]:
    """Everything of the live page."""
    page = _Page(board)
    return [
        Route("/", page.home),
        Route("/api/live", page.live),
        Route("/api/you", page.you),
        Route("/logout-everywhere", page.logout_everywhere, methods=["POST"]),
        Mount("/devices", devices()),
        Mount("/admin/sessions", administration()),
    ]


class Files(StaticFiles):
    """Style and scripts, as what they say they are; asked for again each time, because a demo is edited."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-cache"
        return response


class _Page:
    """One method a route."""

    def __init__(self, board: Board) -> None:
        self._board: Final = board

    async def home(self, _: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers=_SCRIPTED)

    async def live(self, request: Request) -> Response:
        since, event = _number(request, "since"), _number(request, "event")
        return _answer(self._board.facts(since=since, event=int(event)))

    async def you(self, request: Request) -> Response:
        """Asked now and then by the page of who is logged in, and counted like every other request."""
        try:
            return _answer({"you": await you(authority_of(request), request)})
        except Refusal:  # it ended while it was looked at
            return _answer({"you": None})

    async def logout_everywhere(self, request: Request) -> Response:
        """Every session of the user, this one too."""
        authority = authority_of(request)
        await authority.revoke_user(authority.session(request).user_id)
        response = Response(status_code=204)
        for cleared in authority.cookie.clear_headers():
            response.headers.append("set-cookie", cleared)
        return response


def _answer(facts: dict[str, Any]) -> Response:
    return JSONResponse(facts, headers={"Cache-Control": "no-store"})


def _number(request: Request, name: str) -> float:
    """How far the page has come; 0 for one that has nothing yet.

    Raises:
        HTTPException: 400.
    """
    try:
        number = float(request.query_params.get(name, "0"))
    except ValueError:
        number = math.nan
    if not 0 <= number < 1e12:
        raise HTTPException(400)
    return number
