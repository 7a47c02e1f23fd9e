"""Ways around: paths that look public, requests that look like the own site's, over HTTP and by websocket."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.support.asgi import scope_of
from tests.support.strategies import own
from tests.support.world import World, bearer, cookie

WITH_COOKIE, WITH_BEARER = cookie(own()), bearer(own())
METHODS = ["GET", "HEAD", "POST", "PUT", "OPTIONS"]
Headers = list[tuple[bytes, bytes]]


async def private(request: Request) -> PlainTextResponse:
    return PlainTextResponse("private")


async def public(request: Request) -> JSONResponse:
    return JSONResponse({"session": request.state.session is not None})


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close()


ROUTES = [
    Route("/me", private, methods=METHODS),
    Route("/static/me/{rest:path}", public, methods=METHODS),
    Route("/login", public, methods=METHODS),
    Mount("/static", routes=[Route("/{file:path}", public, methods=METHODS)]),
    Mount("/admin", routes=[Route("/{page:path}", private, methods=METHODS)]),
    *(WebSocketRoute(path, socket) for path in ("/me", "/login")),
]


class Site(World):
    """An app with a public and a private part, called as a server would call it."""

    def __init__(self, **settings: Any) -> None:
        settings = {"public": ["/login", "/static/*"], **settings}
        super().__init__(app=lambda _: Starlette(routes=ROUTES), store=None, sources=[], **settings)

    def call(self, path: str, headers: Sequence[tuple[bytes, bytes]] = (), **scope: Any) -> tuple[int, bytes]:
        """The status (of a websocket: 101 if it was accepted) and the body. ``path`` is what the client sends."""
        kind = scope.pop("kind", "http")
        received = [{"type": "http.request" if kind == "http" else "websocket.connect", "body": b""}]

        async def receive() -> Any:
            return received.pop() if received else {"type": f"{kind}.disconnect", "code": 1000}

        raw = {"headers": list(headers), "path": unquote(path), "raw_path": path.encode(), **scope}
        basis = scope_of(kind=kind, extensions={"websocket.http.response": {}})
        self.recorder.outcomes.clear()
        start, *rest = asyncio.run(self.send({**basis, **raw}, receive))
        if start["type"] == "websocket.accept":
            return 101, b""
        return start["status"], b"".join(message.get("body", b"") for message in rest)


site = Site()


NAMES = ["", ".", "..", "me", "login", "static", "admin", "a", "LOGIN", " "]
SEGMENTS = st.sampled_from([*NAMES, "%2e%2e", "%2f", "%5c", "\\", ";", "%00", "%252e"])


class TestPaths:
    @pytest.mark.parametrize("kind", ["http", "websocket"])
    def test_no_spelling_of_a_path_opens_what_is_private(self, kind: str, subtests: pytest.Subtests) -> None:
        for path in [
            "/me",
            "/me/",
            "//me",
            "/./me",
            "/login/../me",
            "/login/..;/me",
            "/login%2f..%2fme",
            "/login%2f%2e%2e%2fme",
            "/login/%2e%2e/me",
            "/login%00/me",
            "/login%0a",
            "/login;/../me",
            "/login?/../me",
            "/login#/../me",
            "/login\\..\\me",
            "/static/../me",
            "/static/..%2fme",
            "/static/%2e%2e/me",
            "/static/%2e%2e%2fme",
            "/static/.%2e/me",
            "/static/%252e%252e/me",
            "/static/%252e%252e%252fme",
            "/static/..%5cme",
            "/static/..%255cme",
            "/static//../me",
            "/static/a/../../me",
            "/static/%2e/../me",
            "/static%2f..%2fme",
            "/static/..%c0%afme",
            "/static/\u2025/me\x01",
            "/STATIC/../me",
            "/Login",
            "/LOGIN/../me",
            "/static",
            "/staticme",
            "/static.json",
            "/admin/../login",
            "/admin/login",
            "/admin//static/a",
            "/admin/static/a",
            "/admin/%2e%2e/static/a",
            "http://testserver/me",
            "/http://testserver/login",
            "*",
            "",
        ]:
            with subtests.test(path=path):
                status, body = site.call(path, kind=kind)
                assert status == 401
                assert b"private" not in body

    def test_what_is_public_is_served_without_reading_the_token(self) -> None:
        for path, status in [
            ("/login", 200),
            ("/static/a.css", 200),
            ("/static/deep/er.css", 200),
            ("/static/%C3%A4.css", 200),
            ("/static/a%20b", 200),
        ]:
            assert site.call(path, [(b"authorization", b"Bearer x")]) == (status, b'{"session":false}'), path
            assert site.recorder.outcomes == [], path

    def test_the_root_path_shifts_what_is_public_and_opens_nothing_else(self, subtests: pytest.Subtests) -> None:
        for path, root_path, open_ in [
            ("/app/login", "/app", True),
            ("/app/me", "/app", False),
            ("/app/login/../me", "/app", False),
            ("/login/me", "/login", False),
            ("/static/me", "/static", False),
            ("/me", "/me", False),
            ("/applogin", "/app", False),
            ("/app/app/login", "/app", False),
            ("/app/admin/x", "/app", False),
        ]:
            with subtests.test(path=path):
                status, body = site.call(path, root_path=root_path)
                assert (status == 200) is open_
                assert b"private" not in body

    def test_no_header_makes_a_path_public(self, subtests: pytest.Subtests) -> None:
        for headers in [
            [(b"x-original-url", b"/login")],
            [(b"x-rewrite-url", b"/login")],
            [(b"x-forwarded-prefix", b"/login")],
            [(b"x-forwarded-path", b"/login")],
            [(b"x-http-method-override", b"OPTIONS")],
            [(b"host", b"testserver/login")],
            [(b"host", b"testserver?/login")],
            [(b"referer", b"https://testserver/login")],
        ]:
            with subtests.test(headers=headers):
                for method in METHODS:
                    assert site.call("/me", headers, method=method)[0] == 401

    @given(st.lists(SEGMENTS, max_size=6), st.sampled_from(["", "/", "/app", "/static", "/login", "/app/"]))
    def test_no_generated_path_opens_what_is_private(self, segments: list[str], root_path: str) -> None:
        path = "/" + "/".join(segments)
        for whole in (path, root_path.rstrip("/") + path):
            assert b"private" not in site.call(whole, root_path=root_path)[1]

    @given(st.lists(SEGMENTS, max_size=6))
    def test_a_normalised_public_path_is_still_public(self, segments: list[str]) -> None:
        """A router, a file server or a proxy behind may resolve dots and decode once more."""
        path = "/static/" + "/".join(segments)
        if site.call(path)[0] == 401:
            return
        parts: list[str] = []
        for part in unquote(unquote(path)).replace("\\", "/").split("/"):
            if part == "..":
                del parts[-1:]
            elif part not in ("", "."):
                parts.append(part)
        assert parts[0] == "static"


EVIL: list[Headers] = [
    [(b"origin", b"https://evil.example"), (b"host", b"testserver")],
    [(b"origin", b"null"), (b"host", b"testserver")],
    [(b"origin", b"https://testserver.evil.example"), (b"host", b"testserver")],
    [(b"origin", b"https://evil.example"), (b"host", b"testserver"), (b"x-forwarded-host", b"evil.example")],
    [(b"origin", b"https://evil.example"), (b"host", b"testserver"), (b"host", b"evil.example")],
    [(b"origin", b"https://testserver"), (b"origin", b"https://evil.example"), (b"host", b"testserver")],
    [(b"sec-fetch-site", b"cross-site")],
    [(b"sec-fetch-site", b"same-site")],
    [(b"sec-fetch-site", b"cross-site"), (b"origin", b"https://testserver"), (b"host", b"testserver")],
    [(b"sec-fetch-site", b"same-origin"), (b"sec-fetch-site", b"cross-site")],
]
OWN: list[Headers] = [
    [],
    [(b"origin", b"https://testserver"), (b"host", b"testserver")],
    [(b"sec-fetch-site", b"same-origin"), (b"origin", b"https://evil.example")],
    [(b"sec-fetch-site", b"none")],
]


class TestOrigins:
    @pytest.mark.parametrize("headers", EVIL)
    def test_another_site_cannot_use_the_cookie(self, headers: Headers) -> None:
        assert site.call("/me", [*WITH_COOKIE, *headers], method="POST")[0] == 403
        assert site.recorder.reasons == ["cross_site"]
        assert site.call("/me", [*WITH_COOKIE, *headers], kind="websocket")[0] == 403
        assert site.call("/me", [*WITH_COOKIE, *headers])[0] == 200

    @pytest.mark.parametrize("headers", EVIL)
    def test_another_site_cannot_log_a_user_in(self, headers: Headers) -> None:
        assert site.call("/login", headers, method="POST")[0] == 403
        assert site.call("/login", headers, kind="websocket")[0] == 403
        assert site.call("/login", headers)[0] == 200

    @pytest.mark.parametrize("headers", EVIL)
    def test_a_bearer_token_needs_no_cross_site_guard(self, headers: Headers) -> None:
        assert site.call("/me", [*WITH_BEARER, *headers], method="POST")[0] == 200

    @pytest.mark.parametrize("headers", OWN)
    def test_the_own_site_is_accepted(self, headers: Headers) -> None:
        assert site.call("/me", [*WITH_COOKIE, *headers], method="POST")[0] == 200
        assert site.call("/me", [*WITH_COOKIE, *headers], kind="websocket")[0] == 101
        assert site.call("/login", headers, method="POST")[0] == 200

    @pytest.mark.parametrize("headers", EVIL)
    def test_an_optional_path_is_guarded_too(self, headers: Headers) -> None:
        optional = Site(optional=["/me"])
        assert optional.call("/me", [*WITH_COOKIE, *headers], method="POST")[0] == 403
        assert optional.call("/me", [*cookie("forged"), *headers], method="POST")[0] == 403

    def test_a_trusted_origin_passes_everywhere(self) -> None:
        trusting = Site(trusted_origins=["https://partner.example"])
        headers = [(b"origin", b"https://partner.example"), (b"sec-fetch-site", b"cross-site")]
        assert trusting.call("/me", [*WITH_COOKIE, *headers], method="POST")[0] == 200
        assert trusting.call("/me", [*WITH_COOKIE, *headers], kind="websocket")[0] == 101
        assert trusting.call("/login", headers, method="POST")[0] == 200
        assert site.call("/me", [*WITH_COOKIE, *headers], method="POST")[0] == 403

    def test_a_proxy_is_trusted_by_explicit_setting_only(self) -> None:
        headers = [
            (b"origin", b"https://app.example"),
            (b"host", b"10.0.0.7:8000"),
            (b"x-forwarded-host", b"app.example"),
        ]
        assert site.call("/me", [*WITH_COOKIE, *headers], method="POST")[0] == 403
        assert Site(trusted_proxy=True).call("/me", [*WITH_COOKIE, *headers], method="POST")[0] == 200
