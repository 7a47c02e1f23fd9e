"""The committed results: the report is made of them, and the figures of docs/performance.md are theirs."""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks.report import markdown

ROOT = Path(__file__).parents[2]
RESULTS = json.loads((ROOT / "benchmarks" / "results.json").read_text())
ONLY_IN_THE_RESULTS = "revocation check on a "
"""The beginning of the one line that the page does not repeat."""
FIGURE = re.compile(r"\d+(?:\.\d+)?(?!/)\b")


def budgets_of_the_page() -> list[tuple[str, str]]:
    """Budget and measured figures of each row of "What it costs" that has a budget."""
    table = (ROOT / "docs" / "performance.md").read_text().split("## What it costs")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:2] == "| "]
    return [(budget, measured) for _, budget, measured, _ in rows[2:] if budget]


def first_figure(text: str) -> str:
    """The first number, without the numerator of a ``1/x``."""
    [figure] = FIGURE.findall(text.removeprefix("≤ ").removeprefix("≥ ").removeprefix("1/"))[:1]
    return str(figure)


def test_the_report_is_that_of_the_results() -> None:
    assert (ROOT / "benchmarks" / "results.md").read_text() == markdown(RESULTS)


def test_the_page_has_the_figures_of_the_results() -> None:
    lines = [line for section in RESULTS["sections"].values() for line in section["lines"]]
    lines = [line for line in lines if not line["what"].startswith(ONLY_IN_THE_RESULTS)]
    for (budget, measured), line in zip(budgets_of_the_page(), lines, strict=True):
        page = first_figure(measured)
        digits = len(page.partition(".")[2])
        assert page == f"{float(first_figure(line['measured'])):.{digits}f}", line["what"]
        if line["budget"][0] in "≤≥":
            assert first_figure(budget) == first_figure(line["budget"]), line["what"]
