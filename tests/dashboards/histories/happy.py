"""Nine days of the happy scenario, and a Prometheus that has them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dashboards.loading import record
from dashboards.prometheus import Server, prometheus
from tests.dashboards.histories.telling import Told, tell


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A history, and who tells about it."""

    told: Told
    server: Server

    def value(self, expr: str, hours: float) -> float:
        [series] = self.server.instant(expr, self.told.moment(hours))
        return float(series["value"][1])


@contextmanager
def seen(directory: Path) -> Iterator[Seen]:
    database = directory / "tsdb"
    told = tell(["happy"], database)["happy"]
    record(database, start=told.history.start, end=told.history.end)
    with prometheus(directory, data=database) as server:
        yield Seen(told=told, server=server)
