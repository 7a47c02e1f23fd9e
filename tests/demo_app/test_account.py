from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from demo_app.account import Account
from demo_app.lines import clock, line, sentence, share
from demo_app.scrape import Scrape
from demo_app.settings import Settings
from demo_app.traffic import Counts
from demo_app.watch import Figures
from jwt_middleware import Verdict
from tests.support.world import EPOCH

FIGURES = Figures(
    at=EPOCH + 200,
    requests=12,
    accepted=11,
    per_second=2.0,
    old_share=0.0,
    fallbacks=4,
    fallback_rate=0.0,
    last_fallback=EPOCH + 150,
    expired=1,
    refused=0,
    planned_sunset=EPOCH + 180,
    latest_expiry=EPOCH + 178,
    sunset=EPOCH + 180,
    queries=2,
    verdict=Verdict.DRAINED,
)
PAGE = """
jwt_middleware_requests_total{jwt_middleware_result="accepted",jwt_middleware_payload_version="1"} 4
jwt_middleware_requests_total{jwt_middleware_result="accepted",jwt_middleware_payload_version="2"} 7
jwt_middleware_requests_total{jwt_middleware_result="refused",error_type="token_expired"} 1
jwt_middleware_fallbacks_total{jwt_middleware_payload_version="1"} 4
jwt_middleware_tokens_issued_total{jwt_middleware_payload_version="1"} 2
jwt_middleware_tokens_issued_total{jwt_middleware_payload_version="2"} 3
jwt_middleware_sessions_revocations_total{jwt_middleware_scope="session"} 1
"""


def account(*, counts: dict[str, Any] | None = None, figures: dict[str, Any] | None = None, **other: Any) -> Account:
    kept = {
        "accepted": Counter({1: 4, 2: 7}),
        "fallbacks": 4,
        "expired": 1,
        "logins": Counter({1: 2, 2: 3}),
        "logouts": 1,
        "saves": 3,
    }
    return Account(
        **{
            "settings": Settings(window=180),
            "released_at": EPOCH,
            "counts": Counts(**{**kept, **(counts or {})}),
            "scrape": Scrape.parse(PAGE, at=EPOCH + 200),
            "figures": replace(FIGURES, **(figures or {})),
            "saved": 3,
            "saved_by_nobody": 0,
            **other,
        }
    )


def test_a_run_that_kept_its_promises_has_no_failure_and_says_so() -> None:
    report = account().report()
    assert (report["ok"], report["failures"]) == (True, [])
    assert report["metrics"] == report["traffic"]
    assert report["last_fallback_after_release_s"] == 150


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ({"counts": {"refused": Counter({"401 /me": 2})}}, "honest users were refused: 401 /me (2 times)"),
        ({"counts": {"failures": 1}}, "1 requests had no answer"),
        ({"counts": {"without_email": 1}}, "1 requests did not see the user's email"),
        ({"counts": {"accepted": Counter({1: 5, 2: 7})}}, "accepted_v1: the users counted 5, the metrics say 4"),
        ({"counts": {"logouts": 0}}, "revoked: the users counted 0, the metrics say 1"),
        ({"saved_by_nobody": 1}, "3 saves, 3 rows, 1 of them by nobody who exists"),
        ({"saved": 2}, "3 saves, 2 rows, 0 of them by nobody who exists"),
        ({"released_at": None}, "there was no release"),
        ({"figures": {"last_fallback": None}}, "the fallback did not fire after the release"),
        ({"figures": {"last_fallback": EPOCH - 1}}, "the fallback did not fire after the release"),
        ({"figures": {"last_fallback": EPOCH + 201}}, "the fallback still fired after the window plus a tenth"),
        ({"figures": {"fallback_rate": 0.001}}, "the fallback's rate did not reach zero"),
        ({"figures": {"fallback_rate": None}}, "nothing was accepted at the end: no data is not zero"),
        ({"figures": {"accepted": 0}}, "no request was accepted"),
    ],
)
def test_each_broken_promise_is_told(broken: dict[str, Any], told: str) -> None:
    report = account(**broken).report()
    assert not report["ok"]
    assert told in report["failures"]


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.0, "0 %"), (0.004, "< 1 %"), (0.374, "37 %"), (1.0, "100 %")]
)
def test_a_share_is_never_shown_as_zero_where_it_is_not(value: float | None, text: str) -> None:
    assert share(value) == text


def test_every_verdict_has_a_sentence_of_its_own() -> None:
    sentences = [sentence(verdict) for verdict in Verdict]
    assert len(set(sentences)) == len(sentences)
    assert all(told.endswith(".") for told in sentences)


def test_a_line_tells_the_state() -> None:
    told = line(FIGURES)
    assert "requests 12  old 0 %  fallback 0 %  refused 0 (expired 1)" in told
    assert told.endswith("drained: the fallback can be deleted")
    assert clock(None) == "-"
