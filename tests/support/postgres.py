"""A PostgreSQL server for the tests: a cluster in a temporary directory, stopped at the end of the run.

If `TEST_POSTGRES_URL` is set, its server is used instead; its user must be allowed to create databases.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg

ABSENT = (
    "No PostgreSQL for the tests. Install one (`apt-get install postgresql`; its server need not run), or set "
    "TEST_POSTGRES_URL=postgresql://user:password@host:port/postgres to a server whose user may create databases."
)


def binaries() -> Path | None:
    """The directory of the newest `initdb` of this machine, Debian's or that of the PATH."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    initdb = str(debian[-1]) if debian else shutil.which("initdb")
    return Path(initdb).parent if initdb else None


def _run(*command: str | Path) -> None:
    """Run a command, as `postgres` if we are root, because PostgreSQL refuses root; its output is in the error."""
    words = [str(word) for word in command]
    if os.geteuid() == 0:
        words = ["runuser", "-u", "postgres", "--", *words]
    # not a pipe: the server would inherit it, and we would wait for the server to end
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", check=False)
        if done.returncode:
            output.seek(0)
            raise RuntimeError(f"{words} failed:\n{output.read().decode(errors='replace')}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def cluster() -> Iterator[str]:
    """The URL of a running server (database `postgres`), stopped and removed at the end in any case."""
    configured = os.environ.get("TEST_POSTGRES_URL")
    if configured:
        yield configured.replace("postgresql+asyncpg://", "postgresql://")
        return
    bin_dir = binaries()
    if bin_dir is None:
        raise RuntimeError(ABSENT)
    home = Path(tempfile.mkdtemp(prefix="jwt-pg-"))
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        os.chown(home, owner.pw_uid, owner.pw_gid)
    data = home / "data"
    try:
        _run(bin_dir / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        settings = "-c listen_addresses=127.0.0.1 -c max_connections=200"
        settings += " -c fsync=off -c synchronous_commit=off -c full_page_writes=off"
        start: list[str | Path] = [bin_dir / "pg_ctl", "-D", data, "-w", "-t", "60", "-l", home / "log", "start", "-o"]
        port = _free_port()
        try:
            _run(*start, f"-p {port} -k {home} {settings}")
        except RuntimeError:  # another process may have taken the port
            port = _free_port()
            _run(*start, f"-p {port} -k {home} {settings}")
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    finally:
        if (data / "postmaster.pid").exists():
            _run(bin_dir / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def fresh_database(server: str) -> Iterator[str]:
    """The asyncpg URL of a new, empty database; dropped at the end, with its open connections."""
    name = f"test_{uuid.uuid4().hex}"
    _execute(server, f"CREATE DATABASE {name}")
    try:
        base, _, query = server.partition("?")
        url = f"{base.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")
        yield url.replace("postgresql://", "postgresql+asyncpg://", 1)
    finally:
        _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


def _execute(server: str, statement: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(server)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())
