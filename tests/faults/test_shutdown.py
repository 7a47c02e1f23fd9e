"""A process ends although a query that timed out is still in the database."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.databases import LIMIT

ROOT = Path(__file__).parents[2]
SCRIPT = """
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


@pytest.mark.parametrize(
    ("what", "how"),
    [("claims", []), ("claims", ["dispose"]), ("claims", ["close", "dispose"]), ("sessions", ["close", "dispose"])],
)
def test_an_event_loop_that_ends_before_a_query_does_not_hang(tmp_path: Path, what: str, how: list[str]) -> None:
    """If the authority is closed, its connections are back before the engine is disposed of."""
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path / "test.db"), what, *how]
    ended = subprocess.run(command, cwd=ROOT, timeout=LIMIT, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ("timeout" if what == "claims" else "sessions_unavailable") in ended.stdout
    assert f"leaves with {0 if 'close' in how else 1}" in ended.stdout
    if "close" in how:
        assert ended.stderr == ""
