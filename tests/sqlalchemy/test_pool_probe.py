"""Who is asked, when, and how often; connections that live stay what they were, and nothing is opened or left."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import weakref
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from jwt_middleware.errors import Unavailable
from jwt_middleware.sqlalchemy import pool_probe as weeding
from jwt_middleware.sqlalchemy.database import Database
from jwt_middleware.sqlalchemy.pool_probe import probe_of
from tests.support.databases import checked_out
from tests.support.proxy import Proxy, proxied

ROOT = Path(__file__).parents[2]
POOL = 8
mine: contextvars.ContextVar[str] = contextvars.ContextVar("mine", default="nobody's")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weeding, "SUSPICIOUS", 0.05)
    monkeypatch.setattr(weeding, "PATIENCE", 0.5)


@dataclass
class Pooled:
    """An engine behind a proxy, whose pool is full, and what was taken out of it and whose that was."""

    proxy: Proxy
    engine: AsyncEngine
    database: Database
    taken: list[str] = field(default_factory=list)
    opened: list[object] = field(default_factory=list)

    async def warm(self) -> set[int]:
        """The server's processes behind all its connections."""
        async with AsyncExitStack() as all_of_them:
            connections = [await all_of_them.enter_async_context(self.engine.connect()) for _ in range(POOL)]
            found = {(await each.execute(sa.text("SELECT pg_backend_pid()"))).scalar_one() for each in connections}
        self.taken.clear()
        self.opened.clear()
        return found

    async def slow(self, seconds: float = 0.3) -> None:
        async with self.database.begin() as connection:
            await connection.execute(sa.text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})

    async def silent(self) -> None:
        """A query that is given up in the middle of an outage."""
        with pytest.raises(Unavailable):
            async with self.database.begin(0.2) as connection:
                await connection.execute(sa.text("SELECT 1"))


@asynccontextmanager
async def pooled(url: str, **settings: Any) -> AsyncIterator[Pooled]:
    async with proxied(url) as (proxy, through):
        engine = create_async_engine(through, **{"pool_size": POOL, "max_overflow": 0, **settings})
        under_test = Pooled(proxy, engine, Database(engine))
        sa.event.listen(engine.sync_engine, "checkout", lambda *_: under_test.taken.append(mine.get()))
        sa.event.listen(engine.sync_engine, "connect", lambda *_: under_test.opened.append(1))
        try:
            yield under_test
            assert checked_out(engine) == 0
            assert at_work() == []
        finally:
            proxy.mend()
            await engine.dispose()


def at_work() -> list[str]:
    """Tasks that weed."""
    coroutines = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    return [name for name in coroutines if name.startswith("PoolProbe.")]


def run(test: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


def test_a_slow_query_has_the_idle_asked_once_and_each_is_the_one_it_was(postgres_url: str) -> None:
    async def main() -> None:
        async with pooled(postgres_url) as under_test:
            before = await under_test.warm()
            mine.set("the request's")
            for _ in range(3):
                await under_test.slow()
            assert under_test.taken == ["the request's", *["nobody's"] * (POOL - 1), "the request's", "the request's"]
            assert await under_test.warm() == before

    run(main)


def test_two_users_of_one_engine_have_it_weeded_once(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the interval is over: the first weeding is still at it."""
    monkeypatch.setattr(weeding, "EVERY", 0.0)

    async def main() -> None:
        async with pooled(postgres_url) as under_test:
            await under_test.warm()
            under_test.proxy.set("half-open")
            other = Pooled(under_test.proxy, under_test.engine, Database(under_test.engine))
            await asyncio.gather(under_test.silent(), other.silent())
            assert len(under_test.taken) == POOL

    run(main)


def test_a_request_that_leaves_is_no_suspicion(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weeding, "SUSPICIOUS", 1.0)

    async def main() -> None:
        async with pooled(postgres_url) as under_test:
            await under_test.warm()
            task = asyncio.create_task(under_test.slow(30))
            while not under_test.taken:
                await asyncio.sleep(0)
            await asyncio.sleep(0.1)  # it has left for the server
            task.cancel()
            await asyncio.wait([task])
            await asyncio.sleep(1.2)
            assert len(under_test.taken) == 1

    run(main)


@pytest.mark.parametrize("pre_ping", [False, True])
def test_all_that_are_silent_are_closed_and_none_is_opened_for_them(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, pre_ping: bool
) -> None:
    """Not by the next weeding either, which finds the places of the pool empty."""
    monkeypatch.setattr(weeding, "EVERY", 0.0)

    async def main() -> None:
        async with pooled(postgres_url, pool_pre_ping=pre_ping) as under_test:
            before = await under_test.warm()
            under_test.proxy.set("half-open")
            for _ in range(2):
                await under_test.silent()
                while under_test.proxy.links:
                    await asyncio.sleep(0.01)
            assert under_test.opened == []
            under_test.proxy.mend()
            await under_test.slow(0.0)
            assert not before & await under_test.warm()

    run(main)


def test_a_connection_that_somebody_takes_first_is_his(postgres_url: str) -> None:
    """And none is opened in its place, though the pool could overflow."""

    async def main() -> None:
        async with pooled(postgres_url, max_overflow=POOL) as under_test:
            before = await under_test.warm()
            mine.set("the request's")
            [task] = probe_of(under_test.engine)._begin()
            async with AsyncExitStack() as taken:
                for _ in range(3):
                    await taken.enter_async_context(under_test.engine.connect())
                await task
            assert under_test.taken == ["the request's"] * 3 + ["nobody's"] * (POOL - 3)
            assert under_test.opened == []
            assert await under_test.warm() == before

    run(main)


def test_pools_that_keep_nothing_and_databases_without_a_network_are_not_weeded(
    postgres_url: str, sqlite_url: str
) -> None:
    async def main() -> None:
        for url, settings in ((postgres_url, {"poolclass": NullPool}), (sqlite_url, {})):
            engine = create_async_engine(url, **settings)
            async with Database(engine).begin() as connection:
                await connection.execute(sa.text("SELECT 1"))
                await asyncio.sleep(0.1)
                assert probe_of(engine)._begin() == []
            await engine.dispose()

    run(main)


def test_an_engine_nobody_uses_any_more_is_let_go() -> None:
    engine = create_async_engine("postgresql+asyncpg://nobody@nowhere/x")
    database = Database(engine)
    assert probe_of(engine) is database._weeder is Database(engine)._weeder
    gone = weakref.ref(engine.sync_engine)
    del engine, database
    gc.collect()
    assert gone() is None


SCRIPT = """
import asyncio, sys
from sqlalchemy.ext.asyncio import create_async_engine
from jwt_middleware.sqlalchemy import pool_probe as weeding
from jwt_middleware.sqlalchemy.database import Database
from tests.sqlalchemy.test_pool_probe import POOL, Pooled, at_work

weeding.SUSPICIOUS = 0.05
engine = create_async_engine(sys.argv[1], pool_size=POOL)


async def main():
    under_test = Pooled(None, engine, Database(engine))
    await under_test.warm()
    print("warm", flush=True)
    sys.stdin.readline()
    query = asyncio.create_task(under_test.slow(0.0))
    while not at_work():
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    print("leaves with", len(at_work()) - 1, "of", engine.pool.checkedout())


asyncio.run(main())
print("ends with", engine.pool.checkedout(), flush=True)
"""


def test_a_loop_that_ends_in_the_middle_leaves_nothing_behind(postgres_url: str) -> None:
    async def main() -> None:
        async with proxied(postgres_url) as (proxy, through):
            command = [sys.executable, "-W", "error", "-c", SCRIPT, through]
            child = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=PIPE)
            assert child.stdout is not None
            assert await child.stdout.readline() == b"warm\n"
            proxy.set("half-open")
            out, err = await child.communicate(b"go\n")
            assert (err, child.returncode) == (b"", 0)
            assert out.decode() == f"leaves with {POOL - 1} of {POOL}\nends with 0\n"

    run(main)
