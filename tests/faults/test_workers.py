"""A session that one worker process, or SQL of an operator, revoked is refused by every other within the bound."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import pytest
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from dashboards.prometheus import end_process
from jwt_middleware import Revocation
from jwt_middleware.sqlalchemy import SQLAlchemySessionStore
from tests.support.asgi import Echo
from tests.support.databases import LIMIT, Deployed, engine_on
from tests.support.processes import ROOT


def app() -> ASGIApp:
    """The app of each worker; they share one database."""

    def routes(authority: Any) -> Starlette:
        async def ready(_: Request) -> PlainTextResponse:
            return PlainTextResponse(str(os.getpid()))

        async def log_in(request: Request) -> PlainTextResponse:
            """The token, and the id of its session, which the test revokes."""
            issued = await authority.issue(authority.schema.cls(user_id=request.query_params["user"], email="x"))
            return PlainTextResponse(f"{issued.token} {issued.session_id}")

        async def revoke(request: Request) -> PlainTextResponse:
            """Revoke the session or the user of the query, or all."""
            query = request.query_params
            if "session" in query:
                await authority.revoke(query["session"])
            elif "user" in query:
                await authority.revoke_user(query["user"])
            else:
                await authority.revoke_all()
            return PlainTextResponse("done")

        public = [Route(f"/{view.__name__}", view, methods=["POST"]) for view in (ready, log_in, revoke)]
        return Starlette(routes=[*public, Route("/me", Echo())])

    engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=2, max_overflow=0)
    bound, public = Revocation(max_staleness=timedelta(seconds=1)), ["/ready", "/log_in", "/revoke"]
    return Deployed(engine, app=routes, public=public, revocation=bound).app


@dataclass
class Two:
    """Two workers that know one session, and their database."""

    here: httpx.AsyncClient
    there: httpx.AsyncClient
    database: Any
    token: str = ""
    session_id: str = ""

    async def log_in(self, user: int) -> str:
        self.token, self.session_id = (await self.here.post(f"/log_in?user={user}")).text.split()
        return self.token

    async def revoke(self, query: str = "") -> None:
        (await self.here.post(f"/revoke?{query}")).raise_for_status()

    async def until_refused(self, worker: httpx.AsyncClient, token: str) -> list[int]:
        """Use the session until it is refused; the statuses."""
        statuses = [await status(worker, token)]
        while statuses[-1] == 200:
            await asyncio.sleep(0.01)
            statuses.append(await status(worker, token))
        return statuses


async def status(worker: httpx.AsyncClient, token: str) -> int:
    return (await worker.get("/me", headers={"authorization": f"Bearer {token}"})).status_code


@contextlib.contextmanager
def worker(url: str) -> Iterator[str]:
    """A process that serves :func:`app`; its base URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port, number = listener.getsockname()[1], listener.fileno()
        uvicorn = [sys.executable, "-m", "uvicorn", "--log-level", "warning", "--fd", str(number), "--factory"]
        environment = {**os.environ, "DATABASE_URL": url}
        settings: dict[str, Any] = {"cwd": ROOT, "env": environment, "stdin": subprocess.DEVNULL}
        process = subprocess.Popen([*uvicorn, "tests.faults.test_workers:app"], pass_fds=[number], **settings)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        end_process(process)


@pytest.fixture
async def two(postgres_url: str) -> AsyncIterator[Two]:
    async with engine_on(postgres_url) as engine:
        await SQLAlchemySessionStore(engine).create_all()
    database = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
    with worker(postgres_url) as here_url, worker(postgres_url) as there_url:
        async with (
            httpx.AsyncClient(base_url=here_url, timeout=LIMIT) as here,
            httpx.AsyncClient(base_url=there_url, timeout=LIMIT) as there,
        ):
            assert len({(await client.post("/ready")).text for client in (here, there)}) == 2
            yield Two(here, there, database)
    await database.close()


class TestWorkers:
    async def test_a_session_that_ends_anywhere_ends_in_every_worker(self, two: Two) -> None:
        sql = two.database.execute
        ends: dict[str, Callable[[], Awaitable[Any]]] = {
            "revoke": lambda: two.revoke(f"session={two.session_id}"),
            "revoke user": lambda: two.revoke("user=7"),
            "plain SQL": lambda: sql("UPDATE user_sessions SET is_active = false WHERE user_id = '7'"),
            "DELETE": lambda: sql("DELETE FROM user_sessions WHERE user_id = '7'"),
            "revoke all": two.revoke,
        }
        for how, end in ends.items():
            other, token = await two.log_in(8), await two.log_in(7)
            assert [await status(worker, token) for worker in (two.here, two.there)] == [200, 200]
            await end()
            if "revoke" in how:
                assert await status(two.here, token) == 401  # the worker that revoked refuses the next request
            async with asyncio.timeout(LIMIT):
                for statuses in await asyncio.gather(
                    *(two.until_refused(worker, token) for worker in (two.here, two.there))
                ):
                    assert statuses[-1] == 401
            assert await status(two.there, other) == (401 if how == "revoke all" else 200)

    async def test_no_worker_accepts_a_session_that_it_has_refused(self, two: Two) -> None:
        """Many sessions of one user are in use in both workers while all are revoked."""
        tokens = [await two.log_in(7) for _ in range(10)]
        started = [asyncio.Event() for _ in range(20)]

        async def use(worker: httpx.AsyncClient, token: str, accepted: asyncio.Event) -> list[int]:
            assert await status(worker, token) == 200
            accepted.set()
            statuses = await two.until_refused(worker, token)
            for _ in range(20):
                await asyncio.sleep(0.02)
                statuses.append(await status(worker, token))
            return statuses

        pairs = [(worker, token) for worker in (two.here, two.there) for token in tokens]
        uses = [asyncio.create_task(use(*pair, event)) for pair, event in zip(pairs, started, strict=True)]
        async with asyncio.timeout(LIMIT):
            for event in started:
                await event.wait()
            (await two.there.post("/revoke?user=7")).raise_for_status()
            for statuses in await asyncio.gather(*uses):
                assert set(statuses) <= {200, 401}
                assert statuses == sorted(statuses)
                assert statuses[-20:] == [401] * 20
