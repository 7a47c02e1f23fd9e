"""The README's picture of the panels, drawn from nine days in a real Prometheus."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dashboards import GENERATED
from dashboards.prometheus import Server
from dashboards.queries import substituted
from dashboards.simulation.scenarios import RELEASE
from dashboards.simulation.world import HOUR
from docs.pictures import drawing
from docs.pictures.drawing import HEIGHT, WIDTH, stretches
from docs.pictures.panels import PLAN, Panel, Panels, Values, query_panels, simulated
from tests.dashboards.simulations import SUNSET, SUPERSEDED, Simulated

SMOOTHED = 1
"""Hours; the six of the picture would reach from before the sunset to the end of these days."""


@dataclass(frozen=True, kw_only=True)
class Recording(Server):
    """A Prometheus, that keeps its queries."""

    queries: list[str] = field(default_factory=list)

    def range(self, query: str, *, start: float, end: float, step: float) -> list[dict[str, Any]]:
        self.queries.append(query)
        return super().range(query, start=start, end=end, step=step)


@pytest.fixture(scope="module")
def server(happy: Simulated) -> Recording:
    return Recording(url=happy.server.url)


@pytest.fixture(scope="module")
def shown(happy: Simulated, server: Recording) -> Panels:
    return query_panels(server, start=happy.start, end=happy.end, smoothed=f"{SMOOTHED}h")


def after_the_sunset(shown: Panels) -> NDArray[np.bool_]:
    """The points that do not average over a moment before the sunset."""
    moments: NDArray[np.bool_] = shown.times >= shown.times[0] + (SUNSET + SMOOTHED) * HOUR
    return moments


def panels(shown: Panels) -> list[Panel]:
    return [shown.verdict, shown.sunset, shown.rate, shown.payloads, shown.refusals, shown.cost]


def named(panel: Panel, name: str) -> Values:
    [curve] = [curve for curve in panel.curves if curve.name == name]
    return curve.values


def test_every_query_is_a_dashboard_s_query(server: Recording, shown: Panels) -> None:
    boards = [json.loads(path.read_text()) for path in GENERATED.glob("*.json")]
    targets = [target for board in boards for panel in board["panels"] for target in panel.get("targets", [])]
    annotations = [each for board in boards for each in board["annotations"].get("list", [])]
    own = {substituted(each["expr"], "10m") for each in (*targets, *annotations) if "expr" in each}
    assert server.queries
    for query in server.queries:
        assert query.removeprefix("avg_over_time((").removesuffix(f")[{SMOOTHED}h:5m])") in own


def test_every_curve_of_every_panel_has_data_all_the_time(shown: Panels) -> None:
    for panel in panels(shown):
        assert panel.curves
        for curve in panel.curves:
            assert np.isnan(curve.values).mean() < 0.05, (panel.title, curve.name)


def test_the_fallback_rate_falls_from_one_to_zero(shown: Panels) -> None:
    [rate] = shown.rate.curves
    before = shown.times < shown.times[0] + RELEASE * HOUR
    over = after_the_sunset(shown)
    assert np.nanmin(rate.values[before]) == pytest.approx(1, abs=0.02)
    assert 0 < np.nanmean(rate.values[~before & ~over]) < 1
    assert np.nanmax(rate.values[over]) == 0


def test_old_payloads_and_queries_for_claims_are_gone_after_the_sunset(shown: Panels) -> None:
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


def test_the_strip_has_the_verdict_in_words(shown: Panels) -> None:
    [verdict] = shown.verdict.curves
    words = [shown.verdict.words[value][0] for _, _, value in stretches(verdict.values)]
    assert words == ["scheduled", "draining", "drained: the fallback can be deleted"]


def test_the_marks_are_at_the_change_and_at_the_planned_sunset(happy: Simulated, shown: Panels) -> None:
    assert {mark.name: happy.days["happy"].hour(mark.at) for mark in shown.marks} == {
        "Change": pytest.approx(SUPERSEDED, abs=0.1),
        "Planned sunset": pytest.approx(SUNSET, abs=0.1),
    }


def test_the_largest_refusals_are_named_and_the_others_are_summed(shown: Panels) -> None:
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


def test_both_pictures_are_drawn(shown: Panels, tmp_path: Path) -> None:
    drawing.save(shown, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(drawing.NAMES.values())
    light, dark = (tmp_path / name for name in drawing.NAMES.values())
    assert png(light) == png(dark) == (WIDTH, HEIGHT)
    assert light.read_bytes() != dark.read_bytes()


def test_a_gap_in_the_data_is_a_gap_in_the_picture(shown: Panels, tmp_path: Path) -> None:
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
    drawing.save(torn, tmp_path)
    assert png(tmp_path / drawing.NAMES["light"]) == (WIDTH, HEIGHT)


def test_a_word_is_drawn_where_its_value_is_and_never_without_data() -> None:
    values = np.array([1, 1, np.nan, np.nan, 4, 5, 5])
    assert stretches(values) == [(0, 1, 1), (4, 4, 4), (5, 6, 5)]
    assert stretches(np.full(3, np.nan)) == []


@pytest.mark.server
def test_both_pictures_are_drawn_from_a_simulation(tmp_path: Path) -> None:
    """As `make pictures` does, with fewer users and days."""
    drawing.save(simulated(replace(PLAN, days=2, users=60, instances=1, every=300)), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(drawing.NAMES.values())
