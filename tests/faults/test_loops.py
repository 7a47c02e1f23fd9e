"""Every kind of event loop, several in one process, and processes that were forked: each with its own engine."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
import uvloop
from sqlalchemy.ext.asyncio import create_async_engine

from jwt_middleware import (
    ConfigError,
    JWTSessionMiddleware,
    LookupLimits,
    Revocation,
    SQLAlchemyClaims,
    SQLAlchemySessionStore,
)
from jwt_middleware.testing import old_token
from tests.support.asgi import Echo, Sent, nothing, scope_of
from tests.support.world import Session, authority_of

users = sa.Table("users", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("email", sa.Text))
USERS = 20
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


@dataclass
class Service:
    """A process's, or a loop's, own engine, authority and app."""

    authority: Any
    inner: Echo
    app: Any
    engine: Any

    async def ask(self, token: str) -> int:
        sent = Sent()
        await self.app(scope_of(headers=[(b"authorization", b"Bearer " + token.encode())]), nothing, sent)
        return int(sent.messages[0]["status"])

    async def works(self, who: range = range(USERS)) -> None:
        """Old tokens of many at once, each filled; a cancelled one that harms nobody; a revocation that is seen."""
        old, sessions = [], []
        for user in who:
            issued = await self.authority.issue(Session(user_id=str(user), email="x"))
            sessions.append(issued)
            old.append(old_token(self.authority, {"userId": str(user)}, version=1, sid=issued.session_id))
        self.inner.scopes.clear()
        tasks = [asyncio.create_task(self.ask(token)) for token in old * 5]
        await asyncio.sleep(0)
        tasks[0].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(answers[0], asyncio.CancelledError)
        assert answers[1:] == [200] * (5 * USERS - 1)
        filled = {scope["state"]["session"].user_id: scope["state"]["session"].email for scope in self.inner.scopes}
        assert filled == {str(user): f"{user}@x.y" for user in who}
        assert await self.ask(sessions[1].token) == 200
        await self.authority.revoke(sessions[1].session_id)
        assert [await self.ask(token) for token in (sessions[1].token, old[1], sessions[2].token)] == [401, 401, 200]
        async with self.engine.begin() as connection:
            ending = sa.text("UPDATE user_sessions SET is_active = false WHERE user_id = :user")
            await connection.execute(ending, {"user": str(who[2])})
        async with asyncio.timeout(30):
            while await self.ask(sessions[2].token) != 401:
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        await self.authority.aclose()
        assert self.engine.pool.checkedout() == 0
        await self.engine.dispose()


def service(url: str) -> Service:
    engine = create_async_engine(url, pool_size=2, max_overflow=0)
    authority = authority_of(
        sources=[SQLAlchemyClaims(engine, users, key=users.c.id, columns={"email": users.c.email})],
        store=SQLAlchemySessionStore(engine),
        lookups=LookupLimits(timeout=timedelta(seconds=30)),  # a busy machine is not an outage
        revocation=Revocation(max_staleness=timedelta(milliseconds=300)),
    )
    inner = Echo()
    return Service(authority, inner, JWTSessionMiddleware(inner, authority=authority), engine)


@asynccontextmanager
async def served(url: str) -> AsyncIterator[Service]:
    each = service(url)
    try:
        yield each
    finally:
        await each.close()


async def work(url: str, who: range) -> None:
    async with served(url) as each:
        await each.works(who)


async def create(url: str) -> None:
    engine = create_async_engine(url)
    await SQLAlchemySessionStore(engine).create_all()
    async with engine.begin() as connection:
        await connection.run_sync(users.metadata.create_all)
        await connection.execute(sa.insert(users), [{"id": user, "email": f"{user}@x.y"} for user in range(4 * USERS)])
    await engine.dispose()


@pytest.fixture
def url(database_url: str) -> str:
    asyncio.run(create(database_url))
    return database_url


def run(kind: str, url: str, who: range = range(USERS)) -> None:
    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        runner.run(asyncio.wait_for(work(url, who), 60))


@pytest.mark.parametrize("kind", LOOPS)
def test_lookups_revocation_and_middleware_work_on_either_kind_of_loop(url: str, kind: str) -> None:
    for _ in range(2):  # and in one loop after the other
        run(kind, url)


def test_several_loops_of_one_process_work_at_once(url: str) -> None:
    failures: list[BaseException] = []

    def thread(kind: str, who: range) -> None:
        try:
            run(kind, url, who)
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=thread, args=(kind, range(number * USERS, (number + 1) * USERS)))
        for number, kind in enumerate([*LOOPS, *LOOPS])
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join(90)
    assert failures == []
    assert not any(each.is_alive() for each in threads)


def forked(child: Callable[[], None]) -> int:
    """The exit status of a forked process that runs that: 0 where nothing was raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns where threads live; servers do it too
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            child()
            status = 0
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        finally:
            os._exit(status)  # nothing of pytest's is ended there
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("kind", LOOPS)
def test_across_a_fork_the_child_has_its_own_engine_and_the_parent_goes_on(url: str, kind: str) -> None:
    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        parent = service(url)
        token = runner.run(parents_token(parent))
        unused = service(url)  # made before the fork, as an app that is loaded before its workers are

        def child() -> None:
            run(kind, url)
            with asyncio.Runner(loop_factory=LOOPS[kind]) as own:
                own.run(asyncio.wait_for(unused.works(), 60))
                own.run(unused.close())
                with pytest.raises(ConfigError, match="after a fork"):
                    own.run(parent.ask(token))

        assert forked(child) == 0
        assert runner.run(parent.ask(token)) == 200
        runner.run(parent.works())
        runner.run(parent.close())
        runner.run(unused.engine.dispose())


async def parents_token(parent: Service) -> str:
    token: str = (await parent.authority.issue(Session(user_id="7", email="x"))).token
    assert await parent.ask(token) == 200
    return token
