"""The demo's exporters and its log, with the recent events that the live page shows."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import structlog

from demo_app.telemetry import MOST_EVENTS, RecentEvents, log_json
from jwt_middleware import names
from tests.support.demo import demo_of
from tests.support.webserver import webserver


async def test_spans_and_metrics_go_where_the_standard_variables_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with webserver() as (address, posts):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{address}")
        async with demo_of(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{address}") as demo:
            await demo.log_in()
            await demo.http.get("/me")
    assert {path for path, _ in posts.queue} == {"/v1/traces", "/v1/metrics"}


def test_every_event_is_a_line_of_json() -> None:
    stream = io.StringIO()
    log_json(stream)
    structlog.get_logger("anything").warning("something", count=1)
    event = json.loads(stream.getvalue())
    assert (event["event"], event["level"], event["count"]) == ("something", "warning", 1)


def fallback(events: RecentEvents, **more: object) -> None:
    events(None, "info", {"event": names.EVENT_FALLBACK, "claims": ["email"], **more})


def test_the_package_s_events_are_kept_and_the_log_has_all_events() -> None:
    events, stream = RecentEvents(), io.StringIO()
    log_json(stream, events)
    structlog.get_logger(names.SCOPE).warning(names.EVENT_REFUSED, reason="token_expired", status=401)
    structlog.get_logger("another").info("something", email="ada@example.com")
    [event] = events.since(0, limit=9)
    assert (event["number"], event["event"], event["level"]) == (1, names.EVENT_REFUSED, "warning")
    assert (event["reason"], event["status"]) == ("token_expired", 401)
    assert event["timestamp"]
    assert len(stream.getvalue().splitlines()) == 2


def test_only_fields_without_personal_data_are_kept() -> None:
    events = RecentEvents()
    fallback(events, email="ada@example.com", trace_id="0af7", minted=None)
    assert events.since(0, limit=9) == [{"number": 1, "event": names.EVENT_FALLBACK, "claims": ["email"]}]


def test_only_newer_events_are_returned_and_the_newest_of_many() -> None:
    events = RecentEvents()
    for _ in range(5):
        fallback(events)
    assert [event["number"] for event in events.since(3, limit=9)] == [4, 5]
    assert [event["number"] for event in events.since(0, limit=2)] == [4, 5]
    assert events.since(5, limit=9) == []


def test_the_number_of_kept_events_is_bounded() -> None:
    events = RecentEvents()
    for _ in range(MOST_EVENTS + 3):
        fallback(events)
    kept = events.since(0, limit=10 * MOST_EVENTS)
    assert (len(kept), kept[0]["number"]) == (MOST_EVENTS, 4)
