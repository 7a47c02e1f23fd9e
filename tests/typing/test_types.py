"""The types that a user of the package sees, judged by mypy as the user would run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PACKAGE = Path(__file__).parents[2] / "jwt_middleware"


def test_a_users_code_is_typed_throughout(tmp_path: Path) -> None:
    """Outside of the project, so that only ``py.typed`` makes the package's types count."""
    user = tmp_path / "user.py"
    user.write_text((HERE / "user.py").read_text())
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "jwt_middleware").symlink_to(PACKAGE)
    checked = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", "--no-incremental"),
            *("--config-file", "", "--cache-dir", str(tmp_path / "cache"), str(user)),
        ],
        cwd=tmp_path,
        env={"PATH": "", "MYPYPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()
