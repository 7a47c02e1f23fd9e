"""Websockets: refused before accept, closed when their session ends, and left alone otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from jwt_middleware import JWTSessionMiddleware, MemorySessionStore, Reason, Refusal, Revocation
from jwt_middleware.asgi.websocket import POLICY_VIOLATION, TRY_AGAIN_LATER, watched
from tests.support.asgi import Sent, counts, scope_of
from tests.support.world import FakeClock, Recorder, Session, authority_of

ADA = Session(user_id="1")
DENIAL: dict[str, dict[str, Any]] = {"websocket.http.response": {}}


class Wire:
    """The server's side of one websocket: what the client says, what it was sent."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: list[Message] = []
        self.closed = asyncio.Event()
        self.say({"type": "websocket.connect"})

    def say(self, message: Message) -> None:
        self.said.put_nowait(message)

    async def receive(self) -> Message:
        return await self.said.get()

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if message["type"] == "websocket.close":
            self.closed.set()

    @property
    def types(self) -> list[str]:
        return [message["type"] for message in self.sent]


async def accepting(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept, echo until the end, say how it came."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] != "websocket.disconnect":
        await send({"type": "websocket.send", "text": message["text"]})
    scope["end"] = message["code"]


def handshake(cookie: str | None = None, *, denial: bool = False, path: str = "/ws", **headers: str) -> Scope:
    given = {**({} if cookie is None else {"cookie": cookie}), **headers}
    return scope_of(
        path,
        kind="websocket",
        headers=[(name.encode(), value.encode()) for name, value in given.items()],
        extensions=DENIAL if denial else {},
    )


async def cookie_of(authority: Any) -> str:
    return f"{authority.cookie.name}={(await authority.issue(ADA)).token}"


def middleware(authority: Any, app: ASGIApp = accepting, **settings: Any) -> JWTSessionMiddleware:
    return JWTSessionMiddleware(app, authority=authority, **settings)


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(10):  # a hanging test fails instead of hanging
            await main()

    asyncio.run(limited())


# Before accept


def test_a_refused_handshake_gets_the_http_refusal_where_the_server_can_send_it() -> None:
    sent = Sent()
    run(lambda: middleware(authority_of())(handshake(denial=True), Wire().receive, sent))
    start, body = sent.messages
    assert sent.types == ["websocket.http.response.start", "websocket.http.response.body"]
    assert start["status"] == 401
    assert b'"status": 401' in body["body"]


def test_a_refused_handshake_is_closed_where_the_server_cannot() -> None:
    async def own(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("it has no way to answer")

    for settings in ({}, {"on_refused": own}):
        sent, app = Sent(), middleware(authority_of(), **settings)
        asyncio.run(app(handshake(), Wire().receive, sent))
        assert sent.messages == [{"type": "websocket.close", "code": POLICY_VIOLATION, "reason": ""}]


def test_a_navigation_is_no_websocket() -> None:
    app, sent = middleware(authority_of(), login="/login", public=["/login"]), Sent()
    run(lambda: app(handshake(denial=True, **{"sec-fetch-mode": "navigate"}), Wire().receive, sent))
    assert sent.messages[0]["status"] == 401


async def test_a_cross_site_handshake_with_the_cookie_is_refused() -> None:
    authority, sent = authority_of(), Sent()
    scope = handshake(await cookie_of(authority), denial=True, origin="https://evil.example")
    await middleware(authority)(scope, Wire().receive, sent)
    assert sent.messages[0]["status"] == 403


def test_a_refusal_raised_before_accept_is_answered_and_one_after_it_is_raised() -> None:
    async def early(scope: Scope, receive: Receive, send: Send) -> None:
        raise Refusal(Reason.TOKEN_MISSING)

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        raise Refusal(Reason.TOKEN_MISSING)

    sent = Sent()
    run(lambda: middleware(authority_of(), early, public=["/ws"])(handshake(denial=True), Wire().receive, sent))
    assert sent.messages[0]["status"] == 401
    with pytest.raises(Refusal):
        run(lambda: middleware(authority_of(), late, public=["/ws"])(handshake(), Wire().receive, Sent()))


# While it is open


async def test_an_open_websocket_is_an_ordinary_one_until_its_session_ends() -> None:
    seen, wire = Recorder(), Wire()
    authority = authority_of(observers=[seen])
    scope = handshake(await cookie_of(authority))
    wire.say({"type": "websocket.receive", "text": "hello"})
    wire.say({"type": "websocket.disconnect", "code": 1001})
    await middleware(authority)(scope, wire.receive, wire.send)
    assert wire.sent == [{"type": "websocket.accept"}, {"type": "websocket.send", "text": "hello"}]
    assert scope["end"] == 1001
    assert scope["state"]["session"] == ADA
    assert len(seen.outcomes) == 1


async def test_a_revoked_session_ends_its_websocket_with_1008() -> None:
    wire = Wire()
    authority = authority_of(store=MemorySessionStore(), revocation=Revocation(max_staleness=ZERO))
    scope = handshake(await cookie_of(authority))
    running = asyncio.create_task(middleware(authority)(scope, wire.receive, wire.send))
    while "websocket.accept" not in wire.types:
        await asyncio.sleep(0)
    await authority.revoke_user("1")
    await running
    assert wire.sent[-1] == {"type": "websocket.close", "code": POLICY_VIOLATION, "reason": ""}
    assert scope["end"] == POLICY_VIOLATION
    assert counts(authority, "requests") == {("2", "accepted"): 1}


async def test_an_expired_session_ends_its_websocket_with_1008() -> None:
    clock, wire = FakeClock(), Wire()
    authority = authority_of(clock=clock)
    issued = await authority.issue(ADA)
    clock.advance(7 * 86_400 + 30 - 0.05)  # a moment before exp + leeway
    scope = handshake(f"{authority.cookie.name}={issued.token}")
    running = asyncio.create_task(middleware(authority)(scope, wire.receive, wire.send))
    while "websocket.accept" not in wire.types:
        await asyncio.sleep(0)
    clock.advance(0.1)
    await running
    assert scope["end"] == POLICY_VIOLATION


async def test_a_websocket_whose_store_cannot_say_is_closed_with_1013() -> None:
    wire = Wire()
    app = watching(wire, Reason.SESSIONS_UNAVAILABLE)
    await app
    assert wire.sent[-1]["code"] == TRY_AGAIN_LATER


async def test_an_anonymous_websocket_of_an_optional_path_stays_open() -> None:
    wire, scope = Wire(), handshake("__Host-session=junk")

    async def patient(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(20):  # turns of the loop in which a watcher would have closed it
            await asyncio.sleep(0)
        await send({"type": "websocket.send", "text": "still here"})

    await middleware(authority_of(), patient, optional=["/ws"])(scope, wire.receive, wire.send)
    assert wire.types == ["websocket.accept", "websocket.send"]


async def test_a_nested_middleware_does_not_watch_a_second_time() -> None:
    wire = Wire()
    authority = authority_of(store=MemorySessionStore(), revocation=Revocation(max_staleness=ZERO))
    app = middleware(authority, middleware(authority))
    running = asyncio.create_task(app(handshake(await cookie_of(authority)), wire.receive, wire.send))
    while "websocket.accept" not in wire.types:
        await asyncio.sleep(0)
    await authority.revoke_all()
    await running
    assert wire.types.count("websocket.close") == 1


# The watcher itself


ZERO = Revocation().stale_if_error


def watching(wire: Wire, reason: Reason | Exception, app: ASGIApp = accepting) -> Awaitable[None]:
    async def check() -> float:
        raise Refusal(reason) if isinstance(reason, Reason) else reason

    return watched(app, check, handshake(), wire.receive, wire.send)


async def test_what_is_sent_after_the_end_fails_as_after_any_disconnect_and_a_close_is_dropped() -> None:
    async def sends_on(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await wire.closed.wait()
        with pytest.raises(OSError, match="ended"):
            await send({"type": "websocket.send", "text": "late"})
        await send({"type": "websocket.close", "code": 1000})

    wire = Wire()
    await watching(wire, Reason.TOKEN_EXPIRED, sends_on)
    assert wire.types == ["websocket.accept", "websocket.close"]


def test_a_check_that_breaks_closes_the_websocket_and_is_raised() -> None:
    wire = Wire()
    with pytest.raises(ZeroDivisionError):
        run(lambda: watching(wire, ZeroDivisionError()))
    assert wire.sent[-1]["code"] == TRY_AGAIN_LATER


async def test_a_client_that_is_gone_already_does_not_matter() -> None:
    async def gone(message: Message) -> None:
        if message["type"] == "websocket.close":
            raise ConnectionResetError

    async def check() -> float:
        raise Refusal(Reason.SESSION_REVOKED)

    scope = handshake()
    await watched(accepting, check, scope, Wire().receive, gone)
    assert scope["end"] == POLICY_VIOLATION


def test_a_message_is_not_lost_when_the_app_gives_up_waiting() -> None:
    received: list[Message] = []

    async def impatient(scope: Scope, receive: Receive, send: Send) -> None:
        received.append(await receive())
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        wire.say({"type": "websocket.receive", "text": "kept"})
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        received.append(await receive())

    async def check() -> float:
        return 1e6

    wire = Wire()
    run(lambda: watched(impatient, check, handshake(), wire.receive, wire.send))
    assert [message["type"] for message in received] == ["websocket.connect", "websocket.receive"]


async def test_nothing_is_left_running_when_the_app_returns_or_raises() -> None:
    async def leaves(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(receive(), 0.001)
        raise LookupError

    async def check() -> float:
        return 1e6

    wire, tasks = Wire(), asyncio.all_tasks()
    with pytest.raises(LookupError):
        await watched(leaves, check, handshake(), wire.receive, wire.send)
    assert asyncio.all_tasks() == tasks


# A real server


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


async def test_a_real_websocket_of_a_real_server_is_refused_served_and_closed() -> None:
    ends: list[int] = []

    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                await websocket.send_text(f"{websocket.state.session.user_id}: {await websocket.receive_text()}")
        except WebSocketDisconnect as ended:
            ends.append(ended.code)

    authority = authority_of(store=MemorySessionStore(), revocation=Revocation(max_staleness=ZERO))
    app = middleware(authority, Starlette(routes=[WebSocketRoute("/ws", echo)]))
    token = (await authority.issue(ADA)).token
    async with served(app) as url:
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"{url}/ws"):
                raise AssertionError("connected")
        assert refused.value.response.status_code == 401
        async with connect(f"{url}/ws", additional_headers={"authorization": f"Bearer {token}"}) as websocket:
            await websocket.send("hello")
            assert await websocket.recv() == "1: hello"
            await authority.revoke_all()
            with pytest.raises(ConnectionClosed):
                await websocket.recv()
            assert websocket.close_code == POLICY_VIOLATION
    assert ends == [POLICY_VIOLATION]
