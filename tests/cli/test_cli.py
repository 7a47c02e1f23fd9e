"""``python -m jwt_middleware``: one line, and an exit code that a nightly job can trust."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from jwt_middleware import SQLAlchemySessionStore
from jwt_middleware.cli import main, purge
from tests.support.stores import log_in, record

DAY = timedelta(days=1)


def filled(url: str) -> str:
    """A database with a session that is alive, five that expired, and a mark; its URL."""

    async def fill() -> None:
        engine = create_async_engine(url)
        store = SQLAlchemySessionStore(engine)
        await store.create_all()
        await log_in(store)
        for days in (1, 2, 31, 40, 50):
            ended = datetime.now(UTC) - days * DAY
            await store.add(record(began=(ended - 7 * DAY).timestamp(), expires_at=ended, is_active=days != 40))
        await store.revoke_user("8")
        await engine.dispose()

    asyncio.run(fill())
    return url


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit code and the one line."""
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = int(ended.code or 0)
    out, err = capsys.readouterr()
    line, other = (err, out) if code == 2 else (out, err)
    assert other == ""
    assert line.count("\n") == 1
    return code, line.rstrip("\n")


def test_what_expired_long_ago_is_deleted_and_counted(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    url = filled(database_url)
    assert said(capsys, "purge", "--database", url) == (0, "deleted: sessions 3, marks 0")
    assert said(capsys, "purge", "--database", url) == (0, "deleted: sessions 0, marks 0")
    every = ("purge", "--database", url, "--older-than", "36h", "--chunk", "1")
    assert said(capsys, *every) == (0, "deleted: sessions 1, marks 0")


def test_marks_go_where_the_longest_token_is_told(sqlite_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    url = filled(sqlite_url)
    assert said(capsys, "purge", "--database", url, "--longest-token", "45d") == (0, "deleted: sessions 2, marks 0")
    assert said(capsys, "purge", "--database", url, "--longest-token", "0s") == (0, "deleted: sessions 1, marks 1")


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("", "that is no database URL with an async driver: write postgresql+asyncpg://user@host/database"),
        ("s3cret", "that is no database URL with an async driver"),
        ("postgresql+asyncpg://u:s3cret@h:port/d", "that is no database URL with an async driver"),
        ("sqlite:///s3cret", "that is no database URL with an async driver"),
        ("postgresql+nothing://u:s3cret@h/d", "that is no database URL with an async driver"),
        ("mysql+aiomysql://u:s3cret@h/d", "the driver of that database URL is not installed"),
        ("postgresql+asyncpg://u:s3cret@127.0.0.1:1/d?password=s3cret", "127.0.0.1/d does not answer, or has no table"),
        ("sqlite+aiosqlite:////nowhere/at/all", "there is no SQLite file '/nowhere/at/all'"),
        ("sqlite+aiosqlite://", "there is no SQLite file ''"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line_without_the_password(
    url: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = said(capsys, "purge", "--database", url)
    assert code == 2
    assert told.startswith(f"jwt_middleware: {line}")
    assert "s3cret" not in told


def test_a_database_without_the_tables_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "empty.db"
    path.touch()
    told = said(capsys, "purge", "--database", f"sqlite+aiosqlite:///{path}")
    assert told == (2, f"jwt_middleware: {path} does not answer, or has no table user_sessions")
    assert path.read_bytes() == b""


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "jwt_middleware: the following arguments are required: COMMAND"),
        (["nothing"], "jwt_middleware: argument COMMAND: invalid choice: 'nothing'"),
        (["purge"], "jwt_middleware purge: the following arguments are required: --database"),
        (
            ["purge", "--database", "x", "--older-than", "soon"],
            "jwt_middleware purge: argument --older-than: 'soon' is",
        ),
        (["purge", "--database", "x", "--older-than", "-1d"], "jwt_middleware purge: argument --older-than: expected"),
        (["purge", "--database", "x", "--older-than", "99999d"], "jwt_middleware: Retention: times must not be"),
        (["purge", "--database", "x", "--longest-token", "1w"], "jwt_middleware purge: argument --longest-token: '1w'"),
        (["purge", "--database", "x", "--chunk", "0"], "jwt_middleware: Retention: a chunk has 1 to 10,000 rows"),
        (["purge", "--database", "x", "--chunk", "many"], "jwt_middleware purge: argument --chunk: invalid int value"),
    ],
)
def test_a_bad_argument_is_one_line(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = said(capsys, *arguments)
    assert code == 2
    assert told.startswith(line)


def test_without_sqlalchemy_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "jwt_middleware.cli.database", None)
    code, told = said(capsys, "purge", "--database", "x")
    assert (code, told.split(":")[1]) == (2, " install SQLAlchemy for it")


def test_an_interruption_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(purge, "_purge", interrupted)
    assert main(["purge", "--database", "x"]) == 130


def test_it_is_a_command(tmp_path: Path) -> None:
    """Warnings are errors: whatever it opens is closed."""
    url = filled(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}")
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-m", "jwt_middleware", "purge", "--database", url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (finished.stdout, finished.stderr) == ("deleted: sessions 3, marks 0\n", "")
    assert finished.returncode == 0
