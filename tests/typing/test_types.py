"""The package is typed for its users: mypy, run outside of the project, accepts an app's code."""

from __future__ import annotations

from pathlib import Path

from tests.support.processes import ROOT, python


def test_an_apps_code_is_typed_throughout(tmp_path: Path) -> None:
    """Outside of the project, so that only ``py.typed`` makes the package's types count."""
    (tmp_path / "app.py").write_text(Path(__file__).with_name("test_app.py").read_text())
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "jwt_middleware").symlink_to(ROOT / "jwt_middleware")
    options = ["--strict", "--warn-unused-ignores", "--no-incremental", "--config-file", "", "--cache-dir", "cache"]
    environment = {"PATH": "", "MYPYPATH": str(tmp_path / "site")}
    assert "Success" in python("-m", "mypy", *options, "app.py", cwd=tmp_path, env=environment)


def test_the_package_declares_that_it_is_typed() -> None:
    assert (ROOT / "jwt_middleware" / "py.typed").exists()
