"""Each store there is, as the parameter of a test."""

from __future__ import annotations

import pytest


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
