"""The site and who uses it: log-ins, pages, log-outs, strangers; every request goes through the real middleware."""

from __future__ import annotations

import asyncio
import secrets
from random import Random
from typing import Any, Final, NamedTuple

from starlette.types import Message

from jwt_middleware import Key, KeyRing
from jwt_middleware.protocols import Clock

from ..database import email_of
from .process import Process
from .scenarios import Deploy, Issuer
from .world import HOUR, KID, World

_LOG_OUTS: Final = 0.06
"""Of all visits."""
_FORGETFUL: Final = 0.3
"""Of those who log out: their second tab asks once more."""
_OK: Final = 204

Headers = list[tuple[bytes, bytes]]


class Minted(NamedTuple):
    """One token."""

    version: int
    at: float
    expires_at: float


class Site:
    """All instances as they are now, and the cookie that each person keeps."""

    def __init__(self, world: World, random: Random, *, users: int, instances: int, deploy: Deploy) -> None:
        self._world: Final = world
        self._random: Final = random
        self._clock: Final[Clock] = world.clock
        self._cookies: Final[list[Headers | None]] = [None] * users
        self._deployed: Final = [deploy] * instances
        self._sent_to: Final = [random.randrange(instances) for _ in range(users)]
        """The instance, for the length of a visit: a balancer that keeps people where they are."""
        self.processes: Final = [Process(world, deploy) for _ in range(instances)]
        self._forger: Final = Process(
            world._replace(keys=KeyRing([Key.hmac(secrets.token_urlsafe(64), kid=KID)])), Deploy(at=0)
        )
        self._elsewhere: Final = Process(world, Deploy(at=0, mints=1))
        """Who is not scraped."""
        self.minted: Final[list[Minted]] = []
        self.requests = 0

    async def restart(self, instance: int, deploy: Deploy | None) -> Process:
        """End a process and begin the next, of what is deployed."""
        await self.processes[instance].aclose()
        self._deployed[instance] = deploy or self._deployed[instance]
        self.processes[instance] = Process(self._world, self._deployed[instance])
        return self.processes[instance]

    async def aclose(self) -> None:
        for process in (*self.processes, self._forger, self._elsewhere):
            await process.aclose()

    async def arrive(self, person: int) -> None:
        """The first page asks for three things at once; where the session does not hold, a log-in comes first."""
        self._sent_to[person] = self._random.randrange(len(self.processes))
        cookie, process = self._cookies[person], self._of(person)
        if cookie is not None:
            statuses = await asyncio.gather(*(self._request(process, cookie) for _ in range(3)))
            if set(statuses) == {_OK}:
                return
        await self.log_in(person)
        await self.turn_page(person)

    async def turn_page(self, person: int) -> None:
        """The next page: two things, one after the other."""
        process = self._of(person)
        for _ in range(2):
            await self._request(process, self._cookies[person] or [])

    async def log_in(self, person: int) -> None:
        """A token from whoever answers."""
        issuer = self._world.scenario.issuer
        active = issuer is not None and self._clock.now() < self._world.moment(issuer.until)
        if issuer is not None and active and self._random.random() < issuer.share:
            self._cookies[person] = await self._elsewhere_token(person, issuer)
            return
        deploy = self._deployed[self._sent_to[person]]
        self._cookies[person] = await self._token(self._of(person), deploy.mints, person)

    async def leave(self, person: int) -> None:
        """Now and then somebody logs out."""
        cookie = self._cookies[person]
        if cookie is None or self._random.random() >= _LOG_OUTS:
            return
        self._cookies[person] = None
        await self._of(person).authority.end_token(cookie)
        if self._random.random() < _FORGETFUL:
            await self._request(self._of(person), cookie)

    async def without_token(self) -> None:
        await self._request(self._random.choice(self.processes), [])

    async def with_a_forged_token(self) -> None:
        issued = await self._forger.authority.issue(_session(self._forger, 0))
        await self._request(self._random.choice(self.processes), _cookie(issued.token))

    def _of(self, person: int) -> Process:
        return self.processes[self._sent_to[person]]

    async def _token(self, process: Process, version: int, person: int) -> Headers:
        now = self._clock.now()
        issued = await process.authority.issue(_session(process, person))
        self.minted.append(Minted(version, now, issued.expires_at.timestamp()))
        return _cookie(issued.token)

    async def _elsewhere_token(self, person: int, issuer: Issuer) -> Headers:
        """Of the worker nobody updated, or of the app that was there before this package: no ``sid``, other life."""
        if issuer.lifetime is None:
            return await self._token(self._elsewhere, 1, person)
        now = int(self._clock.now())
        expires_at = now + int(issuer.lifetime * HOUR)
        claims = {"userId": str(person), "companyId": "acme", "iat": now, "exp": expires_at}
        self.minted.append(Minted(1, now, expires_at))
        return _cookie(self._elsewhere.authority.parts.minter.sign(claims))

    async def _request(self, process: Process, headers: Headers) -> int:
        """The status of the answer."""
        self.requests += 1
        status = 0

        async def send(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)

        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": headers}
        await process.middleware(scope, _nothing, send)
        return status


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


def _cookie(token: str) -> Headers:
    return [(b"host", b"shop.example"), (b"cookie", b"__Host-session=" + token.encode("ascii"))]


def _session(process: Process, person: int) -> Any:
    return process.session(user_id=str(person), company_id="acme", email=email_of(person))
