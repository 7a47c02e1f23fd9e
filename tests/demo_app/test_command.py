"""The command as it is typed, in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.postgres import fresh_database

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-W", "error", "-m", "demo_app"]


def environment(directory: Path) -> dict[str, str]:
    """Temporary files of the command go where the test sees whether they are gone."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return {**kept, "PYTHONPATH": str(ROOT), "TMPDIR": str(directory)}


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=environment(directory),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@contextmanager
def started(directory: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=environment(directory),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@dataclass(frozen=True)
class Migrated:
    """A whole migration without a terminal, when it has ended."""

    status: int
    lines: list[str]
    errors: str
    left_behind: list[Path]

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.lines[-1])
        return report


@pytest.fixture(scope="module")
def migrations(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Migrated]]:
    """Three at once, because each takes its window; the third has next to no users."""
    with fresh_database(postgres_server) as postgres, ExitStack() as stack:
        wanted = {
            "sqlite": (),
            "postgresql": ("--database", postgres),
            "deserted": ("--release-after", "1s", "--users", "1", "--rate", "0.001"),
        }
        directories = {name: tmp_path_factory.mktemp(name) for name in wanted}
        processes = {
            name: stack.enter_context(
                started(directories[name], "--headless", "--window", "10s", "--port", "0", *arguments)
            )
            for name, arguments in wanted.items()
        }
        ended = {}
        for name, process in processes.items():
            output, errors = process.communicate(timeout=90)
            ended[name] = Migrated(process.returncode, output.splitlines(), errors, list(directories[name].iterdir()))
        yield ended


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_whole_migration_keeps_its_promises(migrations: dict[str, Migrated], database: str) -> None:
    ended = migrations[database]
    report = ended.report
    assert (ended.status, ended.errors, ended.left_behind) == (0, "", []), report["failures"]
    assert len(ended.lines) > 20
    assert all("requests" in line for line in ended.lines)
    assert (report["ok"], report["failures"], report["honest_users_refused"]) == (True, [], 0)
    assert report["metrics"] == report["traffic"]
    assert report["fallbacks"] > 0
    assert report["fallback_rate"] == 0


def test_a_migration_that_breaks_a_promise_says_which_and_fails(migrations: dict[str, Migrated]) -> None:
    ended = migrations["deserted"]
    assert (ended.status, ended.report["ok"]) == (1, False)
    assert "nothing was accepted at the end: no data is not zero" in ended.report["failures"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--window", "3x"],
        ["--window", "1s"],
        ["--port", "99999"],
        ["--users", "many"],
        ["--bogus"],
        ["--database", "mysql://x"],
        ["--port", "0", "--database", "/nonexistent/demo.db"],
        ["--port", "0", "--log", "/nonexistent/log"],
        ["--port", "0", "--database", "postgresql+asyncpg://someone:hunter2@127.0.0.1:1/nothing"],
    ],
)
def test_what_cannot_work_is_one_line_and_exit_code_two(tmp_path: Path, arguments: list[str]) -> None:
    finished = run(tmp_path, *arguments)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert re.fullmatch(r"demo_app: .+\n", finished.stderr)
    assert "hunter2" not in finished.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_one_line_and_exit_code_two(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        finished = run(tmp_path, "--port", str(port))
    assert finished.returncode == 2
    assert finished.stderr.startswith(f"demo_app: --port {port} cannot be used")
    assert finished.stderr.count("\n") == 1


def test_help_names_every_argument(tmp_path: Path) -> None:
    finished = run(tmp_path, "--help")
    assert finished.returncode == 0
    for name in ("--window", "--release-after", "--headless", "--port", "--database", "--users", "--rate", "--log"):
        assert name in finished.stdout


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_everything_and_frees_the_port(tmp_path: Path, end: signal.Signals) -> None:
    with started(tmp_path, "--window", "10s", "--port", "0") as process:
        assert process.stdout is not None
        banner = process.stdout.readline()
        url = banner.split()[0]
        assert "user1@example.com" in banner
        assert httpx.get(f"{url}/healthz", trust_env=False).json() == {"database": "ok"}
        while "old 100 %" not in process.stdout.readline():
            assert process.poll() is None
        os.killpg(process.pid, end)
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")
    port = int(url.rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    assert list(tmp_path.iterdir()) == []
