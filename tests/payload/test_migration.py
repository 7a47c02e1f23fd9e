"""The plan, the evidence, the sunset and the verdict: arithmetic on times."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jwt_middleware import ConfigError, Coverage, Migration, Verdict

AT = datetime(2026, 12, 1, 9, tzinfo=UTC)
PLANNED = AT.timestamp()
HOUR, DAY = 3_600.0, 86_400.0
SUPERSEDED = PLANNED + HOUR + 30
WATCHED = Coverage(slots=0.96, accepted_recently=True)
END = SUPERSEDED + 7 * DAY
LATE = (SUPERSEDED + 10, SUPERSEDED + 10 + 7 * DAY)


def migration(effective_at: dict[Any, Any] | None = None, *, version: int = 2, **settings: Any) -> Migration:
    given = {
        "effective_at": {2: AT} if effective_at is None else effective_at,
        "rollout": timedelta(hours=1),
        "leeway": timedelta(seconds=30),
        "max_lifetime": timedelta(days=7),
    }
    return Migration(version=version, **{**given, **settings})


def judged(now: float, *seen: tuple[float, float], coverage: Coverage = WATCHED, **settings: Any) -> Verdict:
    plan = migration()
    for issued_at, expires_at in seen:
        plan.saw(1, issued_at, expires_at)
    return plan.verdict(1, now=now, coverage=coverage, **settings)


class TestPlan:
    @pytest.mark.parametrize("effective_at", [{1: AT}, {3: AT}, {0: AT}, {"2": AT}, {True: AT}, {2.0: AT}])
    def test_a_plan_for_a_version_that_does_not_exist_is_refused(self, effective_at: dict[Any, Any]) -> None:
        with pytest.raises(ConfigError, match="use 2 to 2"):
            migration(effective_at)

    @pytest.mark.parametrize("at", [datetime(2026, 12, 1), "2026-12-01", PLANNED])
    def test_a_plan_without_a_timezone_is_refused(self, at: Any) -> None:
        with pytest.raises(ConfigError, match="tzinfo=UTC"):
            migration({2: at})

    def test_a_version_is_superseded_by_the_earliest_higher_one(self) -> None:
        later = AT + timedelta(days=1)
        plan = migration({2: later, 3: AT}, version=3)
        assert [plan.effective_at(old) for old in (1, 2, 3)] == [PLANNED, PLANNED, None]
        assert [plan.superseded(old) for old in (1, 2, 3)] == [SUPERSEDED, SUPERSEDED, None]

    def test_a_plan_for_one_version_says_nothing_of_another(self) -> None:
        plan = migration({2: AT}, version=3)
        assert (plan.superseded(1), plan.superseded(2)) == (SUPERSEDED, None)
        assert (plan.minted(1, PLANNED), plan.minted(2, PLANNED)) == ("before_change", "unknown")


class TestToken:
    def test_an_old_token_was_minted_before_or_after_the_change(self) -> None:
        for issued_at in (PLANNED - DAY, PLANNED + 1, SUPERSEDED):
            assert migration().minted(1, issued_at) == "before_change"
        assert migration().minted(1, SUPERSEDED + 1) == "after_change"
        assert migration().minted(1, None) == "unknown"

    def test_without_a_plan_it_is_unknown_when_a_token_was_minted(self) -> None:
        assert migration({}).minted(1, PLANNED) == "unknown"


class TestEvidence:
    def test_the_evidence_is_the_newest_iat_and_the_latest_exp(self) -> None:
        plan = migration()
        for issued_at, expires_at in ((10.0, 100.0), (None, 200.0), (5.0, 50.0)):
            plan.saw(1, issued_at, expires_at)
        plan.saw(3, 99.0, 999.0)
        assert (plan.last_minted, plan.last_expiry) == ({1: 10.0}, {1: 200.0})

    def test_the_sunset_is_the_plans_but_not_before_the_latest_exp(self) -> None:
        plan, planned = migration(), AT + timedelta(days=7, hours=1, seconds=30)
        assert plan.sunset(1) == planned
        plan.saw(1, PLANNED, PLANNED + DAY)
        assert plan.sunset(1) == planned
        late = SUPERSEDED + 9 * DAY
        plan.saw(1, late - DAY, late)
        assert plan.sunset(1) == datetime.fromtimestamp(late + 30, UTC)
        assert plan.sunset(2) is None
        assert migration({}).sunset(1) is None

    def test_a_longer_accepted_lifetime_moves_the_sunset(self) -> None:
        assert migration(max_lifetime=timedelta(days=30)).sunset(1) == AT + timedelta(days=30, hours=1, seconds=30)


class TestVerdict:
    def test_the_verdict_is_the_first_row_that_holds(self) -> None:
        valid = (PLANNED - DAY, PLANNED + 6 * DAY)
        for number, (now, seen, verdict) in enumerate(
            [
                (PLANNED - 1, [valid], Verdict.SCHEDULED),
                (PLANNED, [valid], Verdict.DRAINING),
                (SUPERSEDED + 1, [valid], Verdict.DRAINING),
                (SUPERSEDED + 20, [valid, LATE], Verdict.STILL_MINTED),
                (LATE[0] + DAY - 1, [LATE], Verdict.STILL_MINTED),
                (LATE[0] + DAY, [LATE], Verdict.LATE_DRAINING),
                (LATE[1] + 29, [LATE], Verdict.LATE_DRAINING),
                (LATE[1] + 30, [LATE], Verdict.DRAINED),
                (SUPERSEDED + 2 * DAY, [(LATE[0], LATE[0] + 60)], Verdict.DRAINING),
                (END - 1, [], Verdict.DRAINING),
                (END, [valid], Verdict.DRAINED),
                (END, [(PLANNED, END + DAY)], Verdict.DRAINING),
            ]
        ):
            assert judged(now, *seen) is verdict, f"row {number}"

    def test_an_instance_that_mints_the_old_version_is_still_minting(self) -> None:
        assert judged(SUPERSEDED, minted_by_plan=False) is Verdict.DRAINING
        assert judged(SUPERSEDED + 1, minted_by_plan=False) is Verdict.STILL_MINTED
        assert judged(END + DAY, minted_by_plan=False) is Verdict.STILL_MINTED

    def test_absence_of_data_is_not_zero(self) -> None:
        for slots, accepted_recently in ((0.95, True), (1.0, False)):
            coverage = Coverage(slots=slots, accepted_recently=accepted_recently)
            assert judged(END, coverage=coverage) is Verdict.UNPROVEN

    def test_a_compressed_window_has_a_shorter_day(self) -> None:
        assert judged(LATE[0] + 60, LATE, day=30.0) is Verdict.LATE_DRAINING

    def test_without_a_plan_there_is_no_verdict(self) -> None:
        assert migration({}).verdict(1, now=END, coverage=WATCHED) is Verdict.NO_PLAN
        assert migration().verdict(2, now=END, coverage=WATCHED) is Verdict.NO_PLAN

    def test_the_page_names_every_verdict_in_its_order(self) -> None:
        page = (Path(__file__).parents[2] / "docs" / "evolution.md").read_text()
        documented = re.findall(r"^\| `([^`]+)` \|", page[page.index("| verdict |") :], re.MULTILINE)
        assert documented == [verdict.value for verdict in Verdict]
