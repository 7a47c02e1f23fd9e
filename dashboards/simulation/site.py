"""The simulated site and its users: when they visit, and what they do; every request passes the real middleware."""

from __future__ import annotations

import asyncio
import secrets
from itertools import accumulate
from random import Random
from typing import Any, Final, NamedTuple

from starlette.types import Message

from jwt_middleware import Key, KeyRing
from jwt_middleware.protocols import Clock

from .process import Process
from .scenarios import DAY, Deploy, Issuer
from .world import HOUR, KID, World, email_of

_BY_HOUR: Final = list(accumulate((2, 1, 1, 1, 2, 4, 8, 14, 22, 26, 25, 21, 17, 19, 23, 23, 20, 15, 11, 9, 8, 7, 5, 3)))
"""Cumulative weights of the hours of a day."""
_WEEKEND: Final = (5, 6)
_AT_WEEKENDS: Final = 0.4
_REGULAR: Final = 0.7
"""Share of the users who visit more than once a working day; the others visit on one day of three."""
_LOG_OUTS: Final = 0.06
"""Share of the visits that end with a log-out."""
_SECOND_TAB: Final = 0.3
"""Share of the log-outs after which a second tab sends one more request."""
_OK: Final = 204

Headers = list[tuple[bytes, bytes]]


class Minted(NamedTuple):
    """A minted token: its payload version, and its lifetime in seconds since the epoch."""

    version: int
    at: float
    expires_at: float


def visits(random: Random, users: int, days: float) -> list[tuple[float, int]]:
    """Visits in the order of time: hours since the start, and the user; most are in office hours."""
    means = [1.4 if random.random() < _REGULAR else 0.3 for _ in range(users)]
    everything = [
        (day * DAY + _hour(random), user)
        for day in range(int(days) + 1)
        for user, mean in enumerate(means)
        for _ in range(_times(random, mean * (_AT_WEEKENDS if day % 7 in _WEEKEND else 1)))
    ]
    return sorted(visit for visit in everything if visit[0] < days * DAY)


def _times(random: Random, mean: float) -> int:
    return int(mean) + (random.random() < mean % 1)


def _hour(random: Random) -> float:
    [hour] = random.choices(range(24), cum_weights=_BY_HOUR)
    return hour + random.random()


class Site:
    """All instances in their current state, and the cookie of each user."""

    def __init__(self, world: World, random: Random, *, users: int, instances: int, deploy: Deploy) -> None:
        self._world: Final = world
        self._random: Final = random
        self._clock: Final[Clock] = world.clock
        self._cookies: Final[list[Headers | None]] = [None] * users
        self._deployed: Final = [deploy] * instances
        self._instances: Final = [random.randrange(instances) for _ in range(users)]
        """Each user's instance during a visit: the load balancer is sticky."""
        self.processes: Final = [Process(world, deploy) for _ in range(instances)]
        self._forger: Final = Process(
            world._replace(keys=KeyRing([Key.hmac(secrets.token_urlsafe(64), kid=KID)])), Deploy(at=0)
        )
        self._forgotten: Final = Process(world, Deploy(at=0, mints=1))
        """The issuer that is not scraped."""
        self.minted: Final[list[Minted]] = []
        self.requests = 0

    async def restart(self, instance: int, deploy: Deploy | None) -> Process:
        """End the instance's process and start the next, of another release if one is given."""
        await self.processes[instance].aclose()
        self._deployed[instance] = deploy or self._deployed[instance]
        self.processes[instance] = Process(self._world, self._deployed[instance])
        return self.processes[instance]

    async def aclose(self) -> None:
        for process in (*self.processes, self._forger, self._forgotten):
            await process.aclose()

    async def arrive(self, user: int) -> None:
        """Load the first page, three requests at once; log in first if the session is not accepted."""
        self._instances[user] = self._random.randrange(len(self.processes))
        cookie, process = self._cookies[user], self._process_of(user)
        if cookie is not None:
            statuses = await asyncio.gather(*(self._request(process, cookie) for _ in range(3)))
            if set(statuses) == {_OK}:
                return
        await self.log_in(user)
        await self.turn_page(user)

    async def turn_page(self, user: int) -> None:
        """Load the next page: two requests, one after the other."""
        process = self._process_of(user)
        for _ in range(2):
            await self._request(process, self._cookies[user] or [])

    async def log_in(self, user: int) -> None:
        """Get a token, from the user's instance or from the forgotten issuer."""
        issuer = self._world.scenario.issuer
        active = issuer is not None and self._clock.now() < self._world.moment(issuer.until)
        if issuer is not None and active and self._random.random() < issuer.share:
            self._cookies[user] = await self._forgotten_token(user, issuer)
            return
        deploy = self._deployed[self._instances[user]]
        self._cookies[user] = await self._token(self._process_of(user), deploy.mints, user)

    async def leave(self, user: int) -> None:
        """End a visit, now and then with a log-out."""
        cookie = self._cookies[user]
        if cookie is None or self._random.random() >= _LOG_OUTS:
            return
        self._cookies[user] = None
        await self._process_of(user).authority.end_token(cookie)
        if self._random.random() < _SECOND_TAB:
            await self._request(self._process_of(user), cookie)

    async def without_token(self) -> None:
        """A request without a token."""
        await self._request(self._random.choice(self.processes), [])

    async def with_a_forged_token(self) -> None:
        """A request with a token that another key signed."""
        issued = await self._forger.authority.issue(_session(self._forger, 0))
        await self._request(self._random.choice(self.processes), _cookie(issued.token))

    def _process_of(self, user: int) -> Process:
        return self.processes[self._instances[user]]

    async def _token(self, process: Process, version: int, user: int) -> Headers:
        now = self._clock.now()
        issued = await process.authority.issue(_session(process, user))
        self.minted.append(Minted(version, now, issued.expires_at.timestamp()))
        return _cookie(issued.token)

    async def _forgotten_token(self, user: int, issuer: Issuer) -> Headers:
        """A token of the forgotten worker, or of the app before this package: a foreign one, with its own lifetime."""
        if issuer.lifetime is None:
            return await self._token(self._forgotten, 1, user)
        now = int(self._clock.now())
        expires_at = now + int(issuer.lifetime * HOUR)
        claims = {"userId": str(user), "companyId": "acme", "iat": now, "exp": expires_at}
        self.minted.append(Minted(1, now, expires_at))
        return _cookie(self._forgotten.authority.parts.minter.sign(claims, typ="JWT"))

    async def _request(self, process: Process, headers: Headers) -> int:
        """Send one request; the status of its response."""
        self.requests += 1
        status = 0

        async def send(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)

        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": headers}
        await process.middleware(scope, _receive, send)
        return status


async def _receive() -> Message:
    return {"type": "http.disconnect"}


def _cookie(token: str) -> Headers:
    return [(b"host", b"shop.example"), (b"cookie", b"__Host-session=" + token.encode("ascii"))]


def _session(process: Process, user: int) -> Any:
    return process.session(user_id=str(user), company_id="acme", email=email_of(user))
