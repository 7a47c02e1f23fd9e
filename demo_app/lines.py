"""Figures in words: one line where there is no terminal, and the same words in the live view."""

from __future__ import annotations

from datetime import datetime

from .watch import Figures


def share(value: float | None) -> str:
    """``37 %``, or a dash where nothing was accepted; what is not zero is never shown as zero."""
    if value is None:
        return "-"
    return "< 1 %" if 0 < value < 0.01 else f"{value:.0%}".replace("%", " %")


def clock(moment: float | None) -> str:
    """The wall clock's time of day."""
    return "-" if moment is None else f"{datetime.fromtimestamp(moment).astimezone():%H:%M:%S}"


def line(figures: Figures) -> str:
    """One line for a log."""
    return (
        f"{clock(figures.at)}  requests {figures.requests}  old {share(figures.old_share)}  "
        f"fallback {share(figures.fallback_rate)}  refused {figures.refused} (expired {figures.expired})  "
        f"sunset {clock(figures.sunset)}  {figures.verdict.value}"
    )
