"""Fixtures of several modules: nine days of the happy scenario, and promtool's reports on the cases of alerts."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.dashboards.simulations import Simulated, simulated
from tests.support.promtool import cases_of, reports


@pytest.fixture(scope="session")
def happy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulated]:
    with simulated(["happy"], tmp_path_factory.mktemp("happy")) as served:
        yield served


@pytest.fixture(scope="module")
def reported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """promtool's report on each case of the module; two runs at once."""
    listed = cases_of(request.module)
    with ThreadPoolExecutor() as pool:
        halves = pool.map(lambda half: reports(half, tmp_path_factory.mktemp("cases")), (listed[::2], listed[1::2]))
        return {job: report for half in halves for job, report in half.items()}
