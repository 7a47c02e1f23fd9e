"""The four walks of docs/architecture.md: each is taken, and enters just the files that the page lists."""

from __future__ import annotations

import asyncio
import gc
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

import jwt_middleware
from jwt_middleware import JWTSessionMiddleware, MemorySessionStore, source
from jwt_middleware.testing import old_token
from tests.support.asgi import Sent, scope_of
from tests.support.world import ADA, PATIENT, Session, authority_of, cookie

PACKAGE = f"{Path(jwt_middleware.__file__).parent}/"
PAGE = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text("utf-8")
WALKS = {
    walk: re.findall(r"^\d+\. `([\w/]+\.py)`", text, re.MULTILINE)
    for walk, text in re.findall(r"^### Walk (\d): (.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL)
}
MOST_FILES = 28
"""Files of the walk of an old token."""
MOST_RETURNS = 45
"""Returns of the walk of an old token: calls of a function in a file that was entered before and left since. It counts
when it is called, and a coroutine when it first runs, not when it resumes. Left means: no frame of that file is on the
stack."""


class Walk:
    """Notes, while it is entered, which files of the package are, and how many calls return to one."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.returns = 0
        self._frames: set[FrameType] = set()

    def __enter__(self) -> Walk:
        gc.collect()
        gc.disable()  # authorities of other tests leave their counts when they are collected
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        gc.enable()
        self._frames.clear()

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        file = _file(frame)
        if event != "call" or file is None or frame in self._frames:
            return
        self._frames.add(frame)  # a coroutine that resumes has the frame that it had
        if file not in self.files:
            self.files.append(file)
        elif file not in map(_file, _callers(frame)):
            self.returns += 1


def _file(frame: FrameType) -> str | None:
    name = frame.f_code.co_filename
    return name.removeprefix(PACKAGE) if name.startswith(PACKAGE) else None


def _callers(frame: FrameType) -> Iterator[FrameType]:
    caller = frame.f_back
    while caller is not None:
        yield caller
        caller = caller.f_back


@source("email")
async def emails(keys: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
    return {key: {"email": "ada@example.com"} for key in keys}


class App:
    """A small app with a session store and a claims source, which has handled a request already."""

    def __init__(self) -> None:
        self.authority = authority_of(store=MemorySessionStore(), sources=[emails], lookups=PATIENT)
        self.app = JWTSessionMiddleware(self.handle, authority=self.authority, public=["/login"])
        self.sent = Sent()

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            await receive()
            return
        response = Response()
        if scope["path"] == "/login":
            await self.authority.start(response, ADA)
        await response(scope, receive, send)

    async def request(self, path: str = "/", token: str | None = None, **scope: Any) -> None:
        headers = [] if token is None else cookie(token)
        await self.app(scope_of(path, headers=headers, **scope), asyncio.Future, self.sent)


@pytest.fixture
async def app() -> App:
    app = App()
    issued = await app.authority.issue(ADA)
    await app.request(token=issued.token)
    await app.request(token=old_token(app.authority, {"userId": ADA.user_id}, sid=issued.session_id))
    app.sent.messages.clear()
    return app


async def test_walk_1_is_a_cache_hit(app: App) -> None:
    token = (await app.authority.issue(ADA)).token
    await app.request(token=token)
    with Walk() as walk:
        await app.request(token=token)
    assert walk.files == WALKS["1"]


async def test_walk_2_is_an_old_token_that_is_not_cached(app: App) -> None:
    issued = await app.authority.issue(Session(user_id="2"))
    token = old_token(app.authority, {"userId": "2"}, sid=issued.session_id)
    with Walk() as walk:
        await app.request(token=token)
    assert [message.get("status") for message in app.sent.messages] == [200, None]
    assert walk.files == WALKS["2"]
    assert len(walk.files) <= MOST_FILES
    assert walk.returns <= MOST_RETURNS


async def test_walk_3_leads_from_revoke_to_the_closed_websocket(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    issued = await app.authority.issue(ADA)
    checked, pause, sleep = asyncio.Event(), asyncio.Event(), asyncio.sleep

    async def pausing(seconds: float) -> None:
        """Between two checks the watcher pauses until the test lets it go on; a turn of the loop is one."""
        if seconds:
            checked.set()
            await pause.wait()
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", pausing)
    websocket = asyncio.create_task(app.request(token=issued.token, kind="websocket"))
    await checked.wait()
    with Walk() as walk:
        assert await app.authority.revoke(issued.session_id)
        pause.set()
        await websocket
    assert app.sent.messages[-1]["code"] == 1008
    assert walk.files == WALKS["3"]


async def test_walk_4_leads_from_log_in_to_the_cookie(app: App) -> None:
    with Walk() as walk:
        await app.request("/login", method="POST")
    assert b"set-cookie" in dict(app.sent.messages[-2]["headers"])
    assert walk.files == WALKS["4"]
