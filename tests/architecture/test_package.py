"""What a user installs: the built wheel alone in a clean environment, with its types, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import jwt_middleware

ROOT = Path(__file__).parents[2]
WITHOUT_EXTRAS = """
import asyncio, importlib.util
from dataclasses import dataclass
from jwt_middleware import Key, KeyRing, MemorySessionStore, SessionAuthority, SessionSchema

assert not any(importlib.util.find_spec(name) for name in ("sqlalchemy", "httpx", "pydantic", "opentelemetry.sdk"))

@dataclass
class Session:
    user_id: str

async def main():
    schema = SessionSchema(Session, version=1, subject="user_id")
    authority = SessionAuthority(schema, keys=KeyRing([Key.hmac("k" * 32)]), store=MemorySessionStore())
    issued = await authority.issue(Session(user_id="7"))
    outcome = await authority.authenticate([(b"authorization", b"Bearer " + issued.token.encode())])
    print(outcome.session)

asyncio.run(main())
"""


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    finished = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", out)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_its_types_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"jwt_middleware"}
    assert "jwt_middleware/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "jwt_middleware").rglob("*.py")}
    assert sources <= set(names)


def test_the_wheel_works_in_a_clean_environment_without_extras(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel)
    assert "Session(user_id='7')" in run(python, "-W", "error", "-c", WITHOUT_EXTRAS, cwd=tmp_path)


def test_every_public_name_is_there_once() -> None:
    assert len(set(jwt_middleware.__all__)) == len(jwt_middleware.__all__)
    assert [name for name in jwt_middleware.__all__ if not hasattr(jwt_middleware, name)] == []
    with pytest.raises(AttributeError, match="'nothing'"):
        _ = jwt_middleware.nothing


@pytest.mark.parametrize("name", ["jwt_middleware.testing", "RemoteKeys", "SQLAlchemyClaims", "SQLAlchemySessionStore"])
def test_an_extra_that_is_not_installed_is_named(name: str) -> None:
    """In a process of its own, in which neither can be imported."""
    extra = {"RemoteKeys": "jwks", "jwt_middleware.testing": "testing"}.get(name, "sqlalchemy")
    asks = f"import {name}" if "." in name else f"from jwt_middleware import {name}"
    script = f"import sys; sys.modules.update(httpx=None, sqlalchemy=None)\n{asks}"
    asked = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert f"pip install 'asgi-jwt-middleware[{extra}]'" in asked.stderr.splitlines()[-1]
