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
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

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


def migrated(directory: Path, *arguments: str) -> dict[str, object]:
    """A whole migration, without a terminal: the JSON object of its last line."""
    finished = run(directory, "--headless", "--window", "10s", "--port", "0", *arguments)
    *lines, last = finished.stdout.splitlines()
    assert finished.returncode == 0, last + finished.stderr
    assert finished.stderr == ""
    assert len(lines) >= 20
    assert all("requests" in line for line in lines)
    assert list(directory.iterdir()) == []
    report: dict[str, object] = json.loads(last)
    return report


def test_a_whole_migration_keeps_its_promises(tmp_path: Path) -> None:
    report = migrated(tmp_path)
    assert (report["ok"], report["failures"], report["honest_users_refused"]) == (True, [], 0)
    assert report["metrics"] == report["traffic"]
    assert isinstance(report["fallbacks"], int)
    assert report["fallbacks"] > 0
    assert report["fallback_rate"] == 0


def test_a_whole_migration_keeps_its_promises_on_postgresql(tmp_path: Path, postgres_url: str) -> None:
    report = migrated(tmp_path, "--database", postgres_url)
    assert (report["ok"], report["metrics"]) == (True, report["traffic"])


def test_a_migration_that_breaks_a_promise_says_which_and_fails(tmp_path: Path) -> None:
    finished = run(
        tmp_path, "--headless", "--window", "10s", "--release-after", "1s", "--users", "1", "--rate", "0.001",
        "--port", "0",
    )  # fmt: skip
    report = json.loads(finished.stdout.splitlines()[-1])
    assert finished.returncode == 1
    assert not report["ok"]
    assert "nothing was accepted at the end: no data is not zero" in report["failures"]


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
