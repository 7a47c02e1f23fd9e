"""The peers, as their own documentation writes them, and each told to check what ours checks.

That is: the signature, ``exp`` and ``iat`` with a leeway, the claims that must be there, a lifetime of at most the
window, and that the session was not revoked (here a set in memory, the cheapest there is). Each hands the app a
session; a bad token is answered with 401.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import itsdangerous
import jwt
from fastapi import Depends, FastAPI, HTTPException
from fastapi import Request as FastAPIRequest
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from . import world
from .world import COOKIE, LEEWAY, REQUIRED, SECRET, WINDOW, Headers, Session

REVOKED: set[str] = set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """An app, a request it accepts, one it refuses, and the app without its check."""

    app: Any
    good: Headers
    bad: Headers
    base: str
    checks: str


async def home(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


def bare(*middleware: Middleware) -> Starlette:
    return Starlette(routes=[Route("/", home)], middleware=middleware)


class PassThrough:
    """The cheapest middleware there can be."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


def decode(token: str) -> Session:
    """What every hand-written check with PyJWT does.

    Raises:
        jwt.PyJWTError: It is no good.
    """
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], leeway=LEEWAY, options={"require": REQUIRED})
    if claims["exp"] - claims["iat"] > WINDOW + LEEWAY or claims["sid"] in REVOKED:
        raise jwt.InvalidTokenError
    return Session(
        user_id=claims["userId"],
        company_id=claims["companyId"],
        role=claims["role"],
        email=claims["email"],
        environment=claims["environment"],
    )


class Backend(AuthenticationBackend):
    """Starlette's documentation, "Authentication", with PyJWT in it."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser]:
        try:
            session = decode(conn.cookies[COOKIE])
        except (KeyError, jwt.PyJWTError):
            raise AuthenticationError("no session") from None
        conn.state.session = session
        return AuthCredentials(["authenticated"]), SimpleUser(session.user_id)


def _unauthorized(conn: HTTPConnection, error: Exception) -> PlainTextResponse:
    return PlainTextResponse("unauthorized", status_code=401)


class Tutorial(BaseHTTPMiddleware):
    """The middleware of most tutorials."""

    async def dispatch(self, request: Request, call_next: Callable[[Request], Any]) -> Any:
        try:
            request.state.session = decode(request.cookies[COOKIE])
        except (KeyError, jwt.PyJWTError):
            return PlainTextResponse("unauthorized", status_code=401)
        return await call_next(request)


def starlettes(token: str) -> dict[str, Peer]:
    """Those that stand on Starlette."""
    good, bad = world.cookie(token), world.cookie(world.forged())
    on_error = Middleware(AuthenticationMiddleware, backend=Backend(), on_error=_unauthorized)
    return {
        "AuthenticationMiddleware + PyJWT": Peer(
            app=bare(on_error), good=good, bad=bad, base="Starlette", checks="all of it"
        ),
        "tutorial BaseHTTPMiddleware + PyJWT": Peer(
            app=bare(Middleware(Tutorial)), good=good, bad=bad, base="Starlette", checks="all of it"
        ),
        "starlette SessionMiddleware": _session_middleware(),
    }


def _session_middleware() -> Peer:
    async def home(request: Request) -> PlainTextResponse:
        if "userId" not in request.session:
            return PlainTextResponse("unauthorized", status_code=401)
        return PlainTextResponse("ok")

    app = Starlette(
        routes=[Route("/", home)],
        middleware=[Middleware(SessionMiddleware, secret_key=SECRET, session_cookie=COOKIE, max_age=WINDOW)],
    )
    claims = {name: value for name, value in world.claims().items() if name not in ("iat", "exp")}

    def signed(secret: str) -> Headers:
        data = base64.b64encode(json.dumps(claims).encode())
        return world.cookie(itsdangerous.TimestampSigner(secret).sign(data).decode())

    return Peer(
        app=app, good=signed(SECRET), bad=signed("another"), base="Starlette", checks="signature and age; no revocation"
    )


def fastapi(token: str) -> dict[str, Peer]:
    """A dependency with PyJWT, ours in the same place, and authx."""

    async def current(request: FastAPIRequest) -> Session:
        try:
            return decode(request.cookies[COOKIE])
        except (KeyError, jwt.PyJWTError):
            raise HTTPException(401) from None

    app = FastAPI(openapi_url=None)

    @app.get("/")
    async def home(session: Session = Depends(current)) -> Any:
        return PlainTextResponse("ok")

    return {
        "FastAPI dependency + PyJWT": Peer(
            app=app, good=world.cookie(token), bad=world.cookie(world.forged()), base="FastAPI", checks="all of it"
        ),
        "authx": _authx(),
    }


def bare_fastapi(*middleware: Middleware) -> FastAPI:
    app = FastAPI(openapi_url=None, middleware=middleware)

    @app.get("/")
    async def home() -> Any:
        return PlainTextResponse("ok")

    return app


def _authx() -> Peer:
    from authx import AuthX, AuthXConfig

    def made(secret: str) -> Any:
        return AuthX(
            config=AuthXConfig(
                JWT_SECRET_KEY=secret,
                JWT_TOKEN_LOCATION=["cookies"],
                JWT_ACCESS_COOKIE_NAME=COOKIE,
                JWT_ACCESS_TOKEN_EXPIRES=timedelta(seconds=WINDOW),
                JWT_DECODE_LEEWAY=LEEWAY,
            )
        )

    auth, app = made(SECRET), FastAPI(openapi_url=None)
    auth.handle_errors(app)

    async def revoked(token: str) -> bool:
        return token in REVOKED

    auth.set_token_blocklist(revoked)

    @app.get("/")
    async def home(payload: Any = Depends(auth.access_token_required)) -> Any:
        return PlainTextResponse("ok")

    def cookie(by: Any) -> Headers:
        own = {name: value for name, value in world.claims().items() if name not in ("iat", "exp", "version")}
        return world.cookie(by.create_access_token(uid="42", data=own))

    return Peer(
        app=app,
        good=cookie(auth),
        bad=cookie(made("another-secret-0123456789abcdef0123456789")),
        base="FastAPI",
        checks="all but the lifetime",
    )


def litestar(token: str) -> dict[str, Peer]:
    from litestar import Litestar, MediaType, get
    from litestar.security.jwt import JWTCookieAuth, Token

    async def retrieve(token: Token, connection: Any) -> Session | None:
        if (token.exp - token.iat).total_seconds() > WINDOW + LEEWAY:
            return None
        extras = token.extras
        return Session(
            user_id=token.sub,
            company_id=extras["companyId"],
            role=extras["role"],
            email=extras["email"],
            environment=extras["environment"],
        )

    async def revoked(token: Token, connection: Any) -> bool:
        return token.extras["sid"] in REVOKED

    def made(secret: str) -> Any:
        return JWTCookieAuth[Session](
            retrieve_user_handler=retrieve, revoked_token_handler=revoked, token_secret=secret, key=COOKIE
        )

    @get("/", media_type=MediaType.TEXT, sync_to_thread=False)
    def home() -> str:
        return "ok"

    def cookie(secret: str) -> Headers:
        now = datetime.now(UTC)
        own = {name: value for name, value in world.claims().items() if name not in ("iat", "exp", "userId")}
        token = Token(sub="42", exp=now + timedelta(seconds=WINDOW), iat=now, extras=own)
        return world.cookie("Bearer " + token.encode(secret=secret, algorithm="HS256"))

    return {
        "Litestar": Peer(
            app=Litestar([home], openapi_config=None),
            good=cookie(SECRET),
            bad=[],
            base="",
            checks="nothing",
        ),
        "Litestar JWTCookieAuth": Peer(
            app=Litestar([home], on_app_init=[made(SECRET).on_app_init], openapi_config=None),
            good=cookie(SECRET),
            bad=cookie("another-secret-0123456789abcdef0123456789"),
            base="Litestar",
            checks="all of it",
        ),
    }


async def prove(name: str, peer: Peer) -> None:
    """He accepts a good token and refuses a bad one, or the run ends here."""
    statuses = await world.status_of(peer.app, peer.good), await world.status_of(peer.app, peer.bad)
    if statuses[0] != 200 or statuses[1] not in (401, 422):  # 422 is what authx says
        raise SystemExit(f"{name} answered {statuses} to a good and a bad token")
