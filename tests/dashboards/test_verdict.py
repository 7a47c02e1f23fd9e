"""The verdict by promtool: every row of its table, over eight days of samples each quarter of an hour."""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest
import yaml

from dashboards import verdict
from dashboards.prometheus import RULES
from jwt_middleware import Verdict, names
from tests.support.promtool import Series, run, series
from tests.support.shop import WEEK, absent, accepted, counting, info, of_version, still, then

DAY: Final = 96
"""Slots of a quarter of an hour."""
END: Final = 8 * DAY + 16
SECONDS: Final = 86_400
ENDED: Final = "8d2h"
SUPERSEDED: Final = of_version(names.PAYLOAD_SUPERSEDED, 1)
MINTED: Final = of_version(names.PAYLOAD_LAST_MINTED, 1)
EXPIRY: Final = of_version(names.PAYLOAD_LAST_EXPIRY, 1)
LIFETIME: Final = series(names.TOKEN_MAX_LIFETIME)


def migrated(changes: Mapping[str, str] | None = None) -> Series:
    """A plan for the epoch that was kept: the last old token is of an hour before, and lives seven days."""
    return {
        info(): still(1, END),
        SUPERSEDED: still(0, END),
        LIFETIME: still(WEEK, END),
        accepted(): counting(100, END),
        MINTED: still(-3600, END),
        EXPIRY: still(WEEK - 3600, END),
        **(changes or {}),
    }


def without(*left_out: str) -> Series:
    return {name: values for name, values in migrated().items() if name not in left_out}


def with_gap(*, at: int, slots: int) -> Series:
    """Nothing was scraped for a while."""
    return {
        name: then(
            values.replace(f"x{END}", f"x{at}"),
            absent(slots),
            f"{'9999+100' if '+' in values else values[: values.index('x')]}x{END}",
        )
        for name, values in migrated().items()
    }


CASES: Final[dict[str, tuple[Series, dict[str, Verdict | None]]]] = {
    "a plan that was kept": (
        migrated(),
        {"1h": Verdict.DRAINING, "6d23h": Verdict.DRAINING, "7d1h": Verdict.UNPROVEN, ENDED: Verdict.DRAINED},
    ),
    "the plan is ahead": (
        migrated({SUPERSEDED: still(8 * SECONDS, END)}),
        {"1h": Verdict.SCHEDULED, "7d23h": Verdict.SCHEDULED, ENDED: Verdict.DRAINING},
    ),
    "minted after the change, within the last day": (
        migrated({MINTED: still(7.5 * SECONDS, END), EXPIRY: still(14 * SECONDS, END)}),
        {ENDED: Verdict.STILL_MINTED},
    ),
    "an instance says that it mints the old one": (
        migrated({info(mints=1, at="b"): then(absent(8 * DAY), still(1, DAY))}),
        {"7d23h": Verdict.DRAINED, ENDED: Verdict.STILL_MINTED},
    ),
    "minted after the change, days ago": (
        migrated({MINTED: still(4 * SECONDS, END), EXPIRY: still(11 * SECONDS, END)}),
        {"4d12h": Verdict.STILL_MINTED, "5d1h": Verdict.LATE_DRAINING, ENDED: Verdict.LATE_DRAINING},
    ),
    "minted after the change by an instance that is gone": (
        migrated(
            {
                of_version(names.PAYLOAD_LAST_MINTED, 1, at="b"): then(still(2 * SECONDS, DAY), absent(DAY)),
                of_version(names.PAYLOAD_LAST_EXPIRY, 1, at="b"): then(still(9 * SECONDS, DAY), absent(DAY)),
            }
        ),
        {"7d23h": Verdict.LATE_DRAINING, ENDED: Verdict.LATE_DRAINING},
    ),
    "a token seen that outlives the plan": (migrated({EXPIRY: still(9 * SECONDS, END)}), {ENDED: Verdict.DRAINING}),
    "late, and all of it expired": (
        migrated({MINTED: still(3600, END), EXPIRY: still(WEEK + 3600, END)}),
        {"12h": Verdict.STILL_MINTED, "2d": Verdict.LATE_DRAINING, ENDED: Verdict.DRAINED},
    ),
    "no old token was ever seen": (without(MINTED, EXPIRY), {"6d": Verdict.DRAINING, ENDED: Verdict.DRAINED}),
    "a gap of half a day": (with_gap(at=3 * DAY, slots=DAY // 2), {ENDED: Verdict.UNPROVEN}),
    "a gap of an hour": (with_gap(at=3 * DAY, slots=4), {ENDED: Verdict.DRAINED}),
    "a gap now": (with_gap(at=END - 12, slots=40), {ENDED: None}),
    "nobody came within a day": (
        migrated({accepted(): then(counting(100, 6 * DAY), still(57_600, 3 * DAY))}),
        {ENDED: Verdict.UNPROVEN},
    ),
    "tokens that live longer than anybody looks back": (
        migrated(
            {
                LIFETIME: still(30 * SECONDS, END),
                SUPERSEDED: still(-25 * SECONDS, END),
                MINTED: still(-26 * SECONDS, END),
                EXPIRY: still(4 * SECONDS, END),
            }
        ),
        {"3d": Verdict.DRAINING, ENDED: Verdict.UNPROVEN},
    ),
    "a lifetime of twelve hours": (
        migrated({LIFETIME: still(43_200, END), EXPIRY: still(39_600, END)}),
        {"11h": Verdict.DRAINING, "13h": Verdict.UNPROVEN, ENDED: Verdict.DRAINED},
    ),
    "no plan": (without(SUPERSEDED), {ENDED: Verdict.NO_PLAN}),
    "no metrics": ({'up{job="app"}': still(1, END)}, {ENDED: None}),
    "a rollout in which two readers mint the same": (
        migrated(
            {info(reads=1, mints=1): still(1, 4), info(reads=2, mints=1): still(1, 4), SUPERSEDED: still(3600, END)}
        ),
        {"30m": Verdict.SCHEDULED, "1d": Verdict.DRAINING, ENDED: Verdict.DRAINED},
    ),
    "two migrations that overlap, the older one": (
        migrated(
            {of_version(names.PAYLOAD_SUPERSEDED, 2): still(4 * SECONDS, END), info(reads=3, mints=3): still(1, END)}
        ),
        {ENDED: Verdict.DRAINED},
    ),
    "two migrations that overlap, the younger one": (
        migrated(
            {
                of_version(names.PAYLOAD_SUPERSEDED, 2): still(4 * SECONDS, END),
                info(): still(1, 5 * DAY + 8),
                info(reads=3, mints=3): then(absent(5 * DAY), still(1, END)),
            }
        ),
        {"3d": Verdict.SCHEDULED, "5d": Verdict.STILL_MINTED, ENDED: Verdict.DRAINING},
    ),
}


YOUNGER: Final = {"two migrations that overlap, the younger one"}
"""Cases that ask for version 2."""


def job(name: str) -> str:
    return re.sub("[^a-z0-9]+", "_", name)


def expectation(name: str, moment: str, word: Verdict | None) -> dict[str, object]:
    expected = [] if word is None else [{"labels": "{}", "value": verdict.STATES[word]}]
    version = "" if word is Verdict.NO_PLAN else "2" if name in YOUNGER else "1"
    chosen = f'{verdict.VERDICT}{{job="{job(name)}", jwt_middleware_payload_version="{version}"}}'
    return {"expr": f"sum({chosen})", "eval_time": moment, "exp_samples": expected}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What promtool says of all cases; only the recording rules are loaded."""
    directory = tmp_path_factory.mktemp("verdict")
    rules = yaml.safe_load(RULES.read_text())
    recording = directory / "recording.yaml"
    recording.write_text(yaml.safe_dump({"groups": rules["groups"][:1]}))
    cases = list(CASES.items())
    batches = [dict(cases[start : start + 4]) for start in range(0, len(cases), 4)]
    places = [tmp_path_factory.mktemp("batch") for _ in batches]
    with ThreadPoolExecutor(2) as pool:
        return "".join(
            pool.map(lambda batch, place: run(as_test(batch), place, recording, interval="15m"), batches, places)
        )


def as_test(cases: Mapping[str, tuple[Series, dict[str, Verdict | None]]]) -> dict[str, object]:
    """A few cases in one run; promtool loads no more than 10,000 samples for a query."""
    return {
        "interval": "15m",
        "input_series": [
            {"series": each.replace('job="app"', f'job="{job(name)}"'), "values": values}
            for name, (given, _) in cases.items()
            for each, values in given.items()
        ],
        "promql_expr_test": [
            expectation(name, moment, word) for name, (_, words) in cases.items() for moment, word in words.items()
        ],
    }


@pytest.mark.parametrize("name", CASES)
def test_the_first_that_holds_is_the_verdict(name: str, said: str) -> None:
    complaints = re.split(r"(?=^ {4}expr: )", said, flags=re.MULTILINE)
    assert [each for each in complaints if f'job=\\"{job(name)}\\"' in each] == []


def test_no_rule_failed_and_nothing_else_was_said(said: str) -> None:
    """A 422, say of two series that were relabelled to one name."""
    assert said == ""


def test_every_word_has_a_state_of_its_own() -> None:
    assert set(verdict.STATES) == set(Verdict)
    assert len(set(verdict.STATES.values()) | {0}) == len(Verdict) + 1
    assert {word for _, words in CASES.values() for word in words.values()} == {*Verdict, None}
