"""An issuer on loopback: real keys, and a real HTTP endpoint that responds as the test says."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from jwt_middleware import Key, KeyRing, RemoteKeys, VerifiedToken, names
from jwt_middleware.protocols import Clock, SystemClock
from tests.support.target import forged
from tests.support.world import Session, authority_of

PARTIES: Final = {"issuer": "https://issuer.example", "audience": "shop"}


def pair(kid: str | None, alg: str = "ES256") -> dict[str, Any]:
    """A private EC key as a JWK."""
    jwk: dict[str, Any] = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True)
    return {**jwk, "alg": alg, **({} if kid is None else {"kid": kid})}


def public(jwk: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in jwk.items() if name != "d"}


def response(body: bytes, *, status: str = "200 OK", kind: str = "application/json", more: str = "") -> bytes:
    """An HTTP response as bytes."""
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{more}\r\n"
    )
    return head.encode() + body


class Issuer:
    """``published`` are the keys of its set; ``requests`` are those it got; ``respond`` writes each response."""

    def __init__(self, *kids: str) -> None:
        self.pairs: dict[str, dict[str, Any]] = {kid: pair(kid) for kid in kids}
        self.published = list(kids)
        self.respond: Callable[[asyncio.StreamWriter], Awaitable[None]] = self.publishing
        self.requests: list[bytes] = []
        self.over = asyncio.Event()
        self.port = 0
        self._connections: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/jwks.json"

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Issuer]:
        self.over = asyncio.Event()
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            await self.cut()

    async def cut(self) -> None:
        """Stop listening; requests that wait for a response see the connection close."""
        self.over.set()
        self.server.close()
        await asyncio.gather(*self._connections)
        await self.server.wait_closed()

    def rotate(self, *kids: str) -> None:
        """Publish these keys alone; new ones are made."""
        self.pairs.update({kid: pair(kid) for kid in kids if kid not in self.pairs})
        self.published = list(kids)

    async def publishing(self, writer: asyncio.StreamWriter) -> None:
        body = json.dumps({"keys": [public(self.pairs[kid]) for kid in self.published]})
        writer.write(response(body.encode()))

    async def stalling(self, writer: asyncio.StreamWriter) -> None:
        """Publish, but only when it is over."""
        await self.over.wait()
        await self.publishing(writer)

    async def trickling(self, writer: asyncio.StreamWriter) -> None:
        """A byte now and then, so that no time limit between two bytes is ever reached."""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        while not self.over.is_set():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)

    def saying(self, *responses: bytes) -> None:
        """Respond with each of these in turn."""

        async def lying(writer: asyncio.StreamWriter) -> None:
            writer.write(responses[len(self.requests) % len(responses)])

        self.respond = lying

    async def token(self, kid: str, clock: Clock | None = None, **settings: Any) -> str:
        """A token of a new session, signed with that key."""
        authority = verifier(KeyRing([Key.jwk(self.pairs[kid])]), clock, **settings)
        issued = await authority.issue(Session(user_id="u1", email="ada@example.org"))
        return str(issued.token)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            await self.respond(writer)
            await writer.drain()
        with contextlib.suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()


def verifier(keys: KeyRing | RemoteKeys, clock: Clock | None = None, **settings: Any) -> Any:
    """An authority with the issuer and the audience of the tokens."""
    return authority_of(keys=keys, **{**PARTIES, "clock": clock or SystemClock(), **settings})


def remote(issuer: Issuer, **settings: Any) -> RemoteKeys:
    return RemoteKeys(issuer.url, **{"timeout": timedelta(seconds=10), **settings})


def unsigned(kid: str | None, **header: Any) -> str:
    """A token that no key signed."""
    named = {} if kid is None else {"kid": kid}
    return forged({"alg": "ES256", **named, **header}, {}, key=None, signature=b"signature")


def at_once(authority: Any, token: str) -> VerifiedToken:
    """Verify without the help of an event loop: a coroutine that waits for anything fails the test."""
    with pytest.raises(StopIteration) as ended:
        authority.verify(token).send(None)
    verified: VerifiedToken = ended.value.value
    return verified


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what must happen; ten seconds are for ever."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def fetches(authority: Any) -> dict[str, int]:
    """The fetches that the authority counted, by outcome."""
    series = authority.parts.counters.series()
    return {dict(at)[names.OUTCOME]: count for metric, at, count in series if metric is names.JWKS_FETCHES}
