"""The terminal view: the figures until Ctrl-C, as a table in a terminal, else line by line."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime
from time import time

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from jwt_middleware import Verdict

from .database import email_of
from .server import Demo
from .settings import Settings
from .watch import Figures, Watch

_BAR = 40
_DRAINED_MESSAGE = "The old payload is gone: the fallback can be deleted. Ctrl-C ends the demo."
_REFRESH = 0.5


def share(value: float | None) -> str:
    """``37 %``, or a dash without data; a value above zero is never shown as ``0 %``."""
    if value is None:
        return "-"
    return "< 1 %" if 0 < value < 0.01 else f"{value:.0%}".replace("%", " %")


def clock(moment: float | None) -> str:
    """The local time of day."""
    return "-" if moment is None else f"{datetime.fromtimestamp(moment).astimezone():%H:%M:%S}"


def line(figures: Figures) -> str:
    """The figures in one line."""
    return (
        f"{clock(figures.at)}  requests {figures.requests}  old {share(figures.old_share)}  "
        f"fallback {share(figures.fallback_rate)}  refused {figures.refused} (expired {figures.expired})  "
        f"sunset {clock(figures.sunset)}  {figures.verdict.value}"
    )


async def live(settings: Settings, demo: Demo, watch: Watch, stop: asyncio.Event) -> int:
    """Show the figures until Ctrl-C; the exit code, which is always 0."""
    print(banner(settings, demo), flush=True)
    console = Console()
    if not console.is_terminal:
        await _print_lines(settings, watch, stop)
        return 0
    with Live(console=console, auto_refresh=False) as view:
        while not await _stopped(stop, _REFRESH):
            figures = watch.figures()
            if figures is not None:
                view.update(table(figures, demo.deployment.planned), refresh=True)
    return 0


def banner(settings: Settings, demo: Demo) -> str:
    """The addresses, and the users to log in as."""
    return (
        f"{demo.url}  is the live page: log in as {email_of(1)} or {email_of(2)}, password {demo.password}\n"
        f"metrics: {demo.url}/metrics  log: {demo.log}\n"
        f"A token lives {settings.window} s (seven days). Logins mint version 2, with an email, from "
        f"{clock(demo.deployment.planned)} on. Ctrl-C ends the demo."
    )


def table(figures: Figures, planned: float) -> Group:
    """The figures, one in each row."""
    rows = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    left = planned - time()
    release = f"in {left:.0f} s" if left > 0 else f"{-left:.0f} s ago"
    facts = {
        "release": f"{clock(planned)}, {release}",
        "requests": f"{figures.requests}  ({figures.per_second:.0f}/s)",
        "old share": f"{share(figures.old_share):>6}  {_bar(figures.old_share)}",
        "fallback rate": f"{share(figures.fallback_rate):>6}  {_bar(figures.fallback_rate)}",
        "refusals": f"{figures.refused}  (and {figures.expired} expired tokens, whose users logged in again)",
        "sunset": clock(figures.sunset),
        "verdict": figures.verdict.value,
    }
    for name, value in facts.items():
        rows.add_row(Text(name, style="bold"), Text(value))
    end = Text(_DRAINED_MESSAGE, style="bold green") if figures.verdict is Verdict.DRAINED else Text("")
    return Group(rows, end)


async def _print_lines(settings: Settings, watch: Watch, stop: asyncio.Event) -> None:
    announced = False
    while not await _stopped(stop, settings.tick):
        figures = watch.figures()
        if figures is None:
            continue
        print(line(figures), flush=True)
        if figures.verdict is Verdict.DRAINED and not announced:
            announced = True
            print(_DRAINED_MESSAGE, flush=True)


async def _stopped(stop: asyncio.Event, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
    return stop.is_set()


def _bar(value: float | None) -> str:
    return "█" * round(_BAR * min(1.0, value or 0.0))
