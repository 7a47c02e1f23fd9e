"""The demo for tests: its app in this process, its command in another, and pages of metrics for its watch."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any

import httpx

from demo_app.app import create_app
from demo_app.database import Database, url_of
from demo_app.deployment import Deployment
from demo_app.live_page import LiveFacts
from demo_app.settings import Settings
from demo_app.telemetry import RecentEvents, signals
from demo_app.traffic import client
from demo_app.watch import Scrape, Watch

ROOT = Path(__file__).parents[2]
PASSWORD = "correct horse"
ADMIN, USER = "user1@example.com", "user2@example.com"


@dataclass(frozen=True, kw_only=True)
class Demo:
    """The demo's app in this process."""

    http: httpx.AsyncClient
    """A browser: it stores cookies."""
    users: httpx.AsyncClient
    """The client of the traffic: it stores none."""
    database: Database
    deployment: Deployment
    watch: Watch
    events: RecentEvents

    async def log_in(self, email: str = USER, password: str = PASSWORD) -> httpx.Response:
        """On another device than before: a log-in replaces the session that its browser shows."""
        self.http.cookies.clear()
        return await self.http.post("/login", json={"email": email, "password": password})

    async def watch_once(self) -> None:
        """Add a scrape to the watch."""
        self.watch.add(await self.scrape(at=time()))

    async def scrape(self, at: float = 0.0) -> Scrape:
        return Scrape.parse((await self.http.get("/metrics")).text, at=at)


@contextlib.asynccontextmanager
async def demo_of(directory: Path, settings: Settings | None = None, **environment: Any) -> AsyncIterator[Demo]:
    settings = settings or Settings(users=3)
    database = Database(url_of(settings.database, directory))
    providers = signals(environment)
    try:
        await database.prepare(settings.users, PASSWORD)
        deployment = Deployment(settings, database, providers.of_sessions)
        await deployment.store.create_all()
        url, events = "http://testserver", RecentEvents()
        watch = Watch(settings, client(url))
        app = create_app(database, deployment, providers, LiveFacts(settings, deployment, watch, events))
        transport = httpx.ASGITransport(app=app)
        async with (
            httpx.AsyncClient(transport=transport, base_url=url) as http,
            client(url, transport=transport) as users,
        ):
            yield Demo(http=http, users=users, database=database, deployment=deployment, watch=watch, events=events)
        await deployment.aclose()
    finally:
        await database.aclose()
        providers.shutdown()


@contextlib.contextmanager
def command(*arguments: str, temporary: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """``python -m demo_app`` in a process of its own, killed at the end; its temporary files are in ``temporary``."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environment |= {"PYTHONPATH": str(ROOT)} | ({"TMPDIR": str(temporary)} if temporary else {})
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "demo_app", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def metrics_page(
    *, today: int = 0, old: dict[str, int] | None = None, refused: dict[str, int] | None = None, fallbacks: int = 0,
    queries: int = 0, mints: int = 2, **gauges: float | None
) -> str:  # fmt: skip
    """A page of /metrics as the exporter writes it: counts of accepted tokens (old ones by the moment of minting),
    of refusals by reason, and gauges of version 1."""
    version, scope = "jwt_middleware_payload_version", 'otel_scope_name="jwt_middleware"'
    lines = [
        "# HELP jwt_middleware_requests_total Requests by what was decided about them.",
        "# TYPE jwt_middleware_requests_total counter",
        "# TYPE http_server_duration_milliseconds histogram",
        'http_server_duration_milliseconds_bucket{le="5.0"} 3',
        f'jwt_middleware_requests_total{{jwt_middleware_result="accepted",{version}="2",{scope}}} {today}',
        f'jwt_middleware_fallbacks_total{{jwt_middleware_outcome="resolved",{version}="1"}} {fallbacks}',
        f'jwt_middleware_lookups_total{{jwt_middleware_lookup="claims",jwt_middleware_outcome="ok"}} {queries}',
        'jwt_middleware_lookups_total{jwt_middleware_lookup="sessions",jwt_middleware_outcome="ok"} 99',
        f'jwt_middleware_payload_info{{jwt_middleware_payload_mints="{mints}",{version}="2"}} 1',
    ]
    for minted, count in (old or {}).items():
        labels = f'jwt_middleware_result="accepted",{version}="1",jwt_middleware_minted="{minted}",{scope}'
        lines.append(f"jwt_middleware_requests_total{{{labels}}} {count}")
    for reason, count in (refused or {}).items():
        lines.append(f'jwt_middleware_requests_total{{jwt_middleware_result="refused",error_type="{reason}"}} {count}')
    for gauge, moment in gauges.items():
        if moment is not None:
            lines.append(f'jwt_middleware_payload_{gauge}_timestamp_seconds{{{version}="1"}} {moment}')
    return "\n".join(lines) + "\n"
