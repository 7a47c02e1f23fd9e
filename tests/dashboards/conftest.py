"""Nine days of the happy scenario, for several modules."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dashboards.simulations import Simulated, simulated


@pytest.fixture(scope="session")
def happy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulated]:
    with simulated(["happy"], tmp_path_factory.mktemp("happy")) as served:
        yield served
