"""Draws the panels as cards in one picture: a strip of verdicts, the days left, and four charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from itertools import cycle, groupby
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch
from matplotlib.ticker import MaxNLocator, MultipleLocator, PercentFormatter, StrMethodFormatter
from PIL import Image

from .panels import STEP, Panel, Panels, Values

WIDTH: Final = 1660
HEIGHT: Final = 1140
"""Twice the width of a README, in pixels."""
NAMES: Final = {"light": "panels.png", "dark": "panels-dark.png"}
_DPI: Final = 200
_DAY: Final = 86_400
_EDGE: Final = 24
"""Pixels between a card's edge and its content."""
_UNITS: Final = {
    "reqps": "requests per second",
    "ops": "per second",
    "percentunit": "of accepted requests",
    "dateTimeFromNow": "days left",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Theme:
    """Colours of surfaces and texts, and a colour for each of Grafana's names."""

    canvas: str
    card: str
    border: str
    text: str
    muted: str
    grid: str
    on_color: str
    """The colour of text on one of ``colors``."""
    colors: Mapping[str, str]
    choice: tuple[str, ...] = ("orange", "purple", "green", "yellow", "red", "blue")
    """The names that curves without a colour get, in this order."""


LIGHT: Final = Theme(
    canvas="#f4f5f5",
    card="#ffffff",
    border="#dcdde0",
    text="#24292e",
    muted="#5b6169",
    grid="#e6e7ea",
    on_color="#ffffff",
    colors={
        "green": "#3f8f3a",
        "blue": "#3274d9",
        "orange": "#e3700a",
        "red": "#d9283d",
        "purple": "#9146bb",
        "yellow": "#b58a00",
        "gray": "#6e747d",
    },
)
DARK: Final = Theme(
    canvas="#111217",
    card="#181b1f",
    border="#2c3036",
    text="#d8dade",
    muted="#9fa4ad",
    grid="#292d33",
    on_color="#0f1115",
    colors={
        "green": "#73bf69",
        "blue": "#6ea6ff",
        "orange": "#ff9830",
        "red": "#f2495c",
        "purple": "#c58ae6",
        "yellow": "#f2cc0c",
        "gray": "#9aa0a8",
    },
)


@dataclass(frozen=True, slots=True)
class Box:
    """A card's place in pixels from the upper left corner, and the distances from its edges to its axes."""

    x: int
    y: int
    width: int
    height: int
    left: int = 98
    top: int = 92
    bottom: int = 54
    every: int = 2
    """Days between two labels."""


def save(panels: Panels, directory: Path) -> None:
    """Write the light and the dark picture."""
    draw(panels, LIGHT, directory / NAMES["light"])
    draw(panels, DARK, directory / NAMES["dark"])


def draw(panels: Panels, theme: Theme, path: Path) -> None:
    """Write a PNG."""
    drawing = _Drawing(panels, theme)
    drawing.strip(panels.verdict, Box(16, 16, 1060, 216, left=_EDGE, top=62, bottom=94))
    drawing.days_left(panels.sunset, Box(1090, 16, 554, 216, left=74, top=62, every=4))
    drawing.curve(panels.rate, Box(16, 246, 807, 432))
    drawing.stack(panels.payloads, Box(837, 246, 807, 432, bottom=116))
    drawing.curve(panels.refusals, Box(16, 692, 807, 432, bottom=147), filled=False)
    drawing.curve(panels.cost, Box(837, 692, 807, 432, bottom=116))
    drawn = BytesIO()
    drawing.figure.savefig(drawn, dpi=_DPI)
    Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, format="PNG", optimize=True)


class _Drawing:
    def __init__(self, panels: Panels, theme: Theme) -> None:
        self._theme: Final = theme
        self._marks: Final = panels.marks
        self._times: Final[Values] = panels.times
        self._days: Final[Values] = panels.times / _DAY
        self.figure: Final = Figure(figsize=(WIDTH / _DPI, HEIGHT / _DPI), facecolor=theme.canvas)

    def strip(self, panel: Panel, box: Box) -> None:
        """Draw one band for each series, in the panel's words and colours."""
        axes = self._card(panel, box)
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.set_ylim(0, len(panel.curves))
        legend: dict[str, str] = {}
        for row, curve in enumerate(panel.curves):
            for first, last, value in stretches(curve.values):
                word, color = panel.words[value]
                legend[word] = self._theme.colors[color]
                since, until = self._days[first], self._days[last] + STEP / _DAY
                axes.barh(row + 0.5, until - since, left=since, height=0.96, color=legend[word])
                text = axes.text((since + until) / 2, row + 0.47, word.split(":")[0], ha="center", va="center")
                text.set(color=self._theme.on_color, size=8, weight="bold")
        self._legend(axes, box, list(legend), list(legend.values()), columns=3)

    def days_left(self, panel: Panel, box: Box) -> None:
        """Draw how many days the old payload still lives, at each moment."""
        axes = self._card(panel, box)
        for curve in panel.curves:
            self._line(axes, np.maximum(curve.values / 1000 - self._times, 0) / _DAY, self._theme.colors["blue"])
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))

    def curve(self, panel: Panel, box: Box, *, filled: bool = True) -> None:
        """Draw lines; the first is on top, and may be filled."""
        axes = self._card(panel, box)
        colors = self._colors(panel)
        for number, (curve, color) in enumerate(zip(panel.curves, colors, strict=True)):
            self._line(axes, curve.values, color, filled=filled and number == 0, level=9 - number)
        self._finish(axes, panel, box, colors)

    def stack(self, panel: Panel, box: Box) -> None:
        """Draw the curves stacked; no data counts as 0."""
        axes = self._card(panel, box)
        colors = self._colors(panel)
        values = [np.nan_to_num(curve.values) for curve in panel.curves]
        axes.stackplot(self._days, values, colors=colors, alpha=0.75, linewidth=0)
        self._finish(axes, panel, box, colors)

    def _colors(self, panel: Panel) -> list[str]:
        """The panel's colours, or the theme's in turn."""
        choice = cycle(self._theme.choice)
        return [self._theme.colors[curve.color or next(choice)] for curve in panel.curves]

    def _line(self, axes: Axes, values: Values, color: str, *, filled: bool = True, level: int = 5) -> None:
        axes.plot(self._days, values, color=color, linewidth=1.3, solid_joinstyle="round", zorder=level)
        if filled:
            axes.fill_between(self._days, values, color=color, alpha=0.15, linewidth=0)

    def _finish(self, axes: Axes, panel: Panel, box: Box, colors: Sequence[str]) -> None:
        """Add the scale, the marks and the legend."""
        if panel.unit == "percentunit":
            axes.set_ylim(0, 1.04)
            axes.yaxis.set_major_locator(MultipleLocator(0.25))
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        else:
            axes.set_ylim(0, axes.dataLim.y1 * 1.05)
            axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        for mark in self._marks:
            at, color = mark.at / _DAY, self._theme.colors[mark.color]
            axes.axvline(at, color=color, linewidth=1, linestyle=(0, (4, 3)))
            side = "left" if at < self._days.mean() else "right"
            axes.text(at, 1.03, mark.name, transform=axes.get_xaxis_transform(), color=color, size=7.8, ha=side)
        if len(panel.curves) > 1:
            self._legend(axes, box, [curve.name for curve in panel.curves], colors)

    def _card(self, panel: Panel, box: Box) -> Axes:
        """Draw the card with its title and unit; returns the axes in it."""
        x, y, width, height = _place(box)
        card = FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.004", zorder=-1)
        card.set(
            mutation_aspect=WIDTH / HEIGHT, facecolor=self._theme.card, edgecolor=self._theme.border, linewidth=0.6
        )
        self.figure.add_artist(card)
        left, right, y = box.x + _EDGE, box.x + box.width - _EDGE, 1 - (box.y + 43) / HEIGHT
        title = panel.title.partition(",")[0]
        self.figure.text(left / WIDTH, y, title, color=self._theme.text, size=9.5, weight="bold")
        self.figure.text(right / WIDTH, y, _UNITS.get(panel.unit, ""), color=self._theme.muted, size=7.8, ha="right")
        axes = self.figure.add_axes(_place(box, left=box.left, right=_EDGE, top=box.top, bottom=box.bottom))
        self._day_labels(axes, box.every)
        return axes

    def _day_labels(self, axes: Axes, every: int) -> None:
        """Add a grid, and the names of days to the right of their midnights."""
        axes.set_facecolor("none")
        axes.spines[:].set_visible(False)
        axes.grid(color=self._theme.grid, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, labelsize=8, labelcolor=self._theme.muted)
        axes.set_xlim(self._days[0], self._days[-1] + STEP / _DAY)
        ticks = np.arange(self._days[0], self._days[-1], every)
        names = [f"{datetime.fromtimestamp(day * _DAY, UTC):%a %d}" for day in ticks]
        axes.set_xticks(ticks, names, ha="left")

    def _legend(self, axes: Axes, box: Box, texts: Sequence[str], colors: Sequence[str], *, columns: int = 2) -> None:
        """Place the legend at the left edge of the card, below the names of days."""
        corner = (box.x + _EDGE) / WIDTH, axes.get_position().y0 - 46 / HEIGHT
        axes.legend(
            handles=[Patch(color=color, label=text) for text, color in zip(texts, colors, strict=True)],
            loc="upper left",
            bbox_to_anchor=corner,
            bbox_transform=self.figure.transFigure,
            ncols=columns,
            labelcolor=self._theme.text,
            fontsize=7.8,
            frameon=False,
            borderpad=0,
            borderaxespad=0,
            columnspacing=1.4,
            handletextpad=0.5,
            handlelength=1,
            handleheight=0.8,
        )


def _place(
    box: Box, *, left: int = 0, right: int = 0, top: int = 0, bottom: int = 0
) -> tuple[float, float, float, float]:
    """The area within these distances from a card's edges, as shares of the figure from its lower left corner."""
    width, height = box.width - left - right, box.height - top - bottom
    return (
        (box.x + left) / WIDTH,
        1 - (box.y + box.height - bottom) / HEIGHT,
        width / WIDTH,
        height / HEIGHT,
    )


def stretches(values: Values) -> list[tuple[int, int, int]]:
    """First and last index of each run of one value; runs without data are left out."""
    runs: list[tuple[int, int, int]] = []
    first = 0
    for value, run in groupby(None if np.isnan(number) else int(number) for number in values):
        last = first + len(list(run)) - 1
        if value is not None:
            runs.append((first, last, value))
        first = last + 1
    return runs
