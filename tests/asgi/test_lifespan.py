"""The authority's life inside the app's: after its startup, before its shutdown, and in the way of neither."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jwt_middleware import JWTSessionMiddleware
from tests.support.asgi import Echo, ask
from tests.support.world import authority_of


class Steps:
    """An app and an authority that write down, in one list, what happens to them."""

    def __init__(self, *, failing: tuple[str, ...] = ()) -> None:
        self.happened: list[str] = []
        self.failing = failing
        self.authority = authority_of()
        self.authority.open = lambda: self._happen("authority opened")
        self.authority.aclose = self._close

    def _happen(self, what: str) -> None:
        self.happened.append(what)
        if what in self.failing:
            raise RuntimeError("broken")

    async def _close(self) -> None:
        self._happen("authority closed")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "lifespan.startup"
        self._happen("app starts")
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        self._happen("app ends")
        await send({"type": "lifespan.shutdown.complete"})

    def live(self, app: ASGIApp | None = None) -> list[str]:
        """One life of the server; what the app told it."""
        told: list[str] = []

        async def main() -> None:
            messages = iter(["lifespan.startup", "lifespan.shutdown"])

            async def receive() -> Message:
                return {"type": next(messages)}

            async def send(message: Message) -> None:
                self.happened.append(f"server told {message['type']}")
                told.append(message["type"])

            middleware = JWTSessionMiddleware(app or self, authority=self.authority)
            await middleware({"type": "lifespan", "state": {}}, receive, send)

        asyncio.run(main())
        return told


def test_the_authority_opens_after_the_apps_startup_and_flushes_before_its_shutdown() -> None:
    steps = Steps()
    steps.live()
    assert steps.happened == [
        "app starts",
        "authority opened",
        "server told lifespan.startup.complete",
        "authority closed",
        "app ends",
        "server told lifespan.shutdown.complete",
    ]


def test_an_authority_that_cannot_open_or_close_breaks_neither_boot_nor_shutdown() -> None:
    steps = Steps(failing=("authority opened", "authority closed"))
    assert steps.live() == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_an_app_that_fails_to_start_fails_as_it_would_alone() -> None:
    steps = Steps(failing=("app starts",))
    with pytest.raises(RuntimeError, match="broken"):
        steps.live()
    assert steps.happened == ["app starts"]


def test_an_app_that_says_it_could_not_start_is_heard_and_no_authority_opens() -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    steps = Steps()
    assert steps.live(fails) == ["lifespan.startup.failed"]
    assert "authority opened" not in steps.happened


def test_without_a_lifespan_the_first_request_opens_it() -> None:
    steps, echo = Steps(), Echo()
    app = JWTSessionMiddleware(echo, authority=steps.authority, public=["/"])
    assert asyncio.run(ask(app)).status_code == 200
    assert steps.happened == ["authority opened"]
