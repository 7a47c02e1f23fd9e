"""What every test may ask for: a database of its own on either engine; what a test set up globally is undone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.support.postgres import cluster, fresh_database


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL (`postgresql://`) of a server for the whole run; fails, and never skips, where there is none."""
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


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    fixtures = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}
    found: str = request.getfixturevalue(fixtures[request.param]) if request.param in fixtures else "memory"
    return found


@pytest.fixture(params=["memory", "sqlite"])
def clocked_url(request: pytest.FixtureRequest) -> str:
    """The stores whose clock can be moved; PostgreSQL has its own."""
    found: str = request.getfixturevalue("sqlite_url") if request.param == "sqlite" else "memory"
    return found
