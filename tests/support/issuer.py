"""An issuer on loopback: real keys, and a real HTTP endpoint that answers as the test says."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from jwt_middleware import Key, KeyRing, Refusal, RemoteKeys, SessionAuthority
from jwt_middleware.types import VerifiedToken
from tests.support.world import FakeClock, Session, authority_of

PARTIES: Final = {"issuer": "https://issuer.example", "audience": "shop"}
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


def pair(kid: str | None, alg: str = "ES256") -> dict[str, Any]:
    """A private EC key as a JWK."""
    jwk: dict[str, Any] = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True)
    return {**jwk, "alg": alg, **({} if kid is None else {"kid": kid})}


def public(jwk: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in jwk.items() if name != "d"}


def reply(body: bytes, *, status: str = "200 OK", kind: str = "application/json", more: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{more}\r\n"
    )
    return head.encode() + body


class Issuer:
    """``kids`` are what it publishes and signs with; ``asked`` are the requests it saw."""

    def __init__(self, *kids: str) -> None:
        self.pairs: dict[str, dict[str, Any]] = {kid: pair(kid) for kid in kids}
        self.published = list(kids)
        self.answer: Answer = self.honest
        self.asked: list[bytes] = []
        self.over = asyncio.Event()
        self.port = 0
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Future[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/jwks.json"

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Issuer]:
        await self.restore()
        try:
            yield self
        finally:
            await self.cut()

    async def restore(self) -> None:
        self.over = asyncio.Event()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Nobody listens any more, and whoever waits for an answer sees the connection close."""
        self.over.set()
        if self._server is not None:
            self._server.close()
            await asyncio.gather(*self._connections)
            await self._server.wait_closed()

    def rotate(self, *kids: str) -> None:
        """Publish these keys alone; new ones are made."""
        self.pairs.update({kid: pair(kid) for kid in kids if kid not in self.pairs})
        self.published = list(kids)

    def key_set(self) -> bytes:
        return json.dumps({"keys": [public(self.pairs[kid]) for kid in self.published]}).encode()

    async def honest(self, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(self.key_set()))

    async def stalling(self, writer: asyncio.StreamWriter) -> None:
        """Answer honestly, but only when it is over."""
        await self.over.wait()
        await self.honest(writer)

    async def trickling(self, writer: asyncio.StreamWriter) -> None:
        """A byte now and then, so that no time limit between two bytes is ever reached."""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        while not self.over.is_set():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)

    def saying(self, answer: bytes) -> None:
        """Whatever is asked, it says this."""

        async def lying(writer: asyncio.StreamWriter) -> None:
            writer.write(answer)

        self.answer = lying

    async def token(self, kid: str, clock: FakeClock | None = None, **settings: Any) -> str:
        """A token of a new session, signed with that key."""
        minter = verifier(KeyRing([Key.jwk(self.pairs[kid])]), clock, **settings)
        issued = await minter.issue(Session(user_id="u1", email="ada@example.org"))
        return issued.token

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended = asyncio.get_running_loop().create_future()
        self._connections.add(ended)
        await self._converse(reader, writer)
        self._connections.discard(ended)
        ended.set_result(None)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            self.asked.append(await reader.readuntil(b"\r\n\r\n"))
            await self.answer(writer)
            await writer.drain()
        with contextlib.suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()


def verifier(keys: KeyRing | RemoteKeys, clock: FakeClock | None = None, **settings: Any) -> SessionAuthority[Session]:
    timing = {} if clock is None else {"clock": clock}
    authority: SessionAuthority[Session] = authority_of(keys=keys, **{**PARTIES, **timing, **settings})
    return authority


def remote(issuer: Issuer, **settings: Any) -> RemoteKeys:
    return RemoteKeys(issuer.url, **{"timeout": timedelta(seconds=10), **settings})


async def reason(authority: SessionAuthority[Session], token: str) -> str | None:
    """Why the token is refused; None where it is accepted."""
    try:
        await authority.verify(token)
    except Refusal as refusal:
        return refusal.reason.value
    return None


def at_once(authority: SessionAuthority[Session], token: str) -> VerifiedToken:
    """Verify without an event loop's help: it must not wait for anything."""
    verifying = authority.verify(token)
    try:
        verifying.send(None)
    except StopIteration as done:
        verified: VerifiedToken = done.value
        return verified
    finally:
        verifying.close()
    raise AssertionError("a known key made a request wait")


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what must happen; ten seconds are for ever."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def fetches(authority: SessionAuthority[Session]) -> dict[str, int]:
    """The fetches the authority counted, by outcome."""
    return {
        dict(attributes)["jwt_middleware.outcome"]: count
        for metric, attributes, count in authority.parts.counters.series()
        if metric.name == "jwt_middleware.jwks.fetches"
    }
