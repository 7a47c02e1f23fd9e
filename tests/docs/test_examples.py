"""The code in README and docs runs as it stands there, and prints what is written beside it."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

import pytest

from tests.support.processes import ROOT, python

PAGES = {page: page.read_text() for page in sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md"])}
CODE = {page: re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL) for page, text in PAGES.items()}


@pytest.mark.parametrize("page", [page for page, blocks in CODE.items() if blocks], ids=lambda page: page.name)
def test_the_code_of_every_page_runs(page: Path, tmp_path: Path) -> None:
    secret = {"JWT_SECRET": secrets.token_urlsafe(64), "OLD_JWT_SECRET": "sixteen letters."}
    environment = {**os.environ, **secret, "PYTHONPATH": str(ROOT)}
    printed = python("-c", "\n\n".join(CODE[page]), cwd=tmp_path, env=environment)
    documented = re.findall(r"^ +# (\{.*\})$", PAGES[page], re.MULTILINE)
    assert [line for line in printed.splitlines() if line.startswith("{")] == documented


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, *ROOT.glob("[CS]*.md")], ids=lambda page: page.name)
def test_a_page_links_to_pages_and_headings_that_exist(page: Path) -> None:
    for link, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text()):
        target = page.parent / link if link else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), anchor
