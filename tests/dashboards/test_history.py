"""Nine days of the happy scenario in a real Prometheus: the fallback falls to zero, and the dashboards say so."""

from __future__ import annotations

from itertools import pairwise

import pytest

from dashboards import verdict
from dashboards.asking import Range, dashboards, unanswered
from dashboards.promql import ACCEPTED, label, select
from demo_app.history.process import LEEWAY
from demo_app.history.scenarios import DAY, RELEASE
from demo_app.history.world import HOUR
from jwt_middleware import Verdict, names
from tests.dashboards.histories.happy import Seen
from tests.dashboards.histories.judging import firing

NO_REMOTE_KEYS = {("Authentication", "Age of the remote keys", 0), ("Authentication", "Fetches of remote keys", 0)}
NOTHING_TO_SAVE = {("Fallback cost", "Queries saved", 0)}
"""No fallback asked for anything."""
SUPERSEDED = RELEASE + 1 + LEEWAY / HOUR
SUNSET = SUPERSEDED + 7 * DAY
"""Hours since the beginning; an hour of rollout."""
DRAINING, DRAINED = 7 * DAY + 12, 9 * DAY - 1
"""Two moments to look at the dashboards: the noon before the last, and when all is over."""


def rate(window: str) -> str:
    """Of the accepted requests, the share that needed the fallback."""
    accepted = select(names.REQUESTS, ACCEPTED)
    return f"sum(increase({select(names.FALLBACKS)}[{window}])) / sum(increase({accepted}[{window}]))"


def test_every_request_needs_the_fallback_before_the_release(happy: Seen) -> None:
    assert happy.value(rate("1d"), RELEASE) == pytest.approx(1, abs=0.02)


def test_the_fallback_rate_falls_day_by_day(happy: Seen) -> None:
    rates = [happy.value(rate("1d"), SUPERSEDED + day * DAY) for day in range(8)]
    assert all(later < earlier for earlier, later in pairwise(rates))
    assert rates[0] > 0.95
    assert 0 < rates[-1] < 0.1


def test_no_fallback_fires_after_the_sunset(happy: Seen) -> None:
    since = f"{int((9 * DAY - SUNSET) * HOUR)}s"
    end = 9 * DAY - 1 / HOUR
    assert happy.value(f"sum(increase({select(names.FALLBACKS)}[{since}]))", end) == 0
    assert happy.value(f"sum(increase({select(names.REQUESTS, ACCEPTED)}[{since}]))", end) > 100


def test_nothing_is_minted_after_the_change(happy: Seen) -> None:
    late = select(names.REQUESTS, f'{label(names.MINTED)}="after_change"')
    assert happy.value(f"sum(max_over_time({late}[9d]))", 9 * DAY - 1 / HOUR) == 0


def test_the_verdict_is_scheduled_then_draining_then_drained(happy: Seen) -> None:
    words = {
        Verdict.SCHEDULED: (0, SUPERSEDED),
        Verdict.DRAINING: (SUPERSEDED, SUNSET),
        Verdict.DRAINED: (SUNSET, 9 * DAY),
    }
    told = happy.told
    [series] = happy.server.range(verdict.VERDICT, start=told.history.start, end=told.history.end - HOUR, step=HOUR)
    assert len(series["values"]) == 9 * DAY
    for at, state in series["values"]:
        [word] = [word for word, (since, until) in words.items() if since <= told.hour(at) < until]
        assert int(state) == verdict.STATES[word], told.hour(at)


def test_drained_is_never_said_while_an_old_token_lives(happy: Seen) -> None:
    told = happy.told
    [series] = happy.server.range(verdict.VERDICT, start=told.history.start, end=told.history.end - HOUR, step=HOUR)
    said = {float(at) for at, state in series["values"] if int(state) == verdict.STATES[Verdict.DRAINED]}
    assert said
    assert [at for at in said if told.alive(1, at)] == []


def test_nobody_is_alerted(happy: Seen) -> None:
    assert firing(happy.server, start=happy.told.history.start, end=happy.told.history.end) == []


@pytest.mark.parametrize(
    ("hours", "may_be_empty"),
    [(DRAINING, NO_REMOTE_KEYS), (DRAINED, NO_REMOTE_KEYS | NOTHING_TO_SAVE)],
    ids=["draining", "drained"],
)
def test_every_query_of_every_panel_is_answered(
    happy: Seen, hours: float, may_be_empty: set[tuple[str, str, int]]
) -> None:
    end = happy.told.moment(hours)
    looked_at = Range(
        start=max(happy.told.history.start, end - 8 * DAY * HOUR), end=end, step=1_800, rate_interval="10m"
    )
    assert unanswered(happy.server, dashboards(), looked_at) == may_be_empty
