"""The app behind every contender, bare and wrapped, and requests to it as a contender."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from time import process_time
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from . import world
from .measure import Timed
from .world import Headers

Coming = Callable[[int], list[Headers]]
"""The headers of a number of requests, made before the clock starts."""


def body_of(session: object) -> str:
    """The body of every handler: only a handler that has read a session can return "ok"."""
    return "hi" if session is None else "ok"


async def home(request: Request) -> PlainTextResponse:
    """The bare app's handler looks for a session too, so the cost of reading one is in every base."""
    return PlainTextResponse(body_of(request.scope["state"].get("session")))


def bare(*middleware: Middleware, handler: Callable[[Request], Any] = home) -> Starlette:
    return Starlette(routes=[Route("/", handler)], middleware=middleware)


class PassThrough:
    """The cheapest possible middleware."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


def requests(loop: asyncio.AbstractEventLoop, app: Any, coming: Coming) -> Timed:
    """Requests to one app, each with its own scope."""

    async def many(given: list[Headers]) -> float:
        started = process_time()
        for headers in given:
            await app(world.scope(headers), world.receive, world.send)
        return process_time() - started

    return lambda number: loop.run_until_complete(many(coming(number)))


def always(given: Headers) -> Coming:
    """The same request again and again."""
    return lambda number: [given] * number


def at_random(tokens: list[bytes]) -> Coming:
    """Requests with random tokens of these, in the same order for every contender."""
    chosen = Random(7)
    return lambda number: [world.cookie(token.decode()) for token in chosen.choices(tokens, k=number)]
