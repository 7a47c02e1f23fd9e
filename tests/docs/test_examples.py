"""The code in README and docs runs as it stands there, and prints what is written beside it."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md"])


def run(code: str, directory: Path) -> str:
    """Run a page's code in an empty directory, warnings as errors."""
    environment = {
        **os.environ,
        "JWT_SECRET": secrets.token_urlsafe(64),
        "OLD_JWT_SECRET": "sixteen letters.",
        "PYTHONPATH": str(ROOT),
    }
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.parametrize("page", [page for page in PAGES if BLOCK.search(page.read_text())], ids=lambda page: page.name)
def test_the_code_of_every_page_runs(page: Path, tmp_path: Path) -> None:
    printed = run("\n\n".join(BLOCK.findall(page.read_text())), tmp_path)
    promised = re.findall(r"^ +# (\{.*\})$", page.read_text(), re.MULTILINE)
    assert [line for line in printed.splitlines() if line.startswith("{")] == promised


def test_the_readme_links_to_pages_that_exist() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", "".join(page.read_text() for page in PAGES))
    assert links
    assert [link for link in links if not (ROOT / link).exists() and not (ROOT / "docs" / link).exists()] == []
