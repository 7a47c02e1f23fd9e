"""What takes a while and serves several modules: nine days in a real Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dashboards.histories.happy import Seen, seen


@pytest.fixture(scope="session")
def happy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    with seen(tmp_path_factory.mktemp("happy")) as everything:
        yield everything
