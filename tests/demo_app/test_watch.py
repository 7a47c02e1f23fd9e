"""Scrapes, and the figures, curves and verdict that the watch computes from them."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from demo_app.settings import Settings
from demo_app.watch import Curves, Figures, Point, Scrape, Watch, point_between, sentence
from jwt_middleware import Verdict, names
from tests.support.demo import metrics_page
from tests.support.world import EPOCH

SETTINGS = Settings(window=180)
PLANNED = EPOCH + SETTINGS.until_release
SUPERSEDED = PLANNED + SETTINGS.rollout
SUNSET = SUPERSEDED + SETTINGS.window
NOTHING = Scrape(at=EPOCH, samples={})


def scrape(after: float = 0, *, old: int = 0, expired: int = 0, revoked: int = 0, **page: Any) -> Scrape:
    """A scrape so many seconds after the epoch of the tests, with a plan for version 2."""
    refused = {"token_expired": expired, "session_revoked": revoked, "token_missing": 1}
    text = metrics_page(**{"old": {"before_change": old}, "refused": refused, "superseded": SUPERSEDED, **page})
    return Scrape.parse(text, at=EPOCH + after)


def watched(*scrapes: Scrape) -> Watch:
    watch = Watch(SETTINGS, httpx.AsyncClient())
    for each in scrapes:
        watch.add(each)
    return watch


def figures(watch: Watch) -> Figures:
    computed = watch.figures()
    assert computed is not None
    return computed


def test_a_scrape_sums_the_series_that_match_and_ignores_other_packages() -> None:
    parsed = scrape(old=3, today=4, expired=2)
    assert parsed.total(names.REQUESTS) == 10
    assert parsed.total(names.REQUESTS, {names.PAYLOAD_VERSION: 1}) == 3
    assert parsed.newest(names.PAYLOAD_LAST_MINTED) is None
    assert all(name.startswith("jwt_middleware_") for name in parsed.samples)


def test_there_are_no_figures_before_the_first_scrape() -> None:
    assert watched().figures() is None


def test_shares_are_of_the_last_twentieth_and_counts_of_all() -> None:
    first = {"old": 100, "fallbacks": 100}
    last = scrape(18, old=110, today=30, fallbacks=110, expired=5, revoked=2)
    computed = figures(watched(scrape(0, **first), scrape(9, **first), last))
    assert (computed.requests, computed.accepted, computed.fallbacks) == (148, 140, 110)
    assert (computed.old_share, computed.fallback_rate) == (0.25, 0.25)
    assert computed.per_second == pytest.approx(40 / 9)
    assert (computed.expired, computed.refused) == (5, 2)
    assert computed.last_fallback == EPOCH + 18


def test_without_traffic_there_is_no_share_and_not_zero() -> None:
    computed = figures(watched(*(scrape(after, old=5, fallbacks=5) for after in (0, 9, 18))))
    assert (computed.old_share, computed.fallback_rate, computed.per_second) == (None, None, 0)
    assert computed.last_fallback == EPOCH


def test_the_sunset_is_the_plans_and_never_before_the_latest_expiry_seen() -> None:
    assert figures(watched(scrape())).sunset == pytest.approx(SUNSET)
    later = figures(watched(scrape(0, last_expiry=SUNSET + 40), scrape(5)))
    assert later.planned_sunset == pytest.approx(SUNSET)
    assert later.latest_expiry == SUNSET + 40
    assert later.sunset == pytest.approx(SUNSET + 40)
    assert figures(watched(scrape(superseded=None))).planned_sunset is None


def drained(until: float, *, every: float = 1.0, **changes: Any) -> Watch:
    """Old tokens before the release, today's after it, scraped regularly; ``changes`` applies to every page."""
    watch, at = watched(), 0.0
    while at <= until:
        page = {
            "old": 50,
            "today": int(at * 10),
            "fallbacks": 50,
            "mints": 1 if EPOCH + at < PLANNED else 2,
            "last_minted": PLANNED - 1,
            "last_expiry": PLANNED - 1 + SETTINGS.window,
        }
        watch.add(scrape(at, **{**page, **changes}))
        at += every
    return watch


def test_the_verdict_is_the_first_condition_that_holds() -> None:
    for watch, verdict in [
        (drained(10), Verdict.SCHEDULED),
        (drained(60), Verdict.DRAINING),
        (drained(SUNSET - EPOCH + 5), Verdict.DRAINED),
        (drained(SUNSET - EPOCH + 12, every=7.0), Verdict.UNPROVEN),
        (drained(40, mints=1), Verdict.STILL_MINTED),
        (drained(50, last_minted=PLANNED + 15), Verdict.STILL_MINTED),
        (drained(100, last_minted=PLANNED + 15, last_expiry=PLANNED + 195), Verdict.LATE_DRAINING),
        (drained(10, superseded=None), Verdict.NO_PLAN),
    ]:
        assert figures(watch).verdict is verdict, watch


def test_no_traffic_at_the_end_proves_nothing() -> None:
    watch = drained(SUNSET - EPOCH - 40)
    for second in range(60):
        watch.add(scrape(SUNSET - EPOCH - 39 + second, old=50, today=10, fallbacks=50))
    assert figures(watch).verdict is Verdict.UNPROVEN


def test_every_verdict_has_a_sentence_of_its_own() -> None:
    sentences = [sentence(verdict) for verdict in Verdict]
    assert len(set(sentences)) == len(sentences)
    assert all(text.endswith(".") for text in sentences)


async def test_a_scrape_that_fails_is_a_gap_and_the_watch_goes_on() -> None:
    requests: list[httpx.Request] = []
    enough = asyncio.Event()

    def respond(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        if len(requests) == 3:
            enough.set()
        page = metrics_page(today=len(requests))
        return httpx.Response(500) if len(requests) == 1 else httpx.Response(200, text=page)

    async with httpx.AsyncClient(transport=httpx.MockTransport(respond), base_url="http://testserver") as http:
        watch = Watch(Settings(window=10), http)
        following = asyncio.create_task(watch.follow())
        await enough.wait()
        following.cancel()
    assert figures(watch).accepted in (2, 3)


def test_a_point_has_the_rates_between_two_scrapes() -> None:
    past = scrape(0, today=10, old=10, fallbacks=10, queries=5)
    refused = {"token_expired": 10, "session_revoked": 20, "signature_invalid": 30, "token_missing": 90}
    old = {"before_change": 20, "after_change": 5, "unknown": 5}
    now = Scrape.parse(metrics_page(today=40, old=old, fallbacks=30, queries=7, refused=refused), at=EPOCH + 10)
    assert point_between(now, past) == Point(
        at=EPOCH + 10,
        today=3.0,
        old_before=1.5,
        old_after=0.5,
        fallback_rate=0.4,
        expired=1.0,
        revoked=2.0,
        refused=3.0,
        needed=2.0,
        queries=0.2,
    )


def test_a_point_without_accepted_requests_has_no_fallback_rate() -> None:
    now = scrape(10, today=10)
    assert point_between(now, scrape(0, today=10)).fallback_rate is None
    assert point_between(now, NOTHING).fallback_rate == 0


def test_the_points_of_a_run_are_bounded_and_the_oldest_are_dropped() -> None:
    curves = Curves(180)
    for second in range(1000):
        curves.add(scrape(second, today=second), NOTHING)
    points = curves.since(0)
    assert len(points) == 600
    assert points[-1].at == EPOCH + 999
    assert [point.at for point in curves.since(EPOCH + 997)] == [EPOCH + 998, EPOCH + 999]


def test_scrapes_that_are_too_close_make_one_point() -> None:
    curves = Curves(600)
    for tick in range(9):
        curves.add(scrape(tick / 2), NOTHING)
    assert [point.at - EPOCH for point in curves.since(0)] == [0, 2, 4]
