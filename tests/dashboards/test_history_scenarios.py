"""What goes otherwise than planned, as nine days and more in a real Prometheus: the verdict and the alerts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import pytest

from dashboards import recording, verdict
from dashboards.asking import Range, dashboards, unanswered
from dashboards.loading import record
from dashboards.prometheus import Server, prometheus
from dashboards.promql import ACCEPTED, VERSION, select
from demo_app.history.process import LEEWAY
from demo_app.history.scenarios import DAY, RELEASE, SCENARIOS
from demo_app.history.world import HOUR
from jwt_middleware import Verdict, names
from tests.dashboards.histories.judging import Firing, firing
from tests.dashboards.histories.telling import Told, tell

SUPERSEDED = RELEASE + 1 + LEEWAY / HOUR
SUNSET = SUPERSEDED + 7 * DAY
FOREVER = float("inf")
STATE = {value: word for word, value in verdict.STATES.items()}


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What must be said of a scenario, and nothing else."""

    verdicts: Mapping[int, Sequence[Verdict]]
    """By version, one after the other."""
    alerts: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Between which hours each of them fires."""


TO_THE_END = [Verdict.SCHEDULED, Verdict.DRAINING, Verdict.DRAINED]
NOT_PROVEN = [Verdict.SCHEDULED, Verdict.DRAINING, Verdict.UNPROVEN]
STILL_MINTED = "JwtOldPayloadStillMinted"
AFTER_SUNSET = "JwtOldPayloadAfterSunset"
EXPECTED = {
    "still-minting": Expected(
        verdicts={1: [Verdict.SCHEDULED, Verdict.STILL_MINTED]},
        alerts={STILL_MINTED: (SUPERSEDED, FOREVER), AFTER_SUNSET: (SUNSET + 1, FOREVER)},
    ),
    "forgotten-issuer": Expected(
        verdicts={1: [Verdict.SCHEDULED, Verdict.DRAINING, Verdict.STILL_MINTED]},
        alerts={STILL_MINTED: (SUPERSEDED, FOREVER), AFTER_SUNSET: (SUNSET + 1, FOREVER)},
    ),
    "rollback": Expected(
        verdicts={
            1: [
                Verdict.SCHEDULED,
                Verdict.DRAINING,
                Verdict.STILL_MINTED,
                Verdict.LATE_DRAINING,
                Verdict.DRAINED,
            ]
        },
        alerts={
            STILL_MINTED: (2 * DAY + 8, 3 * DAY + 18.2),
            AFTER_SUNSET: (SUNSET + 1, 2 * DAY + 18.2 + 7 * DAY + 1),
        },
    ),
    "overlapping": Expected(verdicts={1: TO_THE_END, 2: TO_THE_END}),
    "short-lived": Expected(verdicts={1: [*NOT_PROVEN, Verdict.DRAINED]}),
    "long-lived": Expected(verdicts={1: NOT_PROVEN}),
    "scrape-gap": Expected(verdicts={1: NOT_PROVEN}, alerts={"JwtTelemetryAbsent": (3 * DAY, 4 * DAY)}),
    "no-traffic": Expected(verdicts={1: NOT_PROVEN}),
    "restarts": Expected(verdicts={1: TO_THE_END}),
}
RATES = (recording.REQUESTS, recording.FALLBACKS, recording.FALLBACK_CLAIMS)
"""Only panels read them."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """All scenarios, and what is said about them."""

    told: Mapping[str, Told]
    server: Server
    firing: Sequence[Firing]

    def verdicts(self, scenario: str) -> dict[int, list[tuple[float, Verdict]]]:
        """By version, at each hour of the history that has one."""
        history = self.told[scenario].history
        found = self.server.range(
            f'{verdict.VERDICT}{{job="{scenario}"}}', start=history.start, end=history.end - HOUR, step=HOUR
        )
        return {
            int(series["metric"][VERSION]): [(float(at), STATE[int(state)]) for at, state in series["values"]]
            for series in found
        }


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    directory = tmp_path_factory.mktemp("scenarios")
    database = directory / "tsdb"
    told = tell(EXPECTED, database)
    start = min(each.history.start for each in told.values())
    end = max(each.history.end for each in told.values())
    record(database, start=start, end=end, without=RATES)
    with prometheus(directory, data=database) as server:
        yield Seen(told=told, server=server, firing=firing(server, start=start, end=end))


def test_every_scenario_is_judged() -> None:
    assert set(EXPECTED) == set(SCENARIOS) - {"happy"}


@pytest.mark.parametrize("scenario", EXPECTED)
def test_drained_is_never_said_while_an_old_token_lives(seen: Seen, scenario: str) -> None:
    told = seen.told[scenario]
    for version, hourly in seen.verdicts(scenario).items():
        alive = [(at, word) for at, word in hourly if told.alive(version, at)]
        assert alive
        assert Verdict.DRAINED not in {word for _, word in alive}


@pytest.mark.parametrize("scenario", EXPECTED)
def test_the_verdict_tells_what_happens(seen: Seen, scenario: str) -> None:
    said = {
        version: [word for word, _ in groupby(word for _, word in hourly)]
        for version, hourly in seen.verdicts(scenario).items()
    }
    assert said == EXPECTED[scenario].verdicts


@pytest.mark.parametrize("scenario", EXPECTED)
def test_the_right_alerts_fire_and_no_other(seen: Seen, scenario: str) -> None:
    told, expected = seen.told[scenario], EXPECTED[scenario].alerts
    fired = [each for each in seen.firing if each.job == scenario and each.since < told.history.end]
    assert {each.alert for each in fired} == set(expected)
    for each in fired:
        since, until = expected[each.alert]
        assert since <= told.hour(each.since) <= told.hour(each.until) <= until, each


OLD = f'{VERSION}="1"'
PLAN = f"max by (job) ({select(names.PAYLOAD_SUPERSEDED, OLD)})"
TOO_SIMPLE = {
    "the plan alone": f"time() > {PLAN} + max by (job) ({select(names.TOKEN_MAX_LIFETIME)})",
    "no old request for six hours": (
        f"sum by (job) (increase({select(names.REQUESTS, ACCEPTED, OLD)}[6h])) == 0 and on (job) time() > {PLAN}"
    ),
}


@pytest.mark.parametrize("rule", TOO_SIMPLE)
def test_simpler_rules_would_say_it_too_early(seen: Seen, rule: str) -> None:
    """The proof of the proof: the truth of these histories is one that a wrong verdict does not survive."""
    told = seen.told["rollback"]
    found = seen.server.range(TOO_SIMPLE[rule], start=told.history.start, end=told.history.end, step=HOUR)
    [said] = [series["values"] for series in found if series["metric"]["job"] == "rollback"]
    assert [at for at, _ in said if told.alive(1, float(at))]


def test_the_old_payload_is_reported_within_a_quarter_of_an_hour_where_nothing_was_released(seen: Seen) -> None:
    told = seen.told["still-minting"]
    first = min(each.since for each in seen.firing if (each.job, each.alert) == ("still-minting", STILL_MINTED))
    newest_before = min(token.at for token in told.history.minted if told.hour(token.at) > SUPERSEDED)
    assert first - newest_before < 900


@pytest.mark.parametrize("day", [2.5, 5, 8.9])
def test_no_panel_is_in_error_whatever_happened(seen: Seen, day: float) -> None:
    """All jobs at once, in the middle of a rollback, of a gap, and where many instances are gone."""
    told = seen.told["rollback"]
    looked_at = Range(start=told.moment(day * DAY - 12), end=told.moment(day * DAY), step=600, rate_interval="10m")
    empty = {panel for _, panel, _ in unanswered(seen.server, dashboards(), looked_at)}
    assert not empty & {"Verdict", "Sunset", "Newest mint and latest expiry of each version", "Requests by result"}
