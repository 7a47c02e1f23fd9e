"""Which connections are probed, when, and how often; live ones stay, and the probe opens none and leaves nothing."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import weakref
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from textwrap import dedent
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from jwt_middleware.errors import Unavailable
from jwt_middleware.sqlalchemy import pool_probe
from jwt_middleware.sqlalchemy.database import Database
from jwt_middleware.sqlalchemy.pool_probe import PoolProbe
from tests.support.databases import LIMIT, backends, engine_on, until
from tests.support.processes import ROOT
from tests.support.proxy import Proxy, proxied

POOL = 8
taker: contextvars.ContextVar[str] = contextvars.ContextVar("taker", default="probe")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe starts soon. A live connection has as long as it needs to reply."""
    monkeypatch.setattr(pool_probe, "SLOW", 0.05)
    monkeypatch.setattr(pool_probe, "REPLY_TIMEOUT", float(LIMIT))
    monkeypatch.setattr(pool_probe, "INTERVAL", float(LIMIT))


@pytest.fixture
def _dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead connection is closed soon, and the next probe may follow at once."""
    monkeypatch.setattr(pool_probe, "REPLY_TIMEOUT", 0.5)
    monkeypatch.setattr(pool_probe, "INTERVAL", 0.0)


@dataclass
class Pooled:
    """An engine behind a proxy; the connections that were taken from its pool, by taker, and those that were opened."""

    proxy: Proxy
    engine: AsyncEngine
    taken: list[str] = field(default_factory=list)
    opened: list[object] = field(default_factory=list)

    async def warm(self) -> set[int]:
        pids = await backends(self.engine, POOL)
        self.taken.clear()
        self.opened.clear()
        return pids

    async def query(self, seconds: float = 0.0) -> None:
        async with Database(self.engine).begin() as connection:
            await connection.execute(sa.text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})

    async def fail(self) -> None:
        """A query that ends without a reply."""
        with pytest.raises(Unavailable):
            async with Database(self.engine).begin(0.2) as connection:
                await connection.execute(sa.text("SELECT 1"))


@asynccontextmanager
async def pooled(url: str, **settings: Any) -> AsyncIterator[Pooled]:
    async with (
        asyncio.timeout(LIMIT),
        proxied(url) as (proxy, through),
        engine_on(through, **{"pool_size": POOL, "max_overflow": 0, **settings}) as engine,
    ):
        under_test = Pooled(proxy, engine)
        sa.event.listen(engine.sync_engine, "checkout", lambda *_: under_test.taken.append(taker.get()))
        sa.event.listen(engine.sync_engine, "connect", lambda *_: under_test.opened.append(1))
        yield under_test
        assert probe_tasks() == []
        proxy.repair()


def probe_tasks() -> list[str]:
    coroutines = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    return [name for name in coroutines if name.startswith("PoolProbe.")]


class TestPoolProbe:
    async def test_a_slow_query_probes_the_idle_connections_once(self, postgres_url: str) -> None:
        async with pooled(postgres_url) as under_test:
            before = await under_test.warm()
            taker.set("request")
            async with Database(under_test.engine).begin():
                await until(lambda: len(under_test.taken) == POOL)
            assert under_test.taken == ["request", *["probe"] * (POOL - 1)]
            for _ in range(2):
                await under_test.query(0.1)
            assert under_test.taken[POOL:] == ["request"] * 2
            assert await under_test.warm() == before

    @pytest.mark.usefixtures("_dead")
    async def test_two_databases_on_one_engine_share_its_probe(self, postgres_url: str) -> None:
        """Also after the interval, because the first probe still runs."""
        async with pooled(postgres_url) as under_test:
            await under_test.warm()
            under_test.proxy.set("half-open")
            await asyncio.gather(under_test.fail(), under_test.fail())
            assert len(under_test.taken) == POOL

    async def test_a_cancelled_query_starts_no_probe(self, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pool_probe, "SLOW", 1_234.0)
        loop, timers = asyncio.get_running_loop(), list[asyncio.TimerHandle]()

        def call_later(delay: float, *args: Any, **settings: Any) -> asyncio.TimerHandle:
            timer = type(loop).call_later(loop, delay, *args, **settings)
            if delay == pool_probe.SLOW:
                timers.append(timer)
            return timer

        async with pooled(postgres_url) as under_test:
            await under_test.warm()
            monkeypatch.setattr(loop, "call_later", call_later)
            task = asyncio.create_task(under_test.query(LIMIT))
            await until(lambda: under_test.taken)
            await asyncio.sleep(0.1)  # the query is on its way to the server
            assert [timer.cancelled() for timer in timers] == [False]
            task.cancel()
            await asyncio.wait([task])
            assert [timer.cancelled() for timer in timers] == [True]
            assert len(under_test.taken) == 1

    @pytest.mark.usefixtures("_dead")
    @pytest.mark.parametrize("pre_ping", [False, True])
    async def test_dead_connections_are_closed_and_not_replaced(self, postgres_url: str, pre_ping: bool) -> None:
        """The second probe opens none either: it finds empty places in the pool."""
        async with pooled(postgres_url, pool_pre_ping=pre_ping) as under_test:
            before = await under_test.warm()
            under_test.proxy.set("half-open")
            for _ in range(2):
                await under_test.fail()
                await until(lambda: not under_test.proxy.links)
            assert under_test.opened == []
            under_test.proxy.repair()
            await under_test.query()
            assert not before & await under_test.warm()

    async def test_a_connection_that_a_request_takes_first_is_not_probed(self, postgres_url: str) -> None:
        """And none is opened in its place, although the pool may overflow."""
        async with pooled(postgres_url, max_overflow=POOL) as under_test:
            before = await under_test.warm()
            taker.set("request")
            [task] = PoolProbe.of(under_test.engine)._start()
            async with AsyncExitStack() as stack:
                for _ in range(3):
                    await stack.enter_async_context(under_test.engine.connect())
                await task
            assert under_test.taken == ["request"] * 3 + ["probe"] * (POOL - 3)
            assert under_test.opened == []
            assert await under_test.warm() == before

    async def test_only_pools_of_asyncpg_are_probed(self, postgres_url: str, sqlite_url: str) -> None:
        for url, settings in ((postgres_url, {"poolclass": NullPool}), (sqlite_url, {})):
            async with engine_on(url, **settings) as engine, Database(engine).begin() as connection:
                await connection.execute(sa.text("SELECT 1"))
                await asyncio.sleep(0.1)  # as a slow query
                assert PoolProbe.of(engine)._start() == []

    def test_an_engine_has_one_probe_and_is_freed_with_it(self) -> None:
        engine = create_async_engine("postgresql+asyncpg://nowhere/nothing")
        database = Database(engine)
        assert PoolProbe.of(engine) is database._probe is Database(engine)._probe
        assert PoolProbe.of(engine.execution_options(isolation_level="AUTOCOMMIT")) is database._probe
        gone = weakref.ref(engine.sync_engine)
        del engine, database
        gc.collect()
        assert gone() is None

    async def test_an_event_loop_that_ends_during_a_probe_leaves_nothing(self, postgres_url: str) -> None:
        script = """
            import asyncio, sys
            from sqlalchemy.ext.asyncio import create_async_engine
            from jwt_middleware.sqlalchemy import pool_probe
            from tests.support.databases import LIMIT, checked_out, until
            from tests.sqlalchemy.test_pool_probe import POOL, Pooled, probe_tasks

            pool_probe.SLOW, pool_probe.REPLY_TIMEOUT = 0.05, LIMIT
            engine = create_async_engine(sys.argv[1], pool_size=POOL)


            async def main():
                under_test = Pooled(None, engine)
                await under_test.warm()
                print("warm", flush=True)
                sys.stdin.readline()
                query = asyncio.create_task(under_test.query())
                await until(lambda: checked_out(engine) == POOL)
                print("leaves with", len(probe_tasks()) - 1, "of", checked_out(engine))


            asyncio.run(main())
            print("ends with", checked_out(engine), flush=True)
        """
        async with asyncio.timeout(LIMIT), proxied(postgres_url) as (proxy, through):
            command = [sys.executable, "-W", "error", "-c", dedent(script), through]
            child = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=PIPE)
            assert child.stdout is not None
            assert await child.stdout.readline() == b"warm\n"
            proxy.set("half-open")
            out, err = await child.communicate(b"go\n")
            assert (err, child.returncode) == (b"", 0)
            assert out.decode() == f"leaves with {POOL - 1} of {POOL}\nends with 0\n"
