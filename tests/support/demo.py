"""The demo's app in process: its database, its deployment, and a client that speaks to it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any

import httpx

from demo_app.app import create_app
from demo_app.board import Board
from demo_app.database import Database, url_of
from demo_app.release import Deployment
from demo_app.ring import Ring
from demo_app.scrape import Scrape
from demo_app.settings import Settings
from demo_app.telemetry import signals
from demo_app.traffic import client
from demo_app.watch import Watch

PASSWORD = "correct horse"
ADMIN, USER = "user1@example.com", "user2@example.com"


@dataclass(frozen=True, kw_only=True)
class Stage:
    http: httpx.AsyncClient
    """A browser: it keeps cookies."""
    users: httpx.AsyncClient
    """What the traffic speaks by: it keeps none."""
    database: Database
    deployment: Deployment
    watch: Watch
    ring: Ring

    async def log_in(self, email: str = USER, password: str = PASSWORD) -> httpx.Response:
        return await self.http.post("/login", json={"email": email, "password": password})

    async def look(self) -> None:
        """The watch scrapes once."""
        self.watch.add(await self.scrape(at=time()))

    async def scrape(self, at: float = 0.0) -> Scrape:
        return Scrape.parse((await self.http.get("/metrics")).text, at=at)


@contextlib.asynccontextmanager
async def stage(directory: Path, settings: Settings | None = None, **environment: Any) -> AsyncIterator[Stage]:
    settings = settings or Settings(users=3)
    database = Database(url_of(settings.database, directory))
    providers = signals(environment)
    try:
        await database.prepare(settings.users, PASSWORD)
        deployment = Deployment(settings, database, providers.of_sessions)
        await deployment.store.create_all()
        url, ring = "http://testserver", Ring()
        watch = Watch(settings, client(url))
        app = create_app(database, deployment, providers, Board(settings, deployment, watch, ring))
        async with (
            httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=url) as http,
            client(url, transport=httpx.ASGITransport(app=app)) as users,
        ):
            yield Stage(http=http, users=users, database=database, deployment=deployment, watch=watch, ring=ring)
        await deployment.aclose()
    finally:
        await database.aclose()
        providers.shutdown()
