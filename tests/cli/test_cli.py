"""``python -m jwt_middleware``: one line, and an exit code that a nightly job can trust."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jwt_middleware.cli import main, purge
from jwt_middleware.cli.arguments import duration
from tests.support.processes import python
from tests.support.stores import log_in, opened, record

DAY = timedelta(days=1)
NOT_A_URL = "--database must be a database URL with an async driver; use postgresql+asyncpg://user@host/database"
Run = Callable[..., tuple[int, str]]


async def fill(url: str) -> None:
    """Create the tables with an active session, five expired ones, and a mark."""
    async with opened(url) as store:
        await log_in(store)
        for days in (1, 2, 31, 40, 50):
            ended = datetime.now(UTC) - days * DAY
            await store.add(record(began=(ended - 7 * DAY).timestamp(), expires_at=ended, is_active=days != 40))
        await store.revoke_user("8")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command; the exit code, and the only line it writes: to stderr after an error, else to stdout."""

    def command(*arguments: str) -> tuple[int, str]:
        try:
            code = main(arguments)
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        line, other = (err, out) if code == 2 else (out, err)
        assert (line.count("\n"), other) == (1, "")
        return code, line.rstrip("\n")

    return command


def test_purge_deletes_and_counts_expired_sessions(database_url: str, run: Run) -> None:
    asyncio.run(fill(database_url))
    assert run("purge", "--database", database_url) == (0, "deleted: sessions 3, marks 0")
    assert run("purge", "--database", database_url) == (0, "deleted: sessions 0, marks 0")
    more = ("purge", "--database", database_url, "--older-than", "36h", "--chunk", "1")
    assert run(*more) == (0, "deleted: sessions 1, marks 0")


def test_purge_deletes_marks_if_the_longest_token_is_given(sqlite_url: str, run: Run) -> None:
    asyncio.run(fill(sqlite_url))
    command = ("purge", "--database", sqlite_url, "--longest-token")
    assert run(*command, "45d") == (0, "deleted: sessions 2, marks 0")
    assert run(*command, "0s") == (0, "deleted: sessions 1, marks 1")


def test_an_unusable_database_is_one_line_without_the_password(run: Run, subtests: pytest.Subtests) -> None:
    for url, line in [
        *((url, NOT_A_URL) for url in ("", "s3cret", "sqlite:///s3cret")),
        *((f"postgresql+{url}", NOT_A_URL) for url in ("asyncpg://u:s3cret@h:port/d", "nothing://u:s3cret@h/d")),
        ("mysql+aiomysql://u:s3cret@h/d", "the driver of the database URL is not installed"),
        ("postgresql+asyncpg://u:s3cret@127.0.0.1:1/d?password=s3cret", "127.0.0.1/d is not reachable or has no table"),
        ("sqlite+aiosqlite:////nowhere/at/all", "there is no SQLite file '/nowhere/at/all'"),
        ("sqlite+aiosqlite://", "there is no SQLite file ''"),
    ]:
        with subtests.test(url=url):
            code, output = run("purge", "--database", url)
            assert code == 2
            assert output.startswith(f"jwt_middleware: {line}")
            assert "s3cret" not in output


def test_a_database_without_the_tables_is_one_line(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "empty.db"
    path.touch()
    output = run("purge", "--database", f"sqlite+aiosqlite:///{path}")
    assert output == (2, f"jwt_middleware: {path} is not reachable or has no table user_sessions")
    assert path.read_bytes() == b""


def test_a_bad_argument_is_one_line(run: Run, subtests: pytest.Subtests) -> None:
    for arguments, line in [
        ("", "jwt_middleware: the following arguments are required: COMMAND; see --help"),
        ("nothing", "jwt_middleware: argument COMMAND: invalid choice: 'nothing'"),
        ("purge", "jwt_middleware purge: the following arguments are required: --database"),
        ("purge --database x --older-than soon", "jwt_middleware purge: argument --older-than: 'soon' is not a dur"),
        ("purge --database x --older-than -1d", "jwt_middleware purge: argument --older-than: expected"),
        ("purge --database x --older-than 99999d", "jwt_middleware: Retention"),
        ("purge --database x --longest-token 1w", "jwt_middleware purge: argument --longest-token: '1w'"),
        ("purge --database x --chunk 0", "jwt_middleware: Retention"),
        ("purge --database x --chunk many", "jwt_middleware purge: argument --chunk: invalid int value"),
    ]:
        with subtests.test(arguments=arguments):
            code, output = run(*arguments.split())
            assert code == 2
            assert output.startswith(line)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("45s", timedelta(seconds=45)),
        ("3m", timedelta(minutes=3)),
        ("1h", timedelta(hours=1)),
        ("7d", timedelta(days=7)),
    ],
)
def test_a_duration_is_a_number_and_its_unit(text: str, length: timedelta) -> None:
    assert duration(text) == length


def test_without_sqlalchemy_purge_names_what_to_install(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setitem(sys.modules, "jwt_middleware.cli.database", None)
    code, output = run("purge", "--database", "x")
    assert (code, output.split(";")[0]) == (2, "jwt_middleware: purge needs SQLAlchemy")


def test_an_interruption_is_an_exit_code_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(purge, "_purge", interrupt)
    assert main(["purge", "--database", "x"]) == 130


async def test_the_package_is_a_command_that_closes_what_it_opens(sqlite_url: str) -> None:
    await fill(sqlite_url)
    assert python("-m", "jwt_middleware", "purge", "--database", sqlite_url) == "deleted: sessions 3, marks 0\n"
