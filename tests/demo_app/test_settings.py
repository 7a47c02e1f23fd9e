"""The settings of a run: ranges, and times that shrink with the window."""

from __future__ import annotations

from typing import Any

import pytest

from demo_app.settings import WEEK, Settings


def test_the_release_happens_after_thirty_seconds_of_the_default_window() -> None:
    assert Settings().until_release == 30


def test_a_release_may_be_planned_otherwise() -> None:
    assert Settings(release_after=5).until_release == 5


@pytest.mark.parametrize("window", [12, 45, 180, 3_600])
def test_everything_shrinks_with_the_window(window: int) -> None:
    settings = Settings(window=window)
    for value in (settings.rollout, settings.claims_ttl, settings.max_staleness, settings.slot, settings.day):
        assert 0 < value < window / 6
    assert settings.scrape_every <= settings.slot / 2
    assert settings.lookback == pytest.approx(window * 8 / 7)
    assert settings.drained_by == pytest.approx(settings.rollout + 1.1 * window)


def test_a_whole_week_has_the_times_of_production() -> None:
    settings = Settings(window=int(WEEK))
    assert (settings.rollout, settings.claims_ttl, settings.absence_ttl, settings.max_staleness) == (3_600, 60, 5, 5)


def test_a_value_out_of_range_is_named(subtests: pytest.Subtests) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"window": 9}, "--window"),
        ({"window": int(WEEK) + 1}, "--window"),
        ({"release_after": 0}, "--release-after"),
        ({"release_after": 181}, "--release-after"),
        ({"port": -1}, "--port"),
        ({"port": 65_536}, "--port"),
        ({"users": 0}, "--users"),
        ({"rate": 0.0}, "--rate"),
        ({"rate": float("nan")}, "--rate"),
        ({"database": "mysql://localhost/x"}, "--database"),
    ]
    for values, named in cases:
        with subtests.test(values=values):
            with pytest.raises(ValueError, match=named) as refused:
                Settings(**values)
            assert "\n" not in str(refused.value)
