"""docs/security.md names tests: they exist, and every threat has one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
ROWS = [
    [cell.strip() for cell in line[1:-1].split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith(("| ---", "| threat"))
]


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_named_test_exists(path: str, name: str) -> None:
    assert re.search(rf"^ *(async )?def {name}\(", (ROOT / path).read_text("utf-8"), re.MULTILINE)


def test_every_threat_has_a_rule_and_a_test() -> None:
    assert len(ROWS) > 30
    for row in ROWS:
        threat, rule, _source, tests = row
        assert threat
        assert rule
        assert re.search(r"`tests/[\w/]+\.py::test_\w+`", tests), threat
