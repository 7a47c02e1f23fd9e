from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import structlog

from demo_app.telemetry import log_json
from tests.support.demo import stage


@pytest.fixture
def collector() -> Iterator[tuple[str, set[str]]]:
    """Its address, and the paths that something was sent to."""
    received: set[str] = set()

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            received.add(self.path)
            self.send_response(200)
            self.end_headers()

        def log_request(self, code: object = "-", size: object = "-") -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    server.server_close()
    thread.join()


def test_spans_and_metrics_go_where_the_standard_variables_say(
    tmp_path: Path, collector: tuple[str, set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, received = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)

    async def scene() -> None:
        async with stage(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=address) as on:
            await on.log_in()
            await on.http.get("/me")

    asyncio.run(scene())
    assert received == {"/v1/traces", "/v1/metrics"}


def test_every_event_is_a_line_of_json() -> None:
    stream = io.StringIO()
    log_json(stream)
    structlog.get_logger("anything").warning("something", count=1)
    event = json.loads(stream.getvalue())
    assert (event["event"], event["level"], event["count"]) == ("something", "warning", 1)
