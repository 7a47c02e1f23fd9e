"""Websockets: refused before accept, closed when their session ends, and left alone otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable
from datetime import timedelta
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from jwt_middleware import Reason, Refusal, Revocation
from jwt_middleware.asgi.websocket import POLICY_VIOLATION, TRY_AGAIN_LATER, WatchedWebSocket
from tests.support.asgi import Sent, nothing, scope_of
from tests.support.lookups import turns
from tests.support.world import ADA, DAY, World, cookie

CLOSED = {"type": "websocket.close", "code": POLICY_VIOLATION, "reason": ""}


class Wire(Sent):
    """The server's side of one websocket: what the client says, and what it is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.said: asyncio.Queue[Message] = asyncio.Queue()
        self.accepted, self.closed = asyncio.Event(), asyncio.Event()
        self.say({"type": "websocket.connect"})

    def say(self, message: Message) -> None:
        self.said.put_nowait(message)

    async def receive(self) -> Message:
        return await self.said.get()

    async def __call__(self, message: Message) -> None:
        await super().__call__(message)
        if message["type"] == "websocket.accept":
            self.accepted.set()
        elif message["type"] == "websocket.close":
            self.closed.set()

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """One websocket from its handshake to its end; one that never ends fails."""
        async with asyncio.timeout(60):
            await app(scope, self.receive, self)

    async def open(self, app: ASGIApp, scope: Scope) -> asyncio.Task[None]:
        """The same beside the test, from when it is accepted."""
        running = asyncio.create_task(self.run(app, scope))
        async with asyncio.timeout(60):
            await self.accepted.wait()
        return running


async def accepting(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept, echo until the end, and note how it came."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] != "websocket.disconnect":
        await send({"type": "websocket.send", "text": message["text"]})
    scope["end"] = message["code"]


def handshake(token: str | None = None, *, denial: bool = False, **headers: str) -> Scope:
    """``denial``: the server can send an HTTP response in place of the websocket."""
    named = [(name.encode(), value.encode()) for name, value in headers.items()]
    extensions: dict[str, Any] = {"websocket.http.response": {}} if denial else {}
    return scope_of("/ws", kind="websocket", headers=[*(cookie(token) if token else []), *named], extensions=extensions)


def checking(app: ASGIApp = accepting, **settings: Any) -> World:
    """A world whose open websockets check their session all the time."""
    world = World(revocation=Revocation(max_staleness=timedelta(0)))
    world.guard(app, **settings)
    return world


class TestHandshake:
    async def test_a_refused_handshake_gets_the_http_refusal_where_the_server_can(self) -> None:
        start, body = await checking().send(handshake(denial=True))
        assert (start["type"], body["type"]) == ("websocket.http.response.start", "websocket.http.response.body")
        assert start["status"] == 401
        assert b'"status": 401' in body["body"]

    @pytest.mark.parametrize("settings", [{}, {"on_refused": nothing}])  # which must not be called
    async def test_a_refused_handshake_is_closed_where_the_server_cannot(self, settings: dict[str, Any]) -> None:
        assert await checking(**settings).send(handshake()) == [CLOSED]

    async def test_a_websocket_is_no_navigation(self) -> None:
        world = checking(login="/login", public=["/login"])
        sent = await world.send(handshake(denial=True, **{"sec-fetch-mode": "navigate"}))
        assert sent[0]["status"] == 401

    async def test_a_cross_site_handshake_with_the_cookie_is_refused(self) -> None:
        world = checking()
        sent = await world.send(handshake(await world.token(), denial=True, origin="https://evil.example"))
        assert sent[0]["status"] == 403

    async def test_a_refusal_that_the_app_raises_before_accept_is_answered(self) -> None:
        async def early(scope: Scope, receive: Receive, send: Send) -> None:
            raise Refusal(Reason.TOKEN_MISSING)

        sent = await checking(early, public=["/ws"]).send(handshake(denial=True))
        assert sent[0]["status"] == 401

    async def test_a_refusal_that_the_app_raises_after_accept_is_raised(self) -> None:
        async def late(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "websocket.accept"})
            raise Refusal(Reason.TOKEN_MISSING)

        with pytest.raises(Refusal):
            await checking(late, public=["/ws"]).send(handshake())


class TestOpenWebSocket:
    async def test_an_open_websocket_is_an_ordinary_one_until_its_session_ends(self) -> None:
        world, wire = World(), Wire()
        world.guard(accepting)
        scope = handshake(await world.token())
        wire.say({"type": "websocket.receive", "text": "hello"})
        wire.say({"type": "websocket.disconnect", "code": 1001})
        await wire.run(world.app, scope)
        assert wire.messages == [{"type": "websocket.accept"}, {"type": "websocket.send", "text": "hello"}]
        assert scope["end"] == 1001
        assert scope["state"]["session"] == ADA
        assert len(world.recorder.outcomes) == 1

    async def test_a_revoked_session_ends_its_websocket_with_1008(self) -> None:
        world, wire = checking(), Wire()
        scope = handshake(await world.token())
        running = await wire.open(world.app, scope)
        await world.authority.revoke_user("1")
        await running
        assert wire.messages[-1] == CLOSED
        assert scope["end"] == POLICY_VIOLATION
        assert world.counts("requests") == {("2", "accepted"): 1}

    async def test_an_expired_session_ends_its_websocket_with_1008(self) -> None:
        world, wire = World(store=None), Wire()
        world.guard(accepting)
        scope = handshake(await world.token())
        world.clock.advance(7 * DAY + 30 - 0.05)  # a moment before exp + leeway
        running = await wire.open(world.app, scope)
        world.clock.advance(0.1)
        await running
        assert wire.messages[-1] == CLOSED
        assert scope["end"] == POLICY_VIOLATION

    async def test_an_anonymous_websocket_of_an_optional_path_stays_open(self) -> None:
        async def patient(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await turns()  # in which a watcher would have closed it
            await send({"type": "websocket.send", "text": "still here"})

        wire = Wire()
        await wire.run(checking(patient, optional=["/ws"]).app, handshake("junk"))
        assert wire.types == ["websocket.accept", "websocket.send"]

    async def test_a_nested_middleware_does_not_watch_a_second_time(self) -> None:
        async def tasks_of(world: World) -> int:
            """How many tasks one open websocket takes."""
            wire, before = Wire(), len(asyncio.all_tasks())
            running = await wire.open(world.app, handshake(await world.token()))
            await turns()
            taken = len(asyncio.all_tasks()) - before
            wire.say({"type": "websocket.disconnect", "code": 1001})
            await running
            return taken

        alone, nested = World(), World()
        alone.guard(accepting)
        nested.guard(nested.guard(accepting))
        assert await tasks_of(nested) == await tasks_of(alone)

    async def test_a_nested_middleware_closes_the_websocket_once(self) -> None:
        world, wire = checking(), Wire()
        world.guard(world.app)
        running = await wire.open(world.app, handshake(await world.token()))
        await world.authority.revoke_all()
        await running
        assert wire.types.count("websocket.close") == 1


def watching(wire: Wire, ends: Reason | Exception | None, app: ASGIApp = accepting) -> Awaitable[None]:
    """A watched app whose session ends with its first check, or never."""

    async def check() -> float:
        if ends is None:
            return 1e6
        raise Refusal(ends) if isinstance(ends, Reason) else ends

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        await WatchedWebSocket(check, receive, send).run(app, scope)

    return wire.run(guarded, handshake())


class TestWatchedWebSocket:
    async def test_a_websocket_whose_store_cannot_say_is_closed_with_1013(self) -> None:
        wire = Wire()
        await watching(wire, Reason.SESSIONS_UNAVAILABLE)
        assert wire.messages[-1]["code"] == TRY_AGAIN_LATER

    async def test_sending_after_the_end_fails_and_a_close_is_dropped(self) -> None:
        async def sends_on(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "websocket.accept"})
            await wire.closed.wait()
            with pytest.raises(OSError, match="ended"):
                await send({"type": "websocket.send", "text": "late"})
            await send({"type": "websocket.close", "code": 1000})

        wire = Wire()
        await watching(wire, Reason.TOKEN_EXPIRED, sends_on)
        assert wire.types == ["websocket.accept", "websocket.close"]

    async def test_a_check_that_breaks_closes_the_websocket_and_is_raised(self) -> None:
        wire = Wire()
        with pytest.raises(ZeroDivisionError):
            await watching(wire, ZeroDivisionError())
        assert wire.messages[-1]["code"] == TRY_AGAIN_LATER

    async def test_a_client_that_is_gone_already_does_not_matter(self) -> None:
        class Gone(Wire):
            async def __call__(self, message: Message) -> None:
                if message["type"] == "websocket.close":
                    raise ConnectionResetError

        ends: list[int] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await accepting(scope, receive, send)
            ends.append(scope["end"])

        await watching(Gone(), Reason.SESSION_REVOKED, app)
        assert ends == [POLICY_VIOLATION]

    async def test_a_message_is_not_lost_when_the_app_gives_up_waiting(self) -> None:
        received: list[str] = []

        async def impatient(scope: Scope, receive: Receive, send: Send) -> None:
            received.append((await receive())["type"])
            waiting = asyncio.ensure_future(receive())
            await asyncio.sleep(0)
            wire.say({"type": "websocket.receive", "text": "kept"})
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
            received.append((await receive())["type"])

        wire = Wire()
        await watching(wire, None, impatient)
        assert received == ["websocket.connect", "websocket.receive"]

    async def test_nothing_is_left_running_when_the_app_returns_or_raises(self) -> None:
        async def leaves(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(receive(), 0.001)
            raise LookupError

        tasks = asyncio.all_tasks()
        with pytest.raises(LookupError):
            await watching(Wire(), None, leaves)
        assert asyncio.all_tasks() == tasks


@contextlib.asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_level="critical", lifespan="on", ws="websockets-sansio")
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            while not server.started:
                await asyncio.sleep(0.01)
            yield f"ws://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running


async def test_a_websocket_of_a_real_server_is_refused_served_and_closed() -> None:
    ends: list[int] = []

    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                await websocket.send_text(f"{websocket.state.session.user_id}: {await websocket.receive_text()}")
        except WebSocketDisconnect as ended:
            ends.append(ended.code)

    world = checking()
    world.guard(Starlette(routes=[WebSocketRoute("/ws", echo)]))
    headers = {"authorization": f"Bearer {await world.token()}"}
    async with served(world.app) as url, asyncio.timeout(60):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"{url}/ws"):
                raise AssertionError("connected")
        assert refused.value.response.status_code == 401
        async with connect(f"{url}/ws", additional_headers=headers) as websocket:
            await websocket.send("hello")
            assert await websocket.recv() == "1: hello"
            await world.authority.revoke_all()
            with pytest.raises(ConnectionClosed):
                await websocket.recv()
            assert websocket.close_code == POLICY_VIOLATION
    assert ends == [POLICY_VIOLATION]
