"""Figures in words: one line where there is no terminal, and the same words in the live view."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from jwt_middleware import Verdict

from .watch import Figures

_SENTENCES: Final[Mapping[Verdict, str]] = {
    Verdict.NO_PLAN: "Nobody has said when version 2 is to be minted, so nothing can be said about the end.",
    Verdict.SCHEDULED: "Every reader knows version 2 already; logins mint version 1 until the release.",
    Verdict.STILL_MINTED: "Some issuer still mints version 1: find and update it, or the fallback will never end.",
    Verdict.LATE_DRAINING: "Version 1 was minted after the release, later than planned; those tokens are dying out.",
    Verdict.DRAINING: "Old tokens live on, and need the fallback until the last of them has expired.",
    Verdict.DRAINED: "No token of version 1 is alive any more.",
    Verdict.UNPROVEN: "No old token is in sight, but the watch has gaps or no requests: absence is not zero.",
}


def sentence(verdict: Verdict) -> str:
    """What a verdict means, for who reads it the first time."""
    return _SENTENCES[verdict]


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
