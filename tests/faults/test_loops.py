"""Each kind of event loop, several in one process, forked processes, and a loop that ends before a query does."""

from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import sqlalchemy as sa
import uvloop
from sqlalchemy.ext.asyncio import create_async_engine

from jwt_middleware import ConfigError, Revocation
from jwt_middleware.sqlalchemy import SQLAlchemySessionStore
from tests.support.databases import LIMIT, Deployed, checked_out, database, until
from tests.support.processes import ROOT
from tests.support.world import Session

USERS = 20
LOOPS: dict[str, Any] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Service(Deployed):
    """The deployment of one process or event loop, with its own engine."""

    def __init__(self, url: str) -> None:
        engine = create_async_engine(url, pool_size=2, max_overflow=0)
        super().__init__(engine, revocation=Revocation(max_staleness=timedelta(milliseconds=300)))

    async def check(self, users: range = range(USERS)) -> None:
        """Old tokens of many users at once are filled; a cancelled request affects no other; revocations are seen."""
        sessions = [await self.authority.issue(Session(user_id=str(user), email="x")) for user in users]
        old = [
            await self.old({"userId": str(user)}, sid=at.session_id) for user, at in zip(users, sessions, strict=True)
        ]
        self.echo.scopes.clear()
        tasks = [asyncio.create_task(self.status(token)) for token in old * 5]
        await asyncio.sleep(0)
        tasks[0].cancel()
        statuses = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(statuses[0], asyncio.CancelledError)
        assert statuses[1:] == [200] * (5 * USERS - 1)
        filled = {scope["state"]["session"].user_id: scope["state"]["session"].email for scope in self.echo.scopes}
        assert filled == {str(user): f"{user}@x.y" for user in users}
        revoked, ended = sessions[1], sessions[2]
        assert await self.status(revoked.token) == 200
        await self.authority.revoke(revoked.session_id)
        assert [await self.status(token) for token in (revoked.token, old[1], ended.token)] == [401, 401, 200]
        async with self.engine.begin() as connection:
            ending = sa.text("UPDATE user_sessions SET is_active = false WHERE user_id = :user")
            await connection.execute(ending, {"user": str(users[2])})

        async def refused() -> bool:
            return await self.status(ended.token) == 401

        await until(refused)

    async def close(self) -> None:
        await self.authority.aclose()
        assert checked_out(self.engine) == 0
        await self.engine.dispose()


@pytest.fixture
def filled_url(database_url: str) -> str:
    async def create() -> None:
        async with database(database_url, {user: f"{user}@x.y" for user in range(4 * USERS)}) as engine:
            await SQLAlchemySessionStore(engine).create_all()

    asyncio.run(create())
    return database_url


def run(kind: str, url: str, users: range = range(USERS)) -> None:
    async def work() -> None:
        service = Service(url)
        try:
            async with asyncio.timeout(LIMIT):
                await service.check(users)
        finally:
            await service.close()

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        runner.run(work())


@pytest.mark.parametrize("kind", LOOPS)
def test_lookups_and_revocation_work_on_each_kind_of_loop(filled_url: str, kind: str) -> None:
    for _ in range(2):  # and in one loop after the other
        run(kind, filled_url)


def test_several_loops_of_one_process_work_at_once(filled_url: str) -> None:
    failures: list[BaseException] = []

    def work(kind: str, users: range) -> None:
        try:
            run(kind, filled_url, users)
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=work, args=(kind, range(number * USERS, (number + 1) * USERS)))
        for number, kind in enumerate([*LOOPS, *LOOPS])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * LIMIT)
    assert failures == []
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # if there are threads; servers fork too
@pytest.mark.parametrize("kind", LOOPS)
def test_a_forked_child_has_its_own_engine_and_the_parent_goes_on(filled_url: str, kind: str) -> None:
    async def issued(service: Service) -> str:
        token, _ = await service.log_in("7", email="x")
        assert await service.status(token) == 200
        return token

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        parent = Service(filled_url)
        token = runner.run(issued(parent))
        unused = Service(filled_url)  # made before the fork, as by a server that loads the app before its workers

        def child() -> None:
            run(kind, filled_url)
            with asyncio.Runner(loop_factory=LOOPS[kind]) as own:
                own.run(unused.check())
                own.run(unused.close())
                with pytest.raises(ConfigError, match="after a fork"):
                    own.run(parent.status(token))

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join()
        assert process.exitcode == 0
        assert runner.run(parent.status(token)) == 200
        runner.run(parent.check())
        runner.run(parent.close())
        runner.run(unused.engine.dispose())


@pytest.mark.parametrize(
    ("what", "how"),
    [("claims", []), ("claims", ["dispose"]), ("claims", ["close", "dispose"]), ("sessions", ["close", "dispose"])],
)
def test_an_event_loop_that_ends_before_a_query_does_not_hang(tmp_path: Path, what: str, how: list[str]) -> None:
    """If the authority is closed, its connections are back before the engine is disposed of."""
    script = """
        import asyncio, sqlite3, sys, threading
        from datetime import timedelta
        from jwt_middleware import LookupLimits
        from jwt_middleware.sqlalchemy import SQLAlchemySessionStore
        from sqlalchemy.ext.asyncio import create_async_engine
        from tests.support.databases import Deployed, users

        path, what, closes, disposes = sys.argv[1], sys.argv[2], "close" in sys.argv, "dispose" in sys.argv


        async def main():
            engine = create_async_engine("sqlite+aiosqlite:///" + path, connect_args={"timeout": 60.0})
            async with engine.begin() as connection:
                await connection.run_sync(users.metadata.create_all)
            await SQLAlchemySessionStore(engine).create_all()
            store = {} if what == "sessions" else {"store": None}
            world = Deployed(engine, lookups=LookupLimits(timeout=timedelta(milliseconds=100)), **store)
            token = (await world.log_in("7", email="x"))[0] if what == "sessions" else await world.old({"userId": "7"})
            other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            other.execute("BEGIN EXCLUSIVE")
            unlocking = threading.Timer(0.5, other.rollback)
            outcome = await world.authority.authenticate([(b"authorization", b"Bearer " + token.encode())])
            print(outcome.reason.value if outcome.reason else outcome.fallback.outcome.value)
            if closes:
                unlocking.start()
                await world.authority.aclose()
            print("leaves with", engine.pool.checkedout())
            if not closes:
                unlocking.start()
            if disposes:
                await engine.dispose()


        asyncio.run(main())
    """
    command = [sys.executable, "-W", "error", "-c", dedent(script), str(tmp_path / "test.db"), what, *how]
    ended = subprocess.run(command, cwd=ROOT, timeout=LIMIT, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ("timeout" if what == "claims" else "sessions_unavailable") in ended.stdout
    assert f"leaves with {0 if 'close' in how else 1}" in ended.stdout
    if "close" in how:
        assert ended.stderr == ""
