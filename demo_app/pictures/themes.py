"""The light and the dark of the panels' picture: Grafana's names of colours, readable on either."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Theme:
    """Colours of surfaces and texts, and those that the panels name."""

    canvas: str
    card: str
    border: str
    text: str
    muted: str
    grid: str
    on_color: str
    """Of a word upon one of the colours."""
    colors: Mapping[str, str]
    choice: tuple[str, ...] = ("orange", "purple", "green", "yellow", "red", "blue")
    """Where a panel names none, one after the other."""


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
