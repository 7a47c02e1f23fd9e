"""Python in a process of its own: for global state that can be set only once, and for commands."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]


def python(*arguments: str, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> str:
    """The output of a Python process, which must succeed without a word on stderr; warnings are errors."""
    finished = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, ""), finished.stdout + finished.stderr
    return finished.stdout
