"""Simulated users: they log in over HTTP, keep their cookie, work, log out now and then, and log in again.

They count the responses, so that a run can be checked: the metrics must have the same counts.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from http.cookies import SimpleCookie
from time import time
from typing import Any, Final

import httpx

from .database import email_of
from .settings import Settings

SAVES: Final = 0.25
"""Share of requests that save; the others only read."""
LOGOUTS_PER_WINDOW: Final = 1.4
"""Log-outs of one user in the life of a token: on day three about half of the old tokens are left."""
COOKIE: Final = "jwt_session"


@dataclass(slots=True, kw_only=True)
class Counts:
    """Counts of the responses to all users."""

    accepted: Counter[int] = field(default_factory=Counter)
    """Accepted requests, by the payload version of the token."""
    fallbacks: int = 0
    expired: int = 0
    """Responses with 401 after the token's ``exp``: the expected end."""
    refused: Counter[str] = field(default_factory=Counter)
    """Any other refusal, by status and path."""
    logins: Counter[int] = field(default_factory=Counter)
    """Logins, by the payload version of the new token."""
    logouts: int = 0
    saves: int = 0
    without_email: int = 0
    """Responses without the user's own address."""
    failures: int = 0
    """Requests without a response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cookie:
    """The session cookie of a user."""

    token: str = field(repr=False)
    version: int
    expires_at: float

    @classmethod
    def of(cls, response: httpx.Response) -> Cookie:
        """The cookie that the response to a login sets."""
        cookies: SimpleCookie = SimpleCookie()
        for header in response.headers.get_list("set-cookie"):
            cookies.load(header)
        token = cookies[COOKIE].value
        payload = _payload(token)
        return cls(token=token, version=payload.get("version", 1), expires_at=payload["exp"])


@dataclass(slots=True)
class _User:
    email: str
    cookie: Cookie | None = None


class Traffic:
    """All users of one run.

    Args:
        settings: Number of users, rate of requests, life of a token.
        http: A client that keeps no cookies; see :func:`client`.
        password: The password of every user.
    """

    def __init__(self, settings: Settings, http: httpx.AsyncClient, password: str) -> None:
        self.counts: Final = Counts()
        self._http: Final = http
        self._password: Final = password
        self._pause: Final = settings.users / settings.rate
        self._arrivals: Final = 0.8 * settings.until_release
        self._logout: Final = min(0.5, LOGOUTS_PER_WINDOW * self._pause / settings.window)
        self._users: Final = [_User(email_of(number)) for number in range(1, settings.users + 1)]
        self._ended: Final = asyncio.Event()
        self._finished: Final = asyncio.Event()

    async def run(self) -> None:
        """Run all users until :meth:`end`."""
        async with asyncio.TaskGroup() as group:
            for user in self._users:
                group.create_task(self._run_user(user))
        self._finished.set()

    async def end(self) -> None:
        """Stop, and wait until every user has finished the current request."""
        self._ended.set()
        await self._finished.wait()

    async def _run_user(self, user: _User) -> None:
        """Act at random intervals; the first moment is before the release."""
        await self._sleep(random.uniform(0, self._arrivals))
        while not self._ended.is_set():
            try:
                await self.act(user)
            except httpx.HTTPError:
                self.counts.failures += 1
            await self._sleep(random.expovariate(1 / self._pause))

    async def act(self, user: _User) -> None:
        """Log out or send one request, after a log-in if the user needs one."""
        if user.cookie is None and not await self._log_in(user):
            return
        cookie = user.cookie
        if cookie is not None and cookie.expires_at - time() > 2 and random.random() < self._logout:
            await self._log_out(user, cookie)
        elif cookie is not None and not await self._work(user, cookie) and await self._log_in(user):
            await self._work(user, user.cookie)

    async def _log_in(self, user: _User) -> bool:
        response = await self._http.post("/login", json={"email": user.email, "password": self._password})
        if response.status_code != 200:
            self._count_refusal(response)
            return False
        user.cookie = Cookie.of(response)
        self.counts.logins[user.cookie.version] += 1
        return True

    async def _log_out(self, user: _User, cookie: Cookie) -> None:
        response = await self._http.post("/logout", headers=_headers(cookie))
        user.cookie = None
        if response.status_code == 204:
            self.counts.logouts += 1
        else:
            self._count_refusal(response)

    async def _work(self, user: _User, cookie: Cookie | None) -> bool:
        """Send one request with the cookie; False if the token has expired."""
        if cookie is None:
            return True
        saving = random.random() < SAVES
        request = ("POST", "/api/consolidation/save") if saving else ("GET", "/me")
        response = await self._http.request(*request, headers=_headers(cookie))
        if response.status_code == 401:
            user.cookie = None
        if response.status_code == 401 and time() >= cookie.expires_at:
            self.counts.expired += 1
            return False
        if not response.is_success:
            self._count_refusal(response)
            return True
        body = response.json()
        self.counts.accepted[cookie.version] += 1
        self.counts.fallbacks += bool(body["filled"])
        self.counts.saves += saving
        self.counts.without_email += body["savedBy" if saving else "email"] != user.email
        return True

    def _count_refusal(self, response: httpx.Response) -> None:
        self.counts.refused[f"{response.status_code} {response.request.url.path}"] += 1

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), seconds)


def client(url: str, **settings: Any) -> httpx.AsyncClient:
    """A client that all users share; it stores no cookies, so no user can send another's."""
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    return httpx.AsyncClient(**{"base_url": url, "cookies": no_cookies, "timeout": 10, "trust_env": False, **settings})


def _headers(cookie: Cookie) -> dict[str, str]:
    return {"Cookie": f"{COOKIE}={cookie.token}"}


def _payload(token: str) -> dict[str, Any]:
    """The payload of a token, without verification."""
    encoded = token.split(".")[1]
    payload: dict[str, Any] = json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    return payload
