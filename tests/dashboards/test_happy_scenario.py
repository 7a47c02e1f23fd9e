"""Nine days of the happy scenario in a real Prometheus: the fallback rate falls to zero, and the dashboards show it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from dashboards.promql import ACCEPTED, label, select
from dashboards.queries import Range, dashboards, without_data
from dashboards.simulation.scenarios import DAY, RELEASE
from dashboards.simulation.world import HOUR
from jwt_middleware import Verdict, names
from tests.dashboards.simulations import SUNSET, SUPERSEDED, Simulated

NO_REMOTE_KEYS = {("Authentication", "Age of the remote keys", 0), ("Authentication", "Fetches of remote keys", 0)}
NO_LINES = {
    ("Authentication", "Lines of also_accept", 0),
    ("Authentication", "Lines of also_accept", 1),
    ("Authentication", "Requests that needed a line, in eight days", 0),
}
NOT_CONFIGURED = NO_REMOTE_KEYS | NO_LINES
NO_FALLBACKS = {("Fallback cost", "Queries saved", 0)}
END = 9 * DAY - 1 / HOUR


def at_hour(happy: Simulated, expr: str, hours: float) -> float:
    return happy.value(expr, happy.days["happy"].moment(hours))


def rate(window: str) -> str:
    """The share of the accepted requests that needed the fallback."""
    accepted = select(names.REQUESTS, ACCEPTED)
    return f"sum(increase({select(names.FALLBACKS)}[{window}])) / sum(increase({accepted}[{window}]))"


def test_every_request_needs_the_fallback_before_the_release(happy: Simulated) -> None:
    assert at_hour(happy, rate("1d"), RELEASE) == pytest.approx(1, abs=0.02)


def test_the_fallback_rate_falls_day_by_day(happy: Simulated) -> None:
    rates = [at_hour(happy, rate("1d"), SUPERSEDED + day * DAY) for day in range(8)]
    assert all(later < earlier for earlier, later in pairwise(rates))
    assert rates[0] > 0.95
    assert 0 < rates[-1] < 0.1


def test_no_fallback_fires_after_the_sunset(happy: Simulated) -> None:
    since = f"{int((9 * DAY - SUNSET) * HOUR)}s"
    assert at_hour(happy, f"sum(increase({select(names.FALLBACKS)}[{since}]))", END) == 0
    assert at_hour(happy, f"sum(increase({select(names.REQUESTS, ACCEPTED)}[{since}]))", END) > 100


def test_nothing_is_minted_after_the_change(happy: Simulated) -> None:
    late = select(names.REQUESTS, f'{label(names.MINTED)}="after_change"')
    assert at_hour(happy, f"sum(max_over_time({late}[9d]))", END) == 0


def test_the_verdict_is_scheduled_then_draining_then_drained(happy: Simulated) -> None:
    periods = {
        Verdict.SCHEDULED: (0, SUPERSEDED),
        Verdict.DRAINING: (SUPERSEDED, SUNSET),
        Verdict.DRAINED: (SUNSET, 9 * DAY),
    }
    days, hourly = happy.days["happy"], happy.verdicts("happy")[1]
    assert len(hourly) == 9 * DAY
    for at, verdict in hourly:
        since, until = periods[verdict]
        assert since <= days.hour(at) < until


def test_the_verdict_is_never_drained_while_an_old_token_is_valid(happy: Simulated) -> None:
    drained = [at for at, verdict in happy.verdicts("happy")[1] if verdict is Verdict.DRAINED]
    assert drained
    assert [at for at in drained if happy.days["happy"].valid_tokens(1, at)] == []


def test_no_alert_fires(happy: Simulated) -> None:
    assert happy.firing() == []


@pytest.mark.parametrize(
    ("hours", "may_be_empty"),
    [(7 * DAY + 12, NOT_CONFIGURED), (9 * DAY - 1, NOT_CONFIGURED | NO_FALLBACKS)],
    ids=["draining", "drained"],
)
def test_every_query_of_every_panel_returns_data(
    happy: Simulated, hours: float, may_be_empty: set[tuple[str, str, int]]
) -> None:
    end = happy.days["happy"].moment(hours)
    period = Range(start=max(happy.start, end - 8 * DAY * HOUR), end=end, step=1_800, rate_interval="10m")
    assert without_data(happy.server, dashboards(), period) == may_be_empty
