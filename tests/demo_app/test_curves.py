from __future__ import annotations

from demo_app.curves import Curves, Point, point
from demo_app.scrape import Scrape
from tests.support.world import EPOCH

NOTHING = Scrape(at=EPOCH, samples={})


def page(*, today: int = 0, before: int = 0, after: int = 0, unknown: int = 0, fallbacks: int = 0, queries: int = 0,
         expired: int = 0, revoked: int = 0, forged: int = 0, missing: int = 0) -> str:  # fmt: skip
    requests, accepted = "jwt_middleware_requests_total", 'jwt_middleware_result="accepted"'
    version = "jwt_middleware_payload_version"
    lines = [f'{requests}{{{accepted},{version}="2"}} {today}']
    for minted, count in {"before_change": before, "after_change": after, "unknown": unknown}.items():
        lines.append(f'{requests}{{{accepted},{version}="1",jwt_middleware_minted="{minted}"}} {count}')
    reasons = {
        "token_expired": expired,
        "session_revoked": revoked,
        "signature_invalid": forged,
        "token_missing": missing,
    }
    for reason, count in reasons.items():
        lines.append(f'{requests}{{jwt_middleware_result="refused",error_type="{reason}"}} {count}')
    lines += [
        f'jwt_middleware_fallbacks_total{{{version}="1",jwt_middleware_outcome="resolved"}} {fallbacks}',
        f'jwt_middleware_lookups_total{{jwt_middleware_lookup="claims",jwt_middleware_outcome="ok"}} {queries}',
        'jwt_middleware_lookups_total{jwt_middleware_lookup="sessions",jwt_middleware_outcome="ok"} 99',
    ]
    return "\n".join(lines) + "\n"


def at(seconds: float, text: str) -> Scrape:
    return Scrape.parse(text, at=EPOCH + seconds)


def test_a_point_tells_what_happened_in_a_second_since_the_scrape_before() -> None:
    past = at(0, page(today=10, before=10, fallbacks=10, queries=5, missing=1))
    now = at(10, page(today=40, before=20, after=5, unknown=5, fallbacks=30, queries=7, expired=10, revoked=20,
                      forged=30, missing=90))  # fmt: skip
    assert point(now, past) == Point(
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


def test_where_nothing_was_accepted_the_rate_is_unknown_and_not_zero() -> None:
    now = at(10, page(today=10))
    assert point(now, at(0, page(today=10))).fallback_rate is None
    assert point(now, NOTHING).fallback_rate == 0


def test_the_points_of_a_run_are_bounded_and_the_first_ones_go() -> None:
    curves = Curves(180)
    for second in range(1000):
        curves.add(at(second, page(today=second)), NOTHING)
    points = curves.since(0)
    assert len(points) == 600
    assert points[-1].at == EPOCH + 999
    assert [each.at for each in curves.since(EPOCH + 997)] == [EPOCH + 998, EPOCH + 999]


def test_scrapes_that_are_closer_than_anybody_can_see_make_one_point() -> None:
    curves = Curves(600)
    for tick in range(9):
        curves.add(at(tick / 2, page()), NOTHING)
    assert [each.at - EPOCH for each in curves.since(0)] == [0, 2, 4]
