"""Fixtures for all tests: databases on either engine, a reset of global state, and the mark of tests with servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from jwt_middleware import SessionStore
from jwt_middleware.sqlalchemy import SQLAlchemySessionStore
from tests.support.databases import engine_on
from tests.support.postgres import cluster, fresh_database
from tests.support.stores import opened
from tests.support.world import FakeClock

SERVERS = frozenset({"postgres_server", "postgresql", "postgres_url", "happy", "browser", "wheel"})
"""Fixtures that start a server or build the package, and parameters that choose such a fixture."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use one of :data:`SERVERS`; other tests with servers mark themselves."""
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        names = {*getattr(item, "fixturenames", ()), *(value for value in parameters if isinstance(value, str))}
        if not SERVERS.isdisjoint(names):
            item.add_marker(pytest.mark.server)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL (`postgresql://`) of a server for the whole run; an error, and not a skip, if there is none."""
    with cluster() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """`postgresql+asyncpg://…` of a fresh, empty database, dropped after the test."""
    with fresh_database(postgres_server) as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """`sqlite+aiosqlite://…` of a file of the test's own."""
    return f"sqlite+aiosqlite:///{tmp_path / 'test.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The test runs twice: on SQLite and on PostgreSQL, each with an empty database."""
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return url


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Coroutines among the tests run on asyncio, each in an event loop of its own."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _structlog_as_it_was() -> Iterator[None]:
    """A test that configures structlog configures it for itself."""
    yield
    structlog.reset_defaults()


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine on :func:`database_url`."""
    async with engine_on(database_url) as made:
        yield made


@pytest.fixture
async def sql_store(engine: AsyncEngine) -> SQLAlchemySessionStore:
    """The store of that engine, with its tables."""
    store = SQLAlchemySessionStore(engine)
    await store.create_all()
    return store


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["memory", "sqlite_url", "postgres_url"])
def url(request: pytest.FixtureRequest) -> str:
    return "memory" if request.param == "memory" else str(request.getfixturevalue(request.param))


@pytest.fixture
async def store(url: str) -> AsyncIterator[SessionStore]:
    """The test runs three times: on each session store there is."""
    async with opened(url) as made:
        yield made


@pytest.fixture(params=["memory", "sqlite_url"])
async def clocked_store(request: pytest.FixtureRequest, clock: FakeClock) -> AsyncIterator[SessionStore]:
    """Each store whose clock can be moved; PostgreSQL has its own."""
    at = "memory" if request.param == "memory" else request.getfixturevalue(request.param)
    async with opened(at, clock) as made:
        yield made
