"""A process that ends while a query it gave up is still in the database ends nevertheless."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import asyncio, sqlite3, sys
from datetime import timedelta
from sqlalchemy.ext.asyncio import create_async_engine
from jwt_middleware import LookupLimits, SQLAlchemyClaims, SQLAlchemySessionStore
from jwt_middleware.testing import old_token
from tests.faults.test_cancelling import users
from tests.support.world import Session, authority_of

path, what, closes, disposes = sys.argv[1], sys.argv[2], "close" in sys.argv, "dispose" in sys.argv


async def main():
    engine = create_async_engine("sqlite+aiosqlite:///" + path, connect_args={"timeout": 1.0})
    async with engine.begin() as connection:
        await connection.run_sync(users.metadata.create_all)
    store = SQLAlchemySessionStore(engine)
    await store.create_all()
    authority = authority_of(
        sources=[SQLAlchemyClaims(engine, users, key=users.c.id, columns={"email": users.c.email})],
        store=store if what == "sessions" else None,
        lookups=LookupLimits(timeout=timedelta(milliseconds=100)),
    )
    issued = await authority.issue(Session(user_id="7", email="x"))
    token = issued.token if what == "sessions" else old_token(authority, {"userId": "7"}, version=1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    outcome = await authority.authenticate([(b"authorization", b"Bearer " + token.encode())])
    print(outcome.reason.value if outcome.reason else outcome.fallback.outcome.value)
    if closes:
        await authority.aclose()
    print("leaves with", engine.pool.checkedout())
    if disposes:
        await engine.dispose()


asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("what", "how"),
    [("claims", []), ("claims", ["dispose"]), ("claims", ["close", "dispose"]), ("sessions", ["close", "dispose"])],
)
def test_a_loop_that_ends_before_a_query_that_was_given_up_does_not_hang(
    tmp_path: Path, what: str, how: list[str]
) -> None:
    """Where the authority is closed its connections are back before the engine goes."""
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path / "test.db"), what, *how]
    ended = subprocess.run(command, cwd=ROOT, timeout=60, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ("timeout" if what == "claims" else "sessions_unavailable") in ended.stdout
    assert f"leaves with {0 if 'close' in how else 1}" in ended.stdout
    if "close" in how:
        assert ended.stderr == ""
