"""Each kind of event loop, several in one process, and forked processes: each with an engine of its own."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import warnings
from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa
import uvloop
from sqlalchemy.ext.asyncio import create_async_engine

from jwt_middleware import ConfigError, Revocation
from jwt_middleware.sqlalchemy import SQLAlchemySessionStore
from tests.support.databases import LIMIT, Deployed, checked_out, database, until
from tests.support.world import Session

USERS = 20
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


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


def fork(child: Callable[[], None]) -> int:
    """Call that in a forked process; its exit status, 0 if nothing was raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns if there are threads; servers do it too
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            child()
            status = 0
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        finally:
            os._exit(status)  # without ending what belongs to pytest
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


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

        assert fork(child) == 0
        assert runner.run(parent.status(token)) == 200
        runner.run(parent.check())
        runner.run(parent.close())
        runner.run(unused.engine.dispose())
