"""A session that one worker process revoked, or an operator's SQL, is over in every other within the bound."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from jwt_middleware import SQLAlchemySessionStore

ROOT = Path(__file__).parents[2]
BOUND = 1.0
"""`max_staleness` of `tests.support.service`, which this process cannot import: it wants a database at once."""
SLACK = 5.0
"""Seconds that a busy machine may add to what is promised."""

End = Callable[["Two"], Awaitable[Any]]


class Two:
    """A session that both workers know, and hands to end it with."""

    def __init__(self, here: httpx.AsyncClient, there: httpx.AsyncClient, database: Any, token: str, sid: str) -> None:
        self.here = here
        self.there = there
        self.database = database
        self.token = token
        self.sid = sid

    async def post(self, path: str) -> None:
        (await self.here.post(path)).raise_for_status()

    async def status(self, worker: httpx.AsyncClient) -> int:
        return (await worker.get("/me", headers={"authorization": f"Bearer {self.token}"})).status_code

    async def until_refused(self, worker: httpx.AsyncClient) -> float:
        """Seconds; the session is used all the time, and nothing but 200 and 401 is answered."""
        began = time.monotonic()
        while (status := await self.status(worker)) != 401:
            assert status == 200
            await asyncio.sleep(0.01)
        return time.monotonic() - began


@contextlib.contextmanager
def worker(url: str) -> Iterator[str]:
    """A process of `tests.support.service`; its base URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port, number = listener.getsockname()[1], listener.fileno()
        command = [
            sys.executable,
            "-m",
            "uvicorn",
            "--log-level",
            "warning",
            "--fd",
            str(number),
            "tests.support.service:app",
        ]
        process = subprocess.Popen(
            command, cwd=ROOT, pass_fds=[number], env={**os.environ, "DATABASE_URL": url}, stdin=subprocess.DEVNULL
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def workers(postgres_url: str) -> Iterator[tuple[str, str, str]]:
    """Two of them on one database, and its URL."""

    async def create() -> None:
        engine = create_async_engine(postgres_url)
        await SQLAlchemySessionStore(engine).create_all()
        await engine.dispose()

    asyncio.run(create())
    with worker(postgres_url) as here, worker(postgres_url) as there:
        yield here, there, postgres_url


ENDS: dict[str, End] = {
    "revoke": lambda two: two.post(f"/revoke?session={two.sid}"),
    "revoke user": lambda two: two.post("/revoke?user=7"),
    "plain SQL": lambda two: two.database.execute("UPDATE user_sessions SET is_active = false WHERE user_id = '7'"),
    "DELETE": lambda two: two.database.execute("DELETE FROM user_sessions WHERE user_id = '7'"),
    "revoke all": lambda two: two.post("/revoke"),
}


def test_a_session_that_ends_anywhere_ends_everywhere_within_the_bound(workers: tuple[str, str, str]) -> None:
    async def main() -> None:
        here_url, there_url, database_url = workers
        database = await asyncpg.connect(database_url.replace("+asyncpg", ""))
        async with httpx.AsyncClient(base_url=here_url) as here, httpx.AsyncClient(base_url=there_url) as there:
            async with asyncio.timeout(60):
                processes = {(await client.get("/ready")).text for client in (here, there)}
            assert len(processes) == 2
            delays = {}
            for how, end in ENDS.items():
                token, sid = (await here.post("/login?user=7")).text.split()
                other = (await there.post("/login?user=8")).text.split()[0]
                two = Two(here, there, database, token, sid)
                assert [await two.status(each) for each in (here, there)] == [200, 200]
                await end(two)
                if "revoke" in how:
                    assert await two.status(here) == 401  # where it was revoked the next request sees it
                delays[how] = await asyncio.gather(two.until_refused(here), two.until_refused(there))
                bystander = await there.get("/me", headers={"authorization": f"Bearer {other}"})
                assert bystander.status_code == (401 if how == "revoke all" else 200)
            await database.close()
        assert all(max(delay) < BOUND + SLACK for delay in delays.values()), delays

    asyncio.run(asyncio.wait_for(main(), 120))


def test_every_use_of_a_session_while_others_revoke_it_is_before_or_after(workers: tuple[str, str, str]) -> None:
    """Many sessions of one user are in use in both workers while all are revoked: none is accepted once refused."""

    async def main() -> None:
        here_url, there_url, _ = workers
        async with httpx.AsyncClient(base_url=here_url) as here, httpx.AsyncClient(base_url=there_url) as there:
            async with asyncio.timeout(60):
                for client in (here, there):
                    await client.get("/ready")
            tokens = [(await here.post("/login?user=7")).text.split()[0] for _ in range(10)]

            async def use(worker: httpx.AsyncClient, token: str) -> list[int]:
                seen = list[int]()
                until = time.monotonic() + 2 * BOUND
                while time.monotonic() < until or seen[-1] != 401:
                    answer = await worker.get("/me", headers={"authorization": f"Bearer {token}"})
                    seen.append(answer.status_code)
                    await asyncio.sleep(0.02)
                return seen

            uses = [asyncio.create_task(use(worker, token)) for worker in (here, there) for token in tokens]
            await asyncio.sleep(BOUND / 2)
            (await there.post("/revoke?user=7")).raise_for_status()
            for seen in await asyncio.gather(*uses):
                assert set(seen) == {200, 401}
                assert sorted(seen) == seen

    asyncio.run(asyncio.wait_for(main(), 120))
