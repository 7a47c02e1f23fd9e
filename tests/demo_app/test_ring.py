from __future__ import annotations

import io

import structlog

from demo_app.ring import MOST, Ring
from demo_app.telemetry import log_json
from jwt_middleware import names


def fallback(ring: Ring, **more: object) -> None:
    ring(None, "info", {"event": names.EVENT_FALLBACK, "claims": ["email"], **more})


def test_the_ring_keeps_what_the_package_logs_and_the_log_has_it_too() -> None:
    ring, stream = Ring(), io.StringIO()
    log_json(stream, ring)
    structlog.get_logger(names.SCOPE).warning(names.EVENT_REFUSED, reason="token_expired", status=401)
    structlog.get_logger("another").info("something", email="ada@example.com")
    kept = ring.since(0, most=9)
    assert [(event["number"], event["event"], event["level"]) for event in kept] == [
        (1, names.EVENT_REFUSED, "warning")
    ]
    assert (kept[0]["reason"], kept[0]["status"]) == ("token_expired", 401)
    assert kept[0]["timestamp"]
    assert len(stream.getvalue().splitlines()) == 2


def test_a_field_that_is_not_known_to_name_nobody_is_not_kept() -> None:
    ring = Ring()
    fallback(ring, email="ada@example.com", trace_id="0af7", minted=None)
    assert ring.since(0, most=9) == [{"number": 1, "event": names.EVENT_FALLBACK, "claims": ["email"]}]


def test_only_what_is_newer_is_told_and_of_much_only_the_newest() -> None:
    ring = Ring()
    for _ in range(5):
        fallback(ring)
    assert [event["number"] for event in ring.since(3, most=9)] == [4, 5]
    assert [event["number"] for event in ring.since(0, most=2)] == [4, 5]
    assert ring.since(5, most=9) == []


def test_the_ring_is_bounded() -> None:
    ring = Ring()
    for _ in range(MOST + 3):
        fallback(ring)
    kept = ring.since(0, most=10 * MOST)
    assert (len(kept), kept[0]["number"]) == (MOST, 4)
