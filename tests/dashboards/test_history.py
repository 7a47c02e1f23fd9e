"""Nine days of the happy scenario in a real Prometheus: the fallback falls to zero, and the dashboards say so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import pytest

from dashboards import verdict
from dashboards.promql import ACCEPTED, label, select
from demo_app.history.process import LEEWAY
from demo_app.history.scenarios import DAY, RELEASE
from demo_app.history.world import HOUR
from jwt_middleware import Verdict, names
from tests.dashboards.asking import Range, dashboards, unanswered
from tests.dashboards.histories.judging import firing, record
from tests.dashboards.histories.telling import Told, tell
from tests.dashboards.prometheus import Server, prometheus

NO_REMOTE_KEYS = {("Authentication", "Age of the remote keys", 0), ("Authentication", "Fetches of remote keys", 0)}
NOTHING_TO_SAVE = {("Fallback cost", "Queries saved", 0)}
"""No fallback asked for anything."""
SUPERSEDED = RELEASE + 1 + LEEWAY / HOUR
SUNSET = SUPERSEDED + 7 * DAY
"""Hours since the beginning; an hour of rollout."""
DRAINING, DRAINED = 7 * DAY + 12, 9 * DAY - 1
"""Two moments to look at the dashboards: the noon before the last, and when all is over."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A history, and who tells about it."""

    told: Told
    server: Server

    def value(self, expr: str, hours: float) -> float:
        [series] = self.server.instant(expr, self.told.moment(hours))
        return float(series["value"][1])


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    directory = tmp_path_factory.mktemp("happy")
    database = directory / "tsdb"
    told = tell(["happy"], database)["happy"]
    record(database, start=told.history.start, end=told.history.end)
    with prometheus(directory, data=database) as server:
        yield Seen(told=told, server=server)


def rate(window: str) -> str:
    """Of the accepted requests, the share that needed the fallback."""
    accepted = select(names.REQUESTS, ACCEPTED)
    return f"sum(increase({select(names.FALLBACKS)}[{window}])) / sum(increase({accepted}[{window}]))"


def test_every_request_needs_the_fallback_before_the_release(seen: Seen) -> None:
    assert seen.value(rate("1d"), RELEASE) == pytest.approx(1, abs=0.02)


def test_the_fallback_rate_falls_day_by_day(seen: Seen) -> None:
    rates = [seen.value(rate("1d"), SUPERSEDED + day * DAY) for day in range(8)]
    assert all(later < earlier for earlier, later in pairwise(rates))
    assert rates[0] > 0.95
    assert 0 < rates[-1] < 0.1


def test_no_fallback_fires_after_the_sunset(seen: Seen) -> None:
    since = f"{int((9 * DAY - SUNSET) * HOUR)}s"
    end = 9 * DAY - 1 / HOUR
    assert seen.value(f"sum(increase({select(names.FALLBACKS)}[{since}]))", end) == 0
    assert seen.value(f"sum(increase({select(names.REQUESTS, ACCEPTED)}[{since}]))", end) > 100


def test_nothing_is_minted_after_the_change(seen: Seen) -> None:
    late = select(names.REQUESTS, f'{label(names.MINTED)}="after_change"')
    assert seen.value(f"sum(max_over_time({late}[9d]))", 9 * DAY - 1 / HOUR) == 0


def test_the_verdict_is_scheduled_then_draining_then_drained(seen: Seen) -> None:
    words = {
        Verdict.SCHEDULED: (0, SUPERSEDED),
        Verdict.DRAINING: (SUPERSEDED, SUNSET),
        Verdict.DRAINED: (SUNSET, 9 * DAY),
    }
    told = seen.told
    [series] = seen.server.range(verdict.VERDICT, start=told.history.start, end=told.history.end - HOUR, step=HOUR)
    assert len(series["values"]) == 9 * DAY
    for at, state in series["values"]:
        [word] = [word for word, (since, until) in words.items() if since <= told.hour(at) < until]
        assert int(state) == verdict.STATES[word], told.hour(at)


def test_drained_is_never_said_while_an_old_token_lives(seen: Seen) -> None:
    told = seen.told
    [series] = seen.server.range(verdict.VERDICT, start=told.history.start, end=told.history.end - HOUR, step=HOUR)
    said = {float(at) for at, state in series["values"] if int(state) == verdict.STATES[Verdict.DRAINED]}
    assert said
    assert [at for at in said if told.alive(1, at)] == []


def test_nobody_is_alerted(seen: Seen) -> None:
    assert firing(seen.server, start=seen.told.history.start, end=seen.told.history.end) == []


@pytest.mark.parametrize(
    ("hours", "may_be_empty"),
    [(DRAINING, NO_REMOTE_KEYS), (DRAINED, NO_REMOTE_KEYS | NOTHING_TO_SAVE)],
    ids=["draining", "drained"],
)
def test_every_query_of_every_panel_is_answered(
    seen: Seen, hours: float, may_be_empty: set[tuple[str, str, int]]
) -> None:
    end = seen.told.moment(hours)
    looked_at = Range(
        start=max(seen.told.history.start, end - 8 * DAY * HOUR), end=end, step=1_800, rate_interval="10m"
    )
    assert unanswered(seen.server, dashboards(), looked_at) == may_be_empty
