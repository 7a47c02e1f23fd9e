"""The command in a process of its own, as a user types it."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo_app.__main__ import _parser
from tests.support.demo import command
from tests.support.postgres import fresh_database

pytestmark = pytest.mark.server

PATIENCE = 180
"""Seconds until a command that hangs fails its test."""


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    with command(*arguments, temporary=directory) as process:
        output, errors = process.communicate(timeout=PATIENCE)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


@dataclass(frozen=True)
class Migrated:
    """A whole migration without a terminal, after its end."""

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
        # Also on a slow machine: users have old tokens by the release, and the window leaves seconds of slack.
        late = ("--release-after", "8s")
        wanted = {
            "sqlite": late,
            "postgresql": (*late, "--database", postgres),
            "deserted": ("--release-after", "1s", "--users", "1", "--rate", "0.001"),
        }
        directories = {name: tmp_path_factory.mktemp(name) for name in wanted}
        common = ("--headless", "--window", "30s", "--port", "0", "--users", "20", "--rate", "10")
        processes = {
            name: stack.enter_context(command(*common, *arguments, temporary=directories[name]))
            for name, arguments in wanted.items()
        }
        ended = {}
        for name, process in processes.items():
            output, errors = process.communicate(timeout=PATIENCE)
            ended[name] = Migrated(process.returncode, output.splitlines(), errors, list(directories[name].iterdir()))
        yield ended


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_whole_migration_keeps_its_promises(migrations: dict[str, Migrated], database: str) -> None:
    ended = migrations[database]
    report = ended.report
    assert (ended.status, ended.errors, ended.left_behind) == (0, "", []), report["failures"]
    progress = ended.lines[:-1]
    assert progress
    assert all("requests" in line for line in progress)
    assert (report["ok"], report["failures"], report["users_refused"]) == (True, [], 0)
    assert report["metrics"] == report["traffic"]
    assert report["fallbacks"] > 0
    assert report["fallback_rate"] == 0


def test_a_migration_that_breaks_a_promise_says_which_and_fails(migrations: dict[str, Migrated]) -> None:
    ended = migrations["deserted"]
    assert (ended.status, ended.report["ok"]) == (1, False)
    assert "no request was accepted at the end: no data is not zero" in ended.report["failures"]


@pytest.mark.parametrize(("text", "seconds"), [("45s", 45), ("3m", 180), ("1h", 3_600), ("7d", 604_800)])
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert _parser().parse_args(["--window", text]).window == seconds


@pytest.mark.parametrize("text", ["", "3", "3x", "-3s", "1.5h", "3 m", "s", "٣s"])
def test_anything_else_is_not_a_duration(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _parser().parse_args([f"--window={text}"])
    assert "45s, 3m, 1h or 7d" in capsys.readouterr().err


def test_an_unusable_argument_is_one_line_and_exit_code_two(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for arguments in [
        ["--window", "3x"],
        ["--window", "1s"],
        ["--window", "0s"],
        ["--port", "99999"],
        ["--users", "many"],
        ["--bogus"],
        ["--database", "mysql://x"],
        ["--port", "0", "--database", "/nonexistent/demo.db"],
        ["--port", "0", "--log", "/nonexistent/log"],
        ["--port", "0", "--database", "postgresql+asyncpg://someone:hunter2@127.0.0.1:1/nothing"],
    ]:
        with subtests.test(arguments=arguments):
            finished = run(tmp_path, *arguments)
            assert finished.returncode == 2
            assert finished.stdout == ""
            assert re.fullmatch(r"demo_app: .+\n", finished.stderr)
            assert "hunter2" not in finished.stderr
            assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_one_line_and_exit_code_two(tmp_path: Path) -> None:
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
    with command("--window", "10s", "--release-after", "10s", "--port", "0", temporary=tmp_path) as process:
        assert process.stdout is not None
        banner = process.stdout.readline()
        url = banner.split()[0]
        assert "user1@example.com" in banner
        assert httpx.get(f"{url}/healthz", trust_env=False, timeout=60).json() == {"database": "ok"}
        while "old 100 %" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(end)
        _, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, errors) == (0, "")
    port = int(url.rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    assert list(tmp_path.iterdir()) == []
