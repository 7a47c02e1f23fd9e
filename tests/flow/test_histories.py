"""Random histories of releases: settings change as docs/evolution.md says, releases overlap and are rolled back.

At every moment at most two releases run. Each browser that logged in and did not log out is served by both until its
token expires, whatever changed since; one that logged out is served by neither.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from jwt_middleware import Envelope, Key, KeyRing, MemorySessionStore, Revocation, SessionCookie
from tests.support.world import DAY, Session, World

HISTORIES = int(os.environ.get("HISTORIES", "40"))
RELEASES = 12
ROLLOUT = 3_600
KEYS = {kid: Key.hmac(f"the secret of {kid}, long enough for HS256", kid=kid) for kid in ("a", "b", "c")}

VALUES: dict[str, list[Any]] = {
    "window": [timedelta(days=days) for days in (1, 3, 7)],
    "issuer": [None, "https://id.example", "https://login.example"],
    "audience": [None, "shop", "mall"],
    "cookie": [
        SessionCookie(),
        SessionCookie("session"),
        SessionCookie("session", domain="example.com"),
        SessionCookie("token", path="/app"),
    ],
    "typ": ["session+jwt", "JWT"],
    "version_claim": ["version", "v"],
}


@dataclass(frozen=True, kw_only=True)
class Release:
    """The settings of one release."""

    settings: dict[str, Any]
    lines: tuple[tuple[float, dict[str, Any]], ...] = ()
    """Newest first: until which moment it was otherwise, and how."""
    coming: dict[str, Any] = field(default_factory=dict)
    kids: tuple[str, ...] = ("a",)
    """The first signs."""
    has_store: bool = False

    def world(self, clock: Any, store: Any) -> World:
        settings = dict(self.settings)
        claim = settings.pop("version_claim")
        lines = [
            *([Envelope.coming(**self.coming)] if self.coming else []),
            *(
                Envelope.before(datetime.fromtimestamp(at, UTC), name=f"until {at}", **changes)
                for at, changes in self.lines
            ),
        ]
        world = World(
            clock=clock,
            store=store if self.has_store else None,
            sources=[],
            schema={"version_claim": claim},
            keys=KeyRing([KEYS[kid] for kid in self.kids]),
            also_accept=lines,
            revocation=Revocation(max_staleness=timedelta(0)),  # else the other release sees a log-out 5 s later
            **settings,
        )
        world.with_login(Session(user_id="1", email="ada@example.com"))
        return world


class Browser:
    """A cookie jar: by name, domain and path."""

    def __init__(self) -> None:
        self.jar: dict[tuple[str, str, str], str] = {}
        self.expires_at = 0.0

    async def go(self, world: World, path: str = "/app/me", method: str = "GET") -> int:
        pairs = "; ".join(f"{name}={value}" for (name, _, _), value in self.jar.items())
        response = await world.ask(path, method, cookie=pairs or None)
        for header in response.headers.get_list("set-cookie"):
            pair, *attributes = header.split("; ")
            name, _, value = pair.partition("=")
            known = dict(attribute.partition("=")[::2] for attribute in attributes)
            scope = name, known.get("Domain", "app.example.com"), known["Path"]
            self.jar.pop(scope, None)
            if known["Max-Age"] != "0":
                self.jar[scope] = value
        return response.status_code

    async def log_in(self, world: World) -> None:
        assert await self.go(world, "/login", "POST") == 200
        self.expires_at = world.clock.now() + world.authority.window.total_seconds()


class History:
    """What runs, who is logged in, and what the next release changes."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.clock = World().clock
        self.store = MemorySessionStore(clock=self.clock)
        first = {keyword: values[0] for keyword, values in VALUES.items()} | {"window": timedelta(days=7)}
        self.running = Release(settings=first)
        self.browsers: list[Browser] = []
        self.log: list[str] = []

    def successors(self) -> list[Release]:
        """The releases that change one setting: one, or two where a reader must come first."""
        now, last = self.clock.now(), replace(self.running, coming={})
        kind = self.random.choice([*VALUES, "key", "store"])
        moment = now + self.random.choice([1, 3]) * DAY  # later than its own rollout; the guide proposes a week
        if kind == "store":
            self.log.append("store")
            if last.has_store:
                return []
            return [replace(last, has_store=True, lines=((self.after(last, moment), {"store": None}), *last.lines))]
        if kind == "key":
            new = self.random.choice([kid for kid in KEYS if kid != last.kids[0]])
            others = [kid for kid in last.kids if kid != new]
            self.log.append(f"key {new}")
            return [replace(last, kids=(*others, new)), replace(last, kids=(new, *others))]
        old, new = last.settings[kind], self.random.choice(VALUES[kind])
        self.log.append(f"{kind} {old!r} to {new!r}")
        if new == old:
            return []
        line = (self.after(last, moment + 2 * DAY), {kind: old})
        changed = replace(last, settings={**last.settings, kind: new}, lines=(line, *last.lines))
        if kind == "window" and new < old:
            return [changed]
        return [replace(last, coming={kind: new}), changed]

    @staticmethod
    def after(release: Release, moment: float) -> float:
        """The moments of a changelog fall."""
        return max([moment, *(at + 1 for at, _ in release.lines)])

    async def deploy(self, release: Release) -> None:
        """Roll it out beside the running one, perhaps back and out again; then the former one is gone."""
        worlds = [each.world(self.clock, self.store) for each in (self.running, release)]
        for _ in range(self.random.choice([1, 1, 2])):
            await self.act(worlds)  # both run
            self.clock.advance(self.random.randint(1, ROLLOUT))
            await self.act(worlds[:1])  # rolled back for a while
            await self.act(worlds)
        self.running = release
        self.log.append("deployed")
        for pause in (1, self.random.randint(1, 2 * DAY)):
            self.clock.advance(pause)
            await self.act(worlds[1:])

    async def act(self, worlds: list[World]) -> None:
        for _ in range(self.random.randint(1, 4)):
            world = self.random.choice(worlds)
            active = [each for each in self.browsers if each.expires_at > self.clock.now()]
            if active and self.random.random() < 0.3:
                browser = self.random.choice(active)
                shown = dict(browser.jar)
                assert await browser.go(world, "/logout", "POST") == 200
                assert browser.jar == {}, "a cookie is left over"
                self.browsers.remove(browser)
                if all(each.store is not None for each in worlds):
                    browser.jar = shown  # a copy that an attacker keeps
                    assert [await browser.go(each) for each in worlds] == [401] * len(worlds), self.log
            else:
                self.clock.advance(1)  # no two log-ins of one user at the same microsecond
                browser = self.random.choice([Browser(), *active])
                await browser.log_in(world)
                self.browsers = [each for each in self.browsers if each is not browser] + [browser]
        await self.check(worlds)

    async def check(self, worlds: list[World]) -> None:
        for browser in self.browsers:
            alive = browser.expires_at > self.clock.now()
            for place, world in enumerate(worlds):
                status = await browser.go(world)
                reasons = world.recorder.reasons[-1:]
                assert status == 200 or not alive, (place, reasons, self.log, browser.jar)


@pytest.mark.parametrize("seed", range(HISTORIES))
async def test_no_history_of_releases_logs_a_browser_out(seed: int) -> None:
    history = History(seed)
    for _ in range(RELEASES):
        for release in history.successors():
            await history.deploy(release)
    assert "deployed" in history.log
