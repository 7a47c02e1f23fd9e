"""One alert walks the whole way: a real Prometheus, a real Alertmanager, and whoever is called by its webhook."""

from __future__ import annotations

import contextlib
import json
import queue
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from dashboards.prometheus import RULES, free_port, program, prometheus, running
from dashboards.rules import RUNBOOK
from jwt_middleware import names
from tests.support.promtool import series

BREAKER = series(names.LOOKUP_BREAKER_OPEN, {names.LOOKUP: "claims"}, job="other", at="other")
"""Scraped labels of these names are kept as ``exported_…``: Prometheus sets its own."""


@contextlib.contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """A server of the test's own; its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def app() -> type[BaseHTTPRequestHandler]:
    """An app whose breaker is open."""

    class App(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = f"{BREAKER} 1\n".encode()
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.send_header("content-length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return App


def pager(calls: queue.Queue[dict[str, Any]]) -> type[BaseHTTPRequestHandler]:
    """Whoever is on call."""

    class Pager(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            calls.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Pager


@contextlib.contextmanager
def alertmanager(directory: Path, webhook: int) -> Iterator[str]:
    """Its address; Debian's, alone, on a port of its own."""
    receiver = {"name": "on call", "webhook_configs": [{"url": f"http://127.0.0.1:{webhook}/"}]}
    route = {"receiver": "on call", "group_by": ["alertname"], "group_wait": "100ms", "group_interval": "1s"}
    path = directory / "alertmanager.yaml"
    path.write_text(yaml.safe_dump({"route": route, "receivers": [receiver]}))
    address = f"127.0.0.1:{free_port()}"
    options = [
        f"--config.file={path}",
        f"--storage.path={directory / 'alertmanager'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    with running([program("prometheus-alertmanager"), *options], f"http://{address}", directory):
        yield address


def test_an_alert_reaches_who_is_on_call_with_all_that_is_to_be_known(tmp_path: Path) -> None:
    calls: queue.Queue[dict[str, Any]] = queue.Queue()
    impatient = tmp_path / "rules.yaml"
    impatient.write_text(re.sub(r"    for: \d+m$", "    for: 1s", RULES.read_text(), flags=re.MULTILINE))
    with (
        serving(pager(calls)) as webhook,
        serving(app()) as port,
        alertmanager(tmp_path, webhook) as address,
        prometheus(tmp_path, target=f"127.0.0.1:{port}", rules=impatient, alertmanager=address),
    ):
        call = calls.get(timeout=60)
    [alert] = call["alerts"]
    instance = f"127.0.0.1:{port}"
    assert (call["status"], call["receiver"]) == ("firing", "on call")
    assert alert["labels"] == {
        "alertname": "JwtBreakerOpen",
        "severity": "ticket",
        "job": "demo",
        "instance": instance,
        "jwt_middleware_lookup": "claims",
    }
    assert alert["annotations"]["summary"] == f"{instance} of demo leaves the claims database alone"
    assert alert["annotations"]["runbook_url"] == f"{RUNBOOK}#jwtbreakeropen"
