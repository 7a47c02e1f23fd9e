"""A real Prometheus (Debian's) for tests and simulations: start it, query it, end it.

It listens on a free port, and its process ends with the context manager, also on failure.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

import yaml

from . import GENERATED

RULES: Final = GENERATED / "jwt-rules.yaml"
_OPEN: Final = build_opener(ProxyHandler({})).open
"""Without a proxy: every server is on this machine."""


def program(name: str) -> str:
    """The path of an installed program.

    Raises:
        FileNotFoundError: The program is not installed.
    """
    path = shutil.which(name)
    if path is None:
        raise FileNotFoundError(f"{name} is not installed; `make debian` installs Debian's packages")
    return path


def free_port() -> int:
    """A port of 127.0.0.1 that no server listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@dataclass(frozen=True, kw_only=True)
class Server:
    """The HTTP API of a running Prometheus.

    Raises:
        RuntimeError: The query fails; with Prometheus's own message.
    """

    url: str

    def get(self, path: str, **arguments: Any) -> Any:
        try:
            with _OPEN(f"{self.url}/api/v1/{path}?{urlencode(arguments, doseq=True)}", timeout=60) as response:
                return json.load(response)["data"]
        except OSError as error:
            message = error.read().decode() if hasattr(error, "read") else error
            raise RuntimeError(f"{arguments}: {message}") from None

    def instant(self, query: str, at: float | None = None) -> list[dict[str, Any]]:
        """The series of a query at one moment; now by default."""
        series: list[dict[str, Any]] = self.get("query", query=query, **({} if at is None else {"time": at}))["result"]
        return series

    def range(self, query: str, *, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """The series of a query over a time range; all times in seconds."""
        series: list[dict[str, Any]] = self.get("query_range", query=query, start=start, end=end, step=step)["result"]
        return series

    def wait_for(self, query: str, *, seconds: float) -> list[dict[str, Any]]:
        """The first result that is not empty.

        Raises:
            TimeoutError: The result is empty for that long.
        """
        deadline = time.monotonic() + seconds
        while not (series := self.instant(query)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no result within {seconds:g} s: {query}")
            time.sleep(0.2)
        return series


@contextlib.contextmanager
def prometheus(
    directory: Path,
    *,
    target: str | None = None,
    rules: Path = RULES,
    alertmanager: str | None = None,
    data: Path | None = None,
) -> Iterator[Server]:
    """Start a Prometheus. With a target it scrapes it each second as job ``demo`` and evaluates the rules.

    Without a target it only serves the blocks in ``data``.
    """
    configuration: dict[str, Any] = {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}}
    if target:
        configuration["rule_files"] = [str(rules)]
        configuration["scrape_configs"] = [{"job_name": "demo", "static_configs": [{"targets": [target]}]}]
    if alertmanager:
        configuration["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
    path = directory / "prometheus.yaml"
    path.write_text(yaml.safe_dump(configuration))
    address = f"127.0.0.1:{free_port()}"
    options = [
        f"--config.file={path}",
        f"--storage.tsdb.path={data or directory / 'tsdb'}",
        "--storage.tsdb.retention.time=100y",
        f"--web.listen-address={address}",
    ]
    with running([program("prometheus"), "--log.level=warn", *options], f"http://{address}", directory):
        yield Server(url=f"http://{address}")


@contextlib.contextmanager
def running(command: list[str], url: str, directory: Path) -> Iterator[None]:
    """Run a server of the Prometheus family; the block begins when the server is ready.

    Raises:
        RuntimeError: It does not become ready; with its log.
    """
    log = directory / f"{Path(command[0]).name}.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=directory)  # noqa: S603 - ours
    try:
        _wait_until_ready(url, process, log)
        yield
    finally:
        end_process(process)


def end_process(process: subprocess.Popen[Any]) -> None:
    """Terminate the process; kill it if it does not end within 20 seconds."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), _OPEN(f"{url}/-/ready", timeout=5):
            return
        time.sleep(0.1)
    raise RuntimeError(log.read_text())
