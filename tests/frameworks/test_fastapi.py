"""FastAPI: the session by ``Depends``, over HTTP and on a websocket."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Response, WebSocket
from starlette.requests import Request

from jwt_middleware import JWTSessionMiddleware, SessionAuthority
from tests.support.asgi import scope_of
from tests.support.stores import FakeStore
from tests.support.world import ADA, FakeClock, Session, World, cookie, cookie_of

world = World(store=None)
authority: SessionAuthority[Session] = world.authority
Current = Annotated[Session, Depends(authority.dependency)]
app = FastAPI()
app.add_middleware(JWTSessionMiddleware, authority=authority, public=["/login", "/open", "/openapi.json"])
world.app = app


@app.get("/me")
async def me(session: Current) -> dict[str, str]:
    return {"user": session.user_id, "email": session.email}


@app.get("/sync")
def sync(session: Current) -> dict[str, str]:
    return {"user": session.user_id}


@app.get("/open")
async def needs_one(session: Current) -> dict[str, str]:
    return {"user": session.user_id}


@app.post("/login")
async def login(response: Response) -> dict[str, str]:
    await authority.start(response, ADA)
    return {"logged": "in"}


@app.post("/logout")
async def logout(request: Request, response: Response) -> None:
    await authority.end(response, request)


@app.websocket("/ws")
async def ws(websocket: WebSocket, session: Current) -> None:
    await websocket.accept()
    await websocket.send_text(session.user_id)
    await websocket.close()


async def test_the_dependency_is_the_session_and_leaves_the_schema_alone() -> None:
    token = await world.token()
    assert (await world.get(token, "/me")).json() == {"user": "1", "email": "ada@example.com"}
    assert (await world.get(token, "/sync")).json() == {"user": "1"}
    schema = (await world.ask("/openapi.json")).json()
    assert "parameters" not in schema["paths"]["/me"]["get"]
    assert "422" not in schema["paths"]["/me"]["get"]["responses"]


async def test_without_a_session_the_middleware_answers_and_not_fastapi() -> None:
    for path in ("/me", "/sync", "/open", "/nowhere"):
        refused = await world.ask(path)
        assert (refused.status_code, refused.headers["content-type"]) == (401, "application/problem+json")
    assert world.recorder.reasons[-4:] == ["token_missing"] * 4


async def test_logging_in_and_out_by_fastapis_own_response() -> None:
    logged_in = await world.ask("/login", "POST")
    sent = logged_in.headers["set-cookie"].split(";")[0]
    assert logged_in.headers["cache-control"] == "no-store"
    assert (await world.ask("/me", cookie=sent)).json() == {"user": "1", "email": "ada@example.com"}
    assert "Max-Age=0" in (await world.ask("/logout", "POST", cookie=sent)).headers["set-cookie"]


async def test_a_log_in_ends_the_session_that_it_replaces() -> None:
    stored = World()
    inner = FastAPI()

    @inner.post("/login")
    async def login_anew(request: Request, response: Response) -> None:
        await stored.authority.start(response, ADA, replacing=request)

    stored.guard(inner, public=["/login"])
    first = await stored.token()
    sent = await stored.ask("/login", "POST", cookie=f"__Host-session={first}")
    second = cookie_of(sent)
    assert sent.status_code == 200
    assert await stored.reason(first) == "session_revoked"
    assert second is not None
    assert await stored.reason(second) is None


@pytest.mark.parametrize("path", ["/logout", "/login"])
async def test_a_store_that_is_down_makes_a_503_and_not_fastapis_500(path: str) -> None:
    clock = FakeClock()
    stored = World(store=FakeStore(clock=clock), clock=clock)
    inner = FastAPI()

    @inner.post("/logout")
    async def log_out(request: Request, response: Response) -> None:
        await stored.authority.end(response, request)

    @inner.post("/login")
    async def log_in(response: Response) -> None:
        await stored.authority.start(response, ADA)

    inner.add_middleware(JWTSessionMiddleware, authority=stored.authority, public=["/login", "/logout"])
    stored.app = inner
    token = await stored.cookie()
    stored.store.writes_fail = "before"
    failed = await stored.ask(path, "POST", cookie=token)
    assert (failed.status_code, failed.headers["retry-after"]) == (503, "1")
    cleared = ["__Host-session=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax"] if path == "/logout" else []
    assert failed.headers.get_list("set-cookie") == cleared


async def test_a_websocket_depends_on_the_session_too() -> None:
    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def types(headers: Any = ()) -> list[str]:
        sent = await world.send(scope_of("/ws", kind="websocket", headers=headers), receive)
        return [message["type"] for message in sent]

    accepted = ["websocket.accept", "websocket.send", "websocket.close"]
    assert await types(cookie(await world.token())) == accepted
    assert await types() == ["websocket.close"]
