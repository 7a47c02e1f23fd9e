"""The row "What may be deleted?" in promtool: when each line, key and payload was last used, and when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from dashboards.promql import label
from dashboards.queries import dashboards, panels, substituted
from jwt_middleware import names
from jwt_middleware.names import Metric
from tests.support.promtool import failures, series
from tests.support.shop import absent, accepted, counting, of_version, still, then

pytestmark = pytest.mark.server

DAY: Final = 96
"""Quarters of an hour."""
END: Final = 9 * DAY
PANELS: Final = {
    "lines": ("Lines of also_accept", names.ENVELOPE),
    "keys": ("Keys", names.KEY_ID),
    "payloads": ("Payloads", names.PAYLOAD_VERSION),
}
OLD: Final = "before-2026-12-01"


def of_line(metric: Metric, line: str, *, at: str = "a", rule: str = "") -> str:
    return series(metric, {names.ENVELOPE: line, **({names.RULE: rule} if rule else {})}, at=at)


def of_key(metric: Metric, key: str, *, at: str = "a") -> str:
    return series(metric, {names.KEY_ID: key}, at=at)


def table_has(job: str, moment: str, words: Sequence[str]) -> dict[str, Any]:
    """A column of a table: ``lines used before=300`` has one row, and no other; 0 is "not in 8 days"."""
    kind, column, *rows = words
    title, attribute = PANELS[kind]
    [panel] = [each for board in dashboards() for each in panels(board) if each["title"] == title]
    expr = panel["targets"][("used", "end").index(column)]["expr"].replace('job=~"$job"', f'job="{job}"')
    samples = [
        {"labels": f'{{job="{job}", {label(attribute)}="{name}"}}', "value": float(seconds) * 1000}
        for name, seconds in (row.split("=") for row in rows)
    ]
    return {"expr": substituted(expr, "1m"), "eval_time": moment, "exp_samples": samples}


def test_the_row_says_when_each_was_last_used_and_when_it_ends(tmp_path: Path) -> None:
    table = {
        "two instances used a line, one later": (
            {
                of_line(names.ADOPTIONS, OLD, rule="window"): counting(1, END),
                of_line(names.ENVELOPE_LAST_USED, OLD): still(3000, END),
                of_line(names.ENVELOPE_LAST_USED, OLD, at="b"): still(5000, END),
                of_line(names.ENVELOPE_END, OLD): still(9e5, END),
                of_line(names.ENVELOPE_END, OLD, at="b"): still(9e5, END),
            },
            f"1d lines used {OLD}=5000; 1d lines end {OLD}=900000",
        ),
        "a restart forgets the last use, eight days do not": (
            {
                of_line(names.ADOPTIONS, OLD, rule="window"): then(still(7, DAY), still(0, END)),
                of_line(names.ENVELOPE_LAST_USED, OLD): then(still(80000, DAY), absent(END)),
            },
            f"2d lines used {OLD}=80000; 8d12h lines used {OLD}=80000; 9d12h lines used {OLD}=0; 2d lines end",
        ),
        "a line that was never used, and one that admits nothing more than today's settings do": (
            {
                of_line(names.ADOPTIONS, "coming", rule="audience"): still(0, END),
                of_line(names.ENVELOPE_END, OLD): still(9e5, END),
            },
            f"1d lines used coming=0; 1d lines end {OLD}=900000",
        ),
        "a line that was deleted": (
            {
                of_line(names.ADOPTIONS, OLD, rule="window"): counting(1, DAY) + " stale",
                of_line(names.ENVELOPE_LAST_USED, OLD): still(80000, DAY) + " stale",
                of_line(names.ENVELOPE_END, OLD): still(9e5, DAY) + " stale",
            },
            f"23h lines used {OLD}=80000; 1d2h lines used; 1d2h lines end",
        ),
        "a moment that was set earlier": (
            {of_line(names.ENVELOPE_END, OLD): then(still(9e5, DAY), still(8e5, END))},
            f"23h lines end {OLD}=900000; 1d2h lines end {OLD}=800000",
        ),
        "a rotated key beside the one that signs": (
            {
                of_key(names.VERIFICATIONS, "new"): counting(9, END),
                of_key(names.VERIFICATIONS, "old"): still(0, END),
                of_key(names.VERIFICATIONS, "other"): counting(1, END),
                of_key(names.KEY_LAST_USED, "new"): still(70000, END),
                of_key(names.KEY_END, "old"): still(9e5, END),
            },
            "1d keys used new=70000 old=0; 1d keys end old=900000",
        ),
        "an older payload that a gone instance saw, and one that none saw": (
            {
                accepted(1): still(0, END),
                accepted(2): still(0, END),
                accepted(3): counting(9, END),
                series(names.REQUESTS, {names.RESULT: "accepted", names.PAYLOAD_VERSION: "newer"}): still(0, END),
                of_version(names.PAYLOAD_LAST_MINTED, 2, at="gone"): still(4000, DAY) + " stale",
                of_version(names.PAYLOAD_LAST_EXPIRY, 2, at="gone"): still(6e5, DAY) + " stale",
                of_version(names.PAYLOAD_LAST_MINTED, 3): still(90000, END),
                of_version(names.PAYLOAD_LAST_EXPIRY, 3): still(7e5, END),
            },
            "8d payloads used 1=0 2=4000 3=90000; 8d payloads end 2=600000 3=700000",
        ),
    }
    assert failures(table, tmp_path, interval="15m", expected=table_has) == {}
