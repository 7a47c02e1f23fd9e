"""The verdict in promtool: each state, over eight days with a sample each quarter of an hour."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest
import yaml

from dashboards import verdict
from dashboards.prometheus import RULES
from jwt_middleware import Verdict, names
from tests.support.promtool import Series, failures, series
from tests.support.shop import WEEK, absent, accepted, counting, info, of_version, still, then

pytestmark = pytest.mark.server

DAY: Final = 96
"""Quarters of an hour."""
END: Final = 8 * DAY + 16
SECONDS: Final = 86_400
SUPERSEDED: Final = of_version(names.PAYLOAD_SUPERSEDED, 1)
MINTED: Final = of_version(names.PAYLOAD_LAST_MINTED, 1)
EXPIRY: Final = of_version(names.PAYLOAD_LAST_EXPIRY, 1)
LIFETIME: Final = series(names.TOKEN_MAX_LIFETIME)


def migrated(changes: Mapping[str, str] | None = None) -> Series:
    """The plan is the epoch, and was kept: the last old token was minted an hour before, and lives seven days."""
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
    """Nothing was scraped in ``slots`` quarters of an hour."""
    return {
        name: then(
            values.replace(f"x{END}", f"x{at}"),
            absent(slots),
            f"{'9999+100' if '+' in values else values[: values.index('x')]}x{END}",
        )
        for name, values in migrated().items()
    }


YOUNGER: Final = {"two_migrations_that_overlap_the_younger_one"}
"""Cases on version 2."""


def verdict_is(job: str, moment: str, words: Sequence[str]) -> dict[str, object]:
    """The verdict of a job at a moment; ``none`` if there must not be one."""
    samples = [{"labels": "{}", "value": verdict.STATES[Verdict[word]]} for word in words if word != "none"]
    version = "" if "NO_PLAN" in words else "2" if job in YOUNGER else "1"
    selector = f'{verdict.VERDICT}{{job="{job}", jwt_middleware_payload_version="{version}"}}'
    return {"expr": f"sum({selector})", "eval_time": moment, "exp_samples": samples}


def test_the_verdict_is_the_first_condition_that_holds(tmp_path: Path) -> None:
    """By the recording rules. An error of a rule, such as a 422 for two series of one name, fails the test."""
    rules = tmp_path / "recording.yaml"
    rules.write_text(yaml.safe_dump({"groups": yaml.safe_load(RULES.read_text())["groups"][:1]}))
    table = {
        "a plan that was kept": (migrated(), "1h DRAINING; 6d23h DRAINING; 7d1h UNPROVEN; 8d2h DRAINED"),
        "the plan is ahead": (
            migrated({SUPERSEDED: still(8 * SECONDS, END)}),
            "1h SCHEDULED; 7d23h SCHEDULED; 8d2h DRAINING",
        ),
        "minted after the change, within the last day": (
            migrated({MINTED: still(7.5 * SECONDS, END), EXPIRY: still(14 * SECONDS, END)}),
            "8d2h STILL_MINTED",
        ),
        "an instance says that it mints the old one": (
            migrated({info(mints=1, at="b"): then(absent(8 * DAY), still(1, DAY))}),
            "7d23h DRAINED; 8d2h STILL_MINTED",
        ),
        "minted after the change, days ago": (
            migrated({MINTED: still(4 * SECONDS, END), EXPIRY: still(11 * SECONDS, END)}),
            "4d12h STILL_MINTED; 5d1h LATE_DRAINING; 8d2h LATE_DRAINING",
        ),
        "minted after the change by an instance that is gone": (
            migrated(
                {
                    of_version(names.PAYLOAD_LAST_MINTED, 1, at="b"): then(still(2 * SECONDS, DAY), absent(DAY)),
                    of_version(names.PAYLOAD_LAST_EXPIRY, 1, at="b"): then(still(9 * SECONDS, DAY), absent(DAY)),
                }
            ),
            "7d23h LATE_DRAINING; 8d2h LATE_DRAINING",
        ),
        "a token seen that outlives the plan": (migrated({EXPIRY: still(9 * SECONDS, END)}), "8d2h DRAINING"),
        "late, and all of it expired": (
            migrated({MINTED: still(3600, END), EXPIRY: still(WEEK + 3600, END)}),
            "12h STILL_MINTED; 2d LATE_DRAINING; 8d2h DRAINED",
        ),
        "no old token was ever seen": (without(MINTED, EXPIRY), "6d DRAINING; 8d2h DRAINED"),
        "a gap of half a day": (with_gap(at=3 * DAY, slots=DAY // 2), "8d2h UNPROVEN"),
        "a gap of an hour": (with_gap(at=3 * DAY, slots=4), "8d2h DRAINED"),
        "a gap now": (with_gap(at=END - 12, slots=40), "8d2h none"),
        "no requests within a day": (
            migrated({accepted(): then(counting(100, 6 * DAY), still(57_600, 3 * DAY))}),
            "8d2h UNPROVEN",
        ),
        "tokens that live longer than the lookback": (
            migrated(
                {
                    LIFETIME: still(30 * SECONDS, END),
                    SUPERSEDED: still(-25 * SECONDS, END),
                    MINTED: still(-26 * SECONDS, END),
                    EXPIRY: still(4 * SECONDS, END),
                }
            ),
            "3d DRAINING; 8d2h UNPROVEN",
        ),
        "a lifetime of twelve hours": (
            migrated({LIFETIME: still(43_200, END), EXPIRY: still(39_600, END)}),
            "11h DRAINING; 13h UNPROVEN; 8d2h DRAINED",
        ),
        "no plan": (without(SUPERSEDED), "8d2h NO_PLAN"),
        "no metrics": ({'up{job="app"}': still(1, END)}, "8d2h none"),
        "a rollout in which two readers mint the same": (
            migrated(
                {info(reads=1, mints=1): still(1, 4), info(reads=2, mints=1): still(1, 4), SUPERSEDED: still(3600, END)}
            ),
            "30m SCHEDULED; 1d DRAINING; 8d2h DRAINED",
        ),
        "two migrations that overlap, the older one": (
            migrated(
                {
                    of_version(names.PAYLOAD_SUPERSEDED, 2): still(4 * SECONDS, END),
                    info(reads=3, mints=3): still(1, END),
                }
            ),
            "8d2h DRAINED",
        ),
        "two migrations that overlap, the younger one": (
            migrated(
                {
                    of_version(names.PAYLOAD_SUPERSEDED, 2): still(4 * SECONDS, END),
                    info(): still(1, 5 * DAY + 8),
                    info(reads=3, mints=3): then(absent(5 * DAY), still(1, END)),
                }
            ),
            "3d SCHEDULED; 5d STILL_MINTED; 8d2h DRAINING",
        ),
    }
    assert failures(table, tmp_path, rules, interval="15m", expected=verdict_is) == {}


def test_every_verdict_has_a_state_and_a_case() -> None:
    assert set(verdict.STATES) == set(Verdict)
    assert len(set(verdict.STATES.values()) | {0}) == len(Verdict) + 1
    source = Path(__file__).read_text()
    assert [word for word in (*Verdict.__members__, "none") if not re.search(rf"\d[dh] {word}\b", source)] == []
