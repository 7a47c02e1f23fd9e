"""The README's picture of the panels, drawn over the nine days that the real Prometheus has."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dashboards import GENERATED
from dashboards.asking import filled_in
from dashboards.prometheus import Server
from demo_app.history.process import LEEWAY
from demo_app.history.scenarios import DAY, RELEASE
from demo_app.history.world import HOUR
from demo_app.pictures import panels as pictures_panels
from demo_app.pictures.asking import Panel, Shown, Values, ask
from demo_app.pictures.drawing import HEIGHT, WIDTH, stretches
from tests.dashboards.histories.happy import Seen

CHANGE = RELEASE + 1 + LEEWAY / HOUR
SUNSET = CHANGE + 7 * DAY
"""Hours since the beginning."""
SMOOTHED = 1
"""Hours; the picture's own six would reach from before the sunset to the end of these days."""


@dataclass(frozen=True, kw_only=True)
class Listening(Server):
    """A Prometheus, and what it was asked."""

    asked: list[str] = field(default_factory=list)

    def range(self, query: str, *, start: float, end: float, step: float) -> list[dict[str, Any]]:
        self.asked.append(query)
        return super().range(query, start=start, end=end, step=step)


@pytest.fixture(scope="module")
def server(happy: Seen) -> Listening:
    return Listening(url=happy.server.url)


@pytest.fixture(scope="module")
def shown(happy: Seen, server: Listening) -> Shown:
    return ask(server, start=happy.told.history.start, end=happy.told.history.end, smoothed=f"{SMOOTHED}h")


def after_the_sunset(shown: Shown) -> NDArray[np.bool_]:
    """Where nothing before the sunset is in a smoothed point any more."""
    moments: NDArray[np.bool_] = shown.times >= shown.times[0] + (SUNSET + SMOOTHED) * HOUR
    return moments


def panels(shown: Shown) -> list[Panel]:
    return [shown.verdict, shown.sunset, shown.rate, shown.payloads, shown.refusals, shown.cost]


def named(panel: Panel, name: str) -> Values:
    [curve] = [curve for curve in panel.curves if curve.name == name]
    return curve.values


def test_every_query_is_one_that_a_dashboard_asks(server: Listening, shown: Shown) -> None:
    boards = [json.loads(path.read_text()) for path in GENERATED.glob("*.json")]
    targets = [target for board in boards for panel in board["panels"] for target in panel.get("targets", [])]
    annotations = [each for board in boards for each in board["annotations"].get("list", [])]
    own = {filled_in(each["expr"], "10m") for each in (*targets, *annotations) if "expr" in each}
    assert server.asked
    for asked in server.asked:
        assert asked.removeprefix("avg_over_time((").removesuffix(f")[{SMOOTHED}h:5m])") in own


def test_every_curve_of_every_panel_has_data_all_the_time(shown: Shown) -> None:
    for panel in panels(shown):
        assert panel.curves
        for curve in panel.curves:
            assert np.isnan(curve.values).mean() < 0.05, (panel.title, curve.name)


def test_the_fallback_is_everything_before_the_change_and_nothing_after_the_sunset(shown: Shown) -> None:
    [rate] = shown.rate.curves
    before = shown.times < shown.times[0] + RELEASE * HOUR
    over = after_the_sunset(shown)
    assert np.nanmin(rate.values[before]) == pytest.approx(1, abs=0.02)
    assert 0 < np.nanmean(rate.values[~before & ~over]) < 1
    assert np.nanmax(rate.values[over]) == 0


def test_old_payloads_and_queries_for_claims_are_gone_after_the_sunset(shown: Shown) -> None:
    over = after_the_sunset(shown)
    for panel, name in (
        (shown.payloads, "old, minted before the change"),
        (shown.cost, "requests that need the fallback"),
        (shown.cost, "queries: claims"),
    ):
        values = named(panel, name)
        assert np.nanmax(values[~over]) > 0
        assert np.nanmax(values[over]) == 0, name
    assert np.nanmax(named(shown.payloads, "old, minted after the change")) == 0
    assert np.nanmax(named(shown.payloads, "today's payload")[over]) > 0


def test_the_strip_says_the_verdict_in_its_words(shown: Shown) -> None:
    [verdict] = shown.verdict.curves
    words = [shown.verdict.words[value][0] for _, _, value in stretches(verdict.values)]
    assert words == ["scheduled", "draining", "drained: the fallback can be deleted"]


def test_the_marks_stand_at_the_change_and_at_the_planned_sunset(happy: Seen, shown: Shown) -> None:
    assert {mark.name: happy.told.hour(mark.at) for mark in shown.marks} == {
        "Change": pytest.approx(CHANGE, abs=0.1),
        "Planned sunset": pytest.approx(SUNSET, abs=0.1),
    }


def test_the_largest_refusals_are_named_and_the_others_are_summed(shown: Shown) -> None:
    sizes = [float(np.nansum(curve.values)) for curve in shown.refusals.curves]
    assert len(sizes) == 6
    assert sizes[:5] == sorted(sizes[:5], reverse=True)
    assert shown.refusals.curves[-1].name == "all other reasons"


def png(path: Path) -> tuple[int, int]:
    """Its width and height."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) < 250_000
    return int.from_bytes(content[16:20]), int.from_bytes(content[20:24])


def test_both_pictures_are_drawn(shown: Shown, tmp_path: Path) -> None:
    pictures_panels.save(shown, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(pictures_panels.NAMES.values())
    light, dark = (tmp_path / name for name in pictures_panels.NAMES.values())
    assert png(light) == png(dark) == (WIDTH, HEIGHT)
    assert light.read_bytes() != dark.read_bytes()


def test_a_gap_in_the_data_is_a_gap_in_the_picture(shown: Shown, tmp_path: Path) -> None:
    def with_a_gap(panel: Panel) -> Panel:
        gap = (np.arange(len(shown.times)) // 20) % 2 == 0
        curves = [replace(curve, values=np.where(gap, np.nan, curve.values)) for curve in panel.curves]
        return replace(panel, curves=tuple(curves))

    torn = replace(
        shown,
        verdict=with_a_gap(shown.verdict),
        sunset=with_a_gap(shown.sunset),
        rate=with_a_gap(shown.rate),
        payloads=with_a_gap(shown.payloads),
    )
    pictures_panels.save(torn, tmp_path)
    assert png(tmp_path / pictures_panels.NAMES["light"]) == (WIDTH, HEIGHT)


def test_a_word_stands_where_its_value_does_and_nowhere_without_data() -> None:
    values = np.array([1, 1, np.nan, np.nan, 4, 5, 5])
    assert stretches(values) == [(0, 1, 1), (4, 4, 4), (5, 6, 5)]
    assert stretches(np.full(3, np.nan)) == []


def test_a_plan_is_lived_through_from_the_simulation_to_the_picture(tmp_path: Path) -> None:
    """All that `make pictures` does, over fewer people and days."""
    pictures_panels.take(tmp_path, replace(pictures_panels.PLAN, days=2, users=60, instances=1, every=300))
    assert {path.name for path in tmp_path.iterdir()} == set(pictures_panels.NAMES.values())
