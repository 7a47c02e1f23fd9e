"""FastAPI: the session by ``Depends``, over HTTP and on a websocket."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Response, WebSocket
from starlette.requests import Request

from jwt_middleware import JWTSessionMiddleware, SessionAuthority
from tests.support.asgi import Sent, ask, scope_of
from tests.support.world import Recorder, Session, authority_of

SEEN = Recorder()
authority: SessionAuthority[Session] = authority_of(observers=[SEEN])
Current = Annotated[Session, Depends(authority.dependency)]
app = FastAPI()
app.add_middleware(JWTSessionMiddleware, authority=authority, public=["/login", "/open", "/openapi.json"])


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
    await authority.start(response, Session(user_id="1", email="ada@example.com"))
    return {"logged": "in"}


@app.post("/logout")
async def logout(request: Request, response: Response) -> None:
    await authority.end(response, request)


@app.websocket("/ws")
async def ws(websocket: WebSocket, session: Current) -> None:
    await websocket.accept()
    await websocket.send_text(session.user_id)
    await websocket.close()


def get(path: str, method: str = "GET", **settings: Any) -> Any:
    return asyncio.run(ask(app, path, method, **settings))


def cookie() -> str:
    return f"{authority.cookie.name}={asyncio.run(authority.issue(Session(user_id='1'))).token}"


def test_the_dependency_is_the_session_and_nothing_of_it_shows_in_the_schema() -> None:
    assert get("/me", cookie=cookie()).json() == {"user": "1", "email": "Unknown"}
    assert get("/sync", cookie=cookie()).json() == {"user": "1"}
    schema = get("/openapi.json").json()
    assert "parameters" not in schema["paths"]["/me"]["get"]
    assert "422" not in schema["paths"]["/me"]["get"]["responses"]


def test_without_a_session_the_middleware_answers_and_not_fastapi() -> None:
    for path in ("/me", "/sync", "/open", "/nowhere"):
        refused = get(path)
        assert (refused.status_code, refused.headers["content-type"]) == (401, "application/problem+json")
    assert SEEN.reasons[-4:] == ["token_missing"] * 4


def test_logging_in_and_out_by_fastapis_own_response() -> None:
    logged_in = get("/login", "POST")
    sent = logged_in.headers["set-cookie"].split(";")[0]
    assert logged_in.headers["cache-control"] == "no-store"
    assert get("/me", cookie=sent).json() == {"user": "1", "email": "ada@example.com"}
    assert "Max-Age=0" in get("/logout", "POST", cookie=sent).headers["set-cookie"]


def test_a_websocket_depends_on_the_session_too() -> None:
    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    for headers, expected in (
        ([(b"cookie", cookie().encode())], ["websocket.accept", "websocket.send", "websocket.close"]),
        ([], ["websocket.close"]),
    ):
        sent = Sent()
        asyncio.run(app(scope_of("/ws", kind="websocket", headers=headers), receive, sent))
        assert sent.types == expected
