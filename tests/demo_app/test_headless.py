"""The report of a headless run: each broken promise is a failure."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from demo_app.headless import Report
from demo_app.settings import Settings
from demo_app.traffic import Counts
from demo_app.watch import Scrape
from tests.demo_app.test_terminal import FIGURES
from tests.support.world import EPOCH

PAGE = """
jwt_middleware_requests_total{jwt_middleware_result="accepted",jwt_middleware_payload_version="1"} 4
jwt_middleware_requests_total{jwt_middleware_result="accepted",jwt_middleware_payload_version="2"} 7
jwt_middleware_requests_total{jwt_middleware_result="refused",error_type="token_expired"} 1
jwt_middleware_fallbacks_total{jwt_middleware_payload_version="1"} 4
jwt_middleware_tokens_issued_total{jwt_middleware_payload_version="1"} 2
jwt_middleware_tokens_issued_total{jwt_middleware_payload_version="2"} 3
jwt_middleware_sessions_revocations_total{jwt_middleware_scope="session"} 1
"""
COUNTS = Counts(
    accepted=Counter({1: 4, 2: 7}), fallbacks=4, expired=1, logins=Counter({1: 2, 2: 3}), logouts=1, saves=3
)
REPORT = Report(
    settings=Settings(window=180),
    released_at=EPOCH,
    counts=COUNTS,
    scrape=Scrape.parse(PAGE, at=EPOCH + 200),
    figures=FIGURES,
    saved=3,
    saved_by_unknown=0,
)


def test_a_run_without_failures_is_ok() -> None:
    content = REPORT.content()
    assert (content["ok"], content["failures"]) == (True, [])
    assert content["metrics"] == content["traffic"]
    assert content["last_fallback_after_release_s"] == 150


def test_each_broken_promise_is_a_failure(subtests: pytest.Subtests) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        (
            {"counts": replace(COUNTS, refused=Counter({"401 /me": 2}))},
            "users with valid tokens were refused: 401 /me (2 times)",
        ),
        ({"counts": replace(COUNTS, failures=1)}, "1 requests had no response"),
        ({"counts": replace(COUNTS, without_email=1)}, "1 requests did not see the user's email"),
        (
            {"counts": replace(COUNTS, accepted=Counter({1: 5, 2: 7}))},
            "accepted_v1: the users counted 5, the metrics say 4",
        ),
        ({"counts": replace(COUNTS, logouts=0)}, "revoked: the users counted 0, the metrics say 1"),
        ({"saved_by_unknown": 1}, "3 saves, 3 rows, 1 of them with an unknown email"),
        ({"saved": 2}, "3 saves, 2 rows, 0 of them with an unknown email"),
        ({"released_at": None}, "there was no release"),
        ({"figures": replace(FIGURES, last_fallback=None)}, "the fallback did not fire after the release"),
        ({"figures": replace(FIGURES, last_fallback=EPOCH - 1)}, "the fallback did not fire after the release"),
        (
            {"figures": replace(FIGURES, last_fallback=EPOCH + 201)},
            "the fallback still fired after the window plus a tenth",
        ),
        ({"figures": replace(FIGURES, fallback_rate=0.001)}, "the fallback's rate did not reach zero"),
        ({"figures": replace(FIGURES, fallback_rate=None)}, "no request was accepted at the end: no data is not zero"),
        ({"figures": replace(FIGURES, accepted=0)}, "no request was accepted"),
    ]
    for changes, failure in cases:
        with subtests.test(changes=changes):
            content = replace(REPORT, **changes).content()
            assert not content["ok"]
            assert failure in content["failures"]
