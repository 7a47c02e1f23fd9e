from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from demo_app.scrape import Scrape, prometheus_name
from demo_app.settings import Settings
from demo_app.watch import Figures, Watch
from jwt_middleware import Verdict, names
from tests.support.world import EPOCH

SETTINGS = Settings(window=180)
PLANNED = EPOCH + SETTINGS.until_release
SUNSET = PLANNED + SETTINGS.rollout + SETTINGS.window


def page(
    *,
    old: int = 0,
    today: int = 0,
    fallbacks: int = 0,
    expired: int = 0,
    revoked: int = 0,
    minting: int = 2,
    minted: float | None = None,
    expiry: float | None = None,
    plan: bool = True,
) -> str:
    """A page of /metrics as the exporter writes it."""
    requests, accepted = "jwt_middleware_requests_total", 'jwt_middleware_result="accepted"'
    version, scope = "jwt_middleware_payload_version", 'otel_scope_name="jwt_middleware"'
    lines = [
        "# HELP jwt_middleware_requests_total Requests by what was decided about them.",
        "# TYPE jwt_middleware_requests_total counter",
        f'{requests}{{{accepted},{version}="1",jwt_middleware_minted="before_change",{scope}}} {old}',
        f'{requests}{{{accepted},{version}="2",{scope}}} {today}',
        f'{requests}{{error_type="token_expired",jwt_middleware_result="refused",{version}="1"}} {expired}',
        f'{requests}{{error_type="session_revoked",jwt_middleware_result="refused",{version}="1"}} {revoked}',
        f'{requests}{{error_type="token_missing",jwt_middleware_result="refused"}} 1',
        f'jwt_middleware_fallbacks_total{{jwt_middleware_outcome="resolved",{version}="1"}} {fallbacks}',
        f'jwt_middleware_payload_info{{jwt_middleware_payload_mints="{minting}",{version}="2"}} 1',
        f"jwt_middleware_token_max_lifetime_seconds {SETTINGS.window}",
        "# TYPE http_server_duration_milliseconds histogram",
        'http_server_duration_milliseconds_bucket{le="5.0"} 3',
    ]
    if plan:
        lines.append(
            f'jwt_middleware_payload_superseded_timestamp_seconds{{{version}="1"}} {PLANNED + SETTINGS.rollout}'
        )
    if minted is not None:
        lines.append(f'jwt_middleware_payload_last_minted_timestamp_seconds{{{version}="1"}} {minted}')
    if expiry is not None:
        lines.append(f'jwt_middleware_payload_last_expiry_timestamp_seconds{{{version}="1"}} {expiry}')
    return "\n".join(lines) + "\n"


def watched(*scrapes: tuple[float, str]) -> Watch:
    watch = Watch(SETTINGS, httpx.AsyncClient())
    for after, text in scrapes:
        watch.add(Scrape.parse(text, at=EPOCH + after))
    return watch


def figures(*scrapes: tuple[float, str]) -> Figures:
    found = watched(*scrapes).figures()
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (names.REQUESTS, "jwt_middleware_requests_total"),
        (names.PAYLOAD_SUPERSEDED, "jwt_middleware_payload_superseded_timestamp_seconds"),
        (names.TOKEN_MAX_LIFETIME, "jwt_middleware_token_max_lifetime_seconds"),
        (names.PAYLOAD_INFO, "jwt_middleware_payload_info"),
    ],
)
def test_a_metric_is_found_by_the_name_the_exporter_gives_it(metric: names.Metric, name: str) -> None:
    assert prometheus_name(metric) == name


def test_a_scrape_sums_the_series_that_match_and_ignores_other_packages() -> None:
    scrape = Scrape.parse(page(old=3, today=4, expired=2), at=EPOCH)
    assert scrape.total(names.REQUESTS) == 10
    assert scrape.total(names.REQUESTS, {names.PAYLOAD_VERSION: 1}) == 5
    assert scrape.newest(names.PAYLOAD_LAST_MINTED) is None
    assert all(name.startswith("jwt_middleware_") for name in scrape.samples)


def test_there_are_no_figures_before_the_first_scrape() -> None:
    assert watched().figures() is None


def test_shares_are_of_the_last_twentieth_and_counts_of_all() -> None:
    found = figures((0, page(old=100, fallbacks=100)), (9, page(old=100, fallbacks=100)), (18, page(
        old=110, today=30, fallbacks=110, expired=5, revoked=2)))  # fmt: skip
    assert (found.requests, found.accepted, found.fallbacks) == (148, 140, 110)
    assert (found.old_share, found.fallback_rate) == (0.25, 0.25)
    assert found.per_second == pytest.approx(40 / 9)
    assert (found.expired, found.refused) == (5, 2)
    assert found.last_fallback == EPOCH + 18


def test_without_traffic_there_is_no_share_and_not_zero() -> None:
    found = figures((0, page(old=5, fallbacks=5)), (9, page(old=5, fallbacks=5)), (18, page(old=5, fallbacks=5)))
    assert (found.old_share, found.fallback_rate, found.per_second) == (None, None, 0)
    assert found.last_fallback == EPOCH


def test_the_sunset_is_the_plans_and_never_before_the_latest_expiry_seen() -> None:
    assert figures((0, page())).sunset == pytest.approx(SUNSET)
    later = figures((0, page(expiry=SUNSET + 40)), (5, page()))
    assert later.planned_sunset == pytest.approx(SUNSET)
    assert later.latest_expiry == SUNSET + 40
    assert later.sunset == pytest.approx(SUNSET + 40)
    assert figures((0, page(plan=False))).planned_sunset is None


def drain(until: float, *, every: float = 1.0, **given: Any) -> Watch:
    """Old tokens before the release, today's after it, scraped regularly; ``given`` changes every page."""
    watch, at = watched(), 0.0
    while at <= until:
        kept = {
            "old": 50,
            "today": int(at * 10),
            "fallbacks": 50,
            "minting": 1 if EPOCH + at < PLANNED else 2,
            "minted": PLANNED - 1,
            "expiry": PLANNED - 1 + SETTINGS.window,
        }
        watch.add(Scrape.parse(page(**{**kept, **given}), at=EPOCH + at))
        at += every
    return watch


@pytest.mark.parametrize(
    ("watch", "verdict"),
    [
        (drain(10), Verdict.SCHEDULED),
        (drain(60), Verdict.DRAINING),
        (drain(SUNSET - EPOCH + 5), Verdict.DRAINED),
        (drain(SUNSET - EPOCH + 12, every=7.0), Verdict.UNPROVEN),
        (drain(40, minting=1), Verdict.STILL_MINTED),
        (drain(50, minted=PLANNED + 15), Verdict.STILL_MINTED),
        (drain(100, minted=PLANNED + 15, expiry=PLANNED + 195), Verdict.LATE_DRAINING),
        (drain(10, plan=False), Verdict.NO_PLAN),
    ],
)
def test_the_verdict_is_the_first_that_holds(watch: Watch, verdict: Verdict) -> None:
    found = watch.figures()
    assert found is not None
    assert found.verdict is verdict


def test_no_traffic_at_the_end_proves_nothing() -> None:
    watch = drain(SUNSET - EPOCH - 40)
    last = page(old=50, today=10, fallbacks=50)
    for second in range(60):
        watch.add(Scrape.parse(last, at=SUNSET - 39 + second))
    found = watch.figures()
    assert found is not None
    assert found.verdict is Verdict.UNPROVEN


async def test_a_scrape_that_fails_is_a_gap_and_the_watch_goes_on() -> None:
    seen: list[int] = []
    enough = asyncio.Event()

    def answer(_: httpx.Request) -> httpx.Response:
        seen.append(len(seen))
        if len(seen) == 3:
            enough.set()
        return httpx.Response(500) if len(seen) == 1 else httpx.Response(200, text=page(old=len(seen)))

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://testserver") as http:
        watch = Watch(Settings(window=10), http)
        following = asyncio.create_task(watch.follow())
        await enough.wait()
        following.cancel()
    found = watch.figures()
    assert found is not None
    assert found.accepted in (2, 3)
