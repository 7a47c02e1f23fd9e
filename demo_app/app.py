"""The app: log in, log out, show the session, save as the user, release, and serve metrics and health."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final
from urllib.parse import parse_qs

from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.util.http import parse_excluded_urls
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from jwt_middleware import SessionNotEnded, Unavailable

from . import live_page
from .database import Database
from .deployment import DeployedSessions, Deployment, session_of
from .live_page import LiveFacts
from .passwords import LONGEST, matches
from .session import PERMISSIONS, Session
from .telemetry import Signals

PUBLIC: Final = ("/login", "/logout", "/healthz", "/metrics", *live_page.PUBLIC)
_FORM: Final = "application/x-www-form-urlencoded"
_LARGEST_BODY: Final = 4_096

_LOGIN: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Log in - jwt_middleware demo</title>
<link rel="icon" href="/static/icon.svg">
<link rel="stylesheet" href="/static/style.css">
</head>
<body class="plain">
<main>
<h1>Log in</h1>
{alert}
<form method="post" action="/login">
<label for="email">Email</label>
<input id="email" name="email" type="email" autocomplete="username" required>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button type="submit">Log in</button>
</form>
<p>The terminal that runs the demo shows the users and their password.</p>
</main>
</body>
</html>
"""


def create_app(database: Database, deployment: Deployment, signals: Signals, facts: LiveFacts | None = None) -> ASGIApp:
    """The whole ASGI app. OpenTelemetry is outermost, so that the spans of the sessions are children of its spans.

    Without ``facts`` there is no live page.
    """
    handlers = _Handlers(database, deployment, signals)
    app = Starlette(
        routes=[
            Route("/login", handlers.login_form),
            Route("/login", handlers.login, methods=["POST"]),
            Route("/logout", handlers.logout, methods=["POST"]),
            Route("/me", handlers.me),
            Route("/api/consolidation/save", handlers.save, methods=["POST"]),
            Route("/release", handlers.release, methods=["POST"]),
            Route("/metrics", handlers.metrics),
            Route("/healthz", handlers.healthz),
            Mount("/static", live_page.Files(directory=live_page.STATIC)),
            *(live_page.routes(facts) if facts else ()),
        ],
        exception_handlers=dict.fromkeys((Unavailable, SQLAlchemyError), _unavailable),
        middleware=[
            Middleware(
                DeployedSessions, deployment=deployment, public=PUBLIC, optional=live_page.OPTIONAL, login="/login"
            )
        ],
    )
    return OpenTelemetryMiddleware(
        app,
        excluded_urls=parse_excluded_urls("/metrics,/healthz,/static,/api/live"),
        tracer_provider=signals.tracers,
        meter_provider=signals.meters,
        exclude_spans=["receive", "send"],
    )


class _Handlers:
    """One method a route."""

    def __init__(self, database: Database, deployment: Deployment, signals: Signals) -> None:
        self._database: Final = database
        self._deployment: Final = deployment
        self._signals: Final = signals

    async def login_form(self, _: Request) -> Response:
        return login_page()

    async def login(self, request: Request) -> Response:
        """The one place that decides what the payload contains; the deployment decides which version is minted."""
        email, password = _credentials(await _fields(request))
        user = await self._database.user(email)
        if not await asyncio.to_thread(matches, password, user.password if user else None) or user is None:
            return login_page(wrong=True) if _is_form(request) else JSONResponse({"error": "wrong"}, status_code=401)
        session = Session(
            user_id=str(user.id),
            company_id=user.company_id,
            role=user.role,
            email=user.email,
            permissions=PERMISSIONS[user.role],
            environment="demo",
        )
        response = RedirectResponse("/", 303) if _is_form(request) else JSONResponse({"userId": session.user_id})
        await self._deployment.authority.start(response, session, label=_device(request), replacing=request)
        return response

    async def logout(self, request: Request) -> Response:
        response = RedirectResponse("/login", 303) if _is_form(request) else Response(status_code=204)
        try:
            await self._deployment.authority.end(response, request)
        except SessionNotEnded:  # this response clears the cookie, but a copy of it still works
            response.status_code = 503
        return response

    async def me(self, request: Request) -> Response:
        session, token = session_of(request), request.state.token
        return JSONResponse(
            {
                "userId": session.user_id,
                "companyId": session.company_id,
                "role": session.role,
                "email": session.email,
                "permissions": session.permissions,
                "payloadVersion": token.version,
                "filled": [claim.claim for claim in token.filled],
            }
        )

    async def save(self, request: Request) -> Response:
        """Records the user by email, the claim that old tokens lack."""
        session = _permitted(request, "write")
        saved = await self._database.save(company_id=session.company_id, saved_by=session.email)
        if _is_form(request):
            return RedirectResponse("/", 303)
        filled = [claim.claim for claim in request.state.token.filled]
        return JSONResponse({"id": saved, "savedBy": session.email, "filled": filled}, status_code=201)

    async def release(self, request: Request) -> Response:
        _permitted(request, "release")
        first = await self._deployment.release()
        return RedirectResponse("/", 303) if _is_form(request) else JSONResponse({"released": first})

    def metrics(self, _: Request) -> Response:
        """Not a coroutine: Starlette collects on a thread, and other requests continue."""
        return Response(self._signals.page(), headers={"content-type": CONTENT_TYPE_LATEST})

    async def healthz(self, _: Request) -> Response:
        try:
            await self._database.ping()
        except (SQLAlchemyError, OSError, TimeoutError):
            return JSONResponse({"database": "unavailable"}, status_code=503)
        return JSONResponse({"database": "ok"})


async def _unavailable(_: Request, __: Exception) -> Response:
    """The database does not answer. Its error message is not for the client."""
    return JSONResponse({"error": "unavailable"}, status_code=503, headers={"Retry-After": "1"})


def _permitted(request: Request, permission: str) -> Session:
    session = session_of(request)
    if permission not in session.permissions:
        raise HTTPException(403)
    return session


def _device(request: Request) -> str:
    """The label of a session in the user's list; browsers send ``Sec-Fetch-Mode``."""
    return "browser" if "sec-fetch-mode" in request.headers else "script"


def _is_form(request: Request) -> bool:
    """Whether a browser sent a form and expects a page; other clients send JSON."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM


async def _fields(request: Request) -> dict[str, Any]:
    """The fields of a form or of a JSON object.

    Raises:
        HTTPException: 400 (malformed) or 413 (too large).
    """
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _LARGEST_BODY:
                raise HTTPException(413)
        text = body.decode()
        fields = {name: values[0] for name, values in parse_qs(text).items()} if _is_form(request) else json.loads(text)
    except (ValueError, RecursionError, ClientDisconnect):
        raise HTTPException(400) from None
    if not isinstance(fields, dict):
        raise HTTPException(400)
    return fields


def _credentials(fields: dict[str, Any]) -> tuple[str, str]:
    email, password = fields.get("email"), fields.get("password")
    if not (isinstance(email, str) and isinstance(password, str)) or max(len(email), len(password)) > LONGEST:
        raise HTTPException(400)
    if not email.isprintable() or any("\ud800" <= letter <= "\udfff" for letter in password):
        raise HTTPException(400)  # PostgreSQL refuses NUL, and surrogates have no UTF-8
    return email, password


def login_page(*, wrong: bool = False) -> HTMLResponse:
    """The form, for browsers without JavaScript; ``wrong`` after a failed log-in."""
    alert = '<p role="alert">Email or password is wrong.</p>' if wrong else ""
    return HTMLResponse(_LOGIN.format(alert=alert), status_code=401 if wrong else 200, headers=live_page.SECURITY)
