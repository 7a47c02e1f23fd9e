"""A real Prometheus for a while: Debian's, on a port of its own, ended by its own process id, also on failure."""

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
"""By no proxy: everything is on this machine."""


def program(name: str) -> str:
    """Its path.

    Raises:
        FileNotFoundError: It is not installed.
    """
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is missing: `make debian` installs Debian's packages")
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@dataclass(frozen=True, kw_only=True)
class Server:
    """What it answers; a query in error raises Prometheus's own words."""

    url: str

    def get(self, path: str, **arguments: Any) -> Any:
        try:
            with _OPEN(f"{self.url}/api/v1/{path}?{urlencode(arguments, doseq=True)}", timeout=60) as response:
                return json.load(response)["data"]
        except OSError as error:
            said = error.read().decode() if hasattr(error, "read") else error
            raise RuntimeError(f"{arguments}: {said}") from None

    def instant(self, query: str, at: float | None = None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("query", query=query, **({} if at is None else {"time": at}))["result"]
        return found

    def range(self, query: str, *, start: float, end: float, step: float) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("query_range", query=query, start=start, end=end, step=step)["result"]
        return found

    def wait_for(self, query: str, *, seconds: float) -> list[dict[str, Any]]:
        """The first answer that is not empty."""
        deadline = time.monotonic() + seconds
        while not (found := self.instant(query)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing in {seconds:g} s: {query}")
            time.sleep(0.2)
        return found


@contextlib.contextmanager
def prometheus(
    directory: Path,
    *,
    target: str | None = None,
    rules: Path = RULES,
    alertmanager: str | None = None,
    data: Path | None = None,
) -> Iterator[Server]:
    """It scrapes the target each second, as the job demo, under these rules; or it only serves what data there are."""
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
    """A server of the Prometheus family, once it is ready."""
    log = directory / f"{Path(command[0]).name}.log"
    with log.open("w") as written:
        process = subprocess.Popen(command, stdout=written, stderr=subprocess.STDOUT, cwd=directory)  # noqa: S603 - ours
    try:
        _until_ready(url, process, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), _OPEN(f"{url}/-/ready", timeout=5):
            return
        time.sleep(0.1)
    raise RuntimeError(log.read_text())
