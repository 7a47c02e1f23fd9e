"""Scenarios that do not go by the plan, as nine days and more in a real Prometheus: the verdict and the alerts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import pytest

from dashboards import recording
from dashboards.promql import ACCEPTED, VERSION, select
from dashboards.queries import Range, dashboards, evaluate, panel_queries, without_data
from dashboards.simulation.process import LEEWAY
from dashboards.simulation.scenarios import DAY, RELEASE, SCENARIOS
from dashboards.simulation.world import HOUR
from jwt_middleware import Verdict, names
from tests.dashboards.simulations import SUNSET, SUPERSEDED, Firing, Simulated, simulated

pytestmark = pytest.mark.server

FOREVER = float("inf")
STILL_MINTED = "JwtOldPayloadStillMinted"
AFTER_SUNSET = "JwtOldPayloadAfterSunset"


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The verdicts and alerts of a scenario; there must be no others."""

    verdicts: Mapping[int, Sequence[Verdict]]
    """By version, in the order of time."""
    alerts: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Each alert fires between these two hours."""


TO_THE_END = [Verdict.SCHEDULED, Verdict.DRAINING, Verdict.DRAINED]
NOT_PROVEN = [Verdict.SCHEDULED, Verdict.DRAINING, Verdict.UNPROVEN]
NEVER_ENDS = {STILL_MINTED: (SUPERSEDED, FOREVER), AFTER_SUNSET: (SUNSET + 1, FOREVER)}
ROLLED_BACK = [Verdict.STILL_MINTED, Verdict.LATE_DRAINING]
EXPECTED = {
    "still-minting": Expected(verdicts={1: [Verdict.SCHEDULED, Verdict.STILL_MINTED]}, alerts=NEVER_ENDS),
    "forgotten-issuer": Expected(
        verdicts={1: [Verdict.SCHEDULED, Verdict.DRAINING, Verdict.STILL_MINTED]}, alerts=NEVER_ENDS
    ),
    "rollback": Expected(
        verdicts={1: [Verdict.SCHEDULED, Verdict.DRAINING, *ROLLED_BACK, Verdict.DRAINED]},
        alerts={STILL_MINTED: (2 * DAY + 8, 3 * DAY + 18.2), AFTER_SUNSET: (SUNSET + 1, 2 * DAY + 18.2 + 7 * DAY + 1)},
    ),
    "overlapping": Expected(verdicts={1: TO_THE_END, 2: TO_THE_END}),
    "short-lived": Expected(verdicts={1: [*NOT_PROVEN, Verdict.DRAINED]}),
    "long-lived": Expected(verdicts={1: NOT_PROVEN}),
    "scrape-gap": Expected(verdicts={1: NOT_PROVEN}, alerts={"JwtTelemetryAbsent": (3 * DAY, 4 * DAY)}),
    "no-traffic": Expected(verdicts={1: NOT_PROVEN}),
    "restarts": Expected(verdicts={1: TO_THE_END}),
}
RATES = (recording.REQUESTS, recording.FALLBACKS, recording.FALLBACK_CLAIMS)
"""Recorded series that only panels read."""
OLD = f'{VERSION}="1"'
PLAN = f"max by (job) ({select(names.PAYLOAD_SUPERSEDED, OLD)})"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulated]:
    with simulated(EXPECTED, tmp_path_factory.mktemp("scenarios"), without=RATES) as served:
        yield served


@pytest.fixture(scope="module")
def firing(served: Simulated) -> list[Firing]:
    return served.firing()


def test_every_scenario_has_expectations() -> None:
    assert set(EXPECTED) == set(SCENARIOS) - {"happy"}


@pytest.mark.parametrize("scenario", EXPECTED)
def test_the_verdict_is_never_drained_while_an_old_token_is_valid(served: Simulated, scenario: str) -> None:
    days = served.days[scenario]
    for version, hourly in served.verdicts(scenario).items():
        meanwhile = {verdict for at, verdict in hourly if days.valid_tokens(version, at)}
        assert meanwhile
        assert Verdict.DRAINED not in meanwhile


@pytest.mark.parametrize("scenario", EXPECTED)
def test_the_verdicts_follow_the_scenario(served: Simulated, scenario: str) -> None:
    verdicts = {
        version: [verdict for verdict, _ in groupby(verdict for _, verdict in hourly)]
        for version, hourly in served.verdicts(scenario).items()
    }
    assert verdicts == EXPECTED[scenario].verdicts


@pytest.mark.parametrize("scenario", EXPECTED)
def test_the_expected_alerts_fire_and_no_others(served: Simulated, firing: list[Firing], scenario: str) -> None:
    days, expected = served.days[scenario], EXPECTED[scenario].alerts
    fired = [each for each in firing if each.job == scenario and each.since < days.simulation.end]
    assert {each.alert for each in fired} == set(expected)
    for each in fired:
        since, until = expected[each.alert]
        assert since <= days.hour(each.since) <= days.hour(each.until) <= until, each


@pytest.mark.parametrize(
    "rule",
    [
        f"time() > {PLAN} + max by (job) ({select(names.TOKEN_MAX_LIFETIME)})",
        f"sum by (job) (increase({select(names.REQUESTS, ACCEPTED, OLD)}[6h])) == 0 and on (job) time() > {PLAN}",
    ],
    ids=["the plan alone", "no old request for six hours"],
)
def test_simpler_rules_would_end_too_early(served: Simulated, rule: str) -> None:
    """A check of the tests above: the tokens of these scenarios tell a wrong verdict from a right one."""
    days = served.days["rollback"]
    every = served.server.range(rule, start=days.simulation.start, end=days.simulation.end, step=HOUR)
    [holds] = [series["values"] for series in every if series["metric"]["job"] == "rollback"]
    assert [at for at, _ in holds if days.valid_tokens(1, float(at))]


def test_an_old_payload_is_reported_within_a_quarter_of_an_hour(served: Simulated, firing: list[Firing]) -> None:
    days = served.days["still-minting"]
    first = min(each.since for each in firing if (each.job, each.alert) == ("still-minting", STILL_MINTED))
    first_after_change = min(token.at for token in days.simulation.minted if days.hour(token.at) > SUPERSEDED)
    assert first - first_after_change < 900


def test_the_line_for_former_tokens_says_that_it_ends_with_the_last_of_them(served: Simulated) -> None:
    """The row "What may be deleted?" of the dashboard, on the last day: every query of its tables has data."""
    days = served.days["long-lived"]
    end = days.moment(11 * DAY)
    seen = {}
    for query in panel_queries(dashboards()):
        if (query.dashboard, query.panel) == ("Authentication", "Lines of also_accept"):
            [value] = [
                float(series["value"][1]) / 1_000
                for series in evaluate(served.server, query, Range(start=end, end=end, step=1, rate_interval="10m"))
                if series["metric"]["job"] == "long-lived"
            ]
            seen[query.number] = value
    lived = days.moment(RELEASE + 9 * DAY) + 2 * LEEWAY
    former = [token for token in days.simulation.minted if token.expires_at - token.at > 8 * DAY * HOUR]
    assert seen[1] == pytest.approx(lived)
    assert days.moment(RELEASE) < seen[0] <= max(token.expires_at for token in former) + LEEWAY <= lived < end


@pytest.mark.parametrize("day", [2.5, 5, 8.9])
def test_no_panel_is_in_error_whatever_happened(served: Simulated, day: float) -> None:
    """All jobs at once, in the middle of a rollback, of a gap, and after the end of many instances."""
    days = served.days["rollback"]
    period = Range(start=days.moment(day * DAY - 12), end=days.moment(day * DAY), step=600, rate_interval="10m")
    empty = {panel for _, panel, _ in without_data(served.server, dashboards(), period)}
    assert not empty & {"Verdict", "Sunset", "Newest mint and latest expiry of each version", "Requests by result"}
