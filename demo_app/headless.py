"""The run without a terminal: a line for each twentieth of the window, then the account, as one JSON object."""

from __future__ import annotations

import asyncio
import contextlib
import json
from time import time

from .account import Account
from .lines import line
from .server import Demo
from .settings import Settings
from .traffic import Traffic
from .watch import Watch

INTERRUPTED = 130


async def headless(settings: Settings, demo: Demo, traffic: Traffic, watch: Watch, stop: asyncio.Event) -> int:
    """Watch until the fallback must have died out; 0 where every promise was kept, 1 where not."""
    while (left := demo.deployment.planned + settings.drained_by - time()) > 0 and not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), min(left, settings.tick))
        figures = watch.figures()
        if figures is not None:
            print(line(figures), flush=True)
    if stop.is_set():
        return INTERRUPTED
    await traffic.end()
    account = await _account(settings, demo, traffic, watch)
    print(json.dumps(account.report()), flush=True)
    return 1 if account.failures else 0


async def _account(settings: Settings, demo: Demo, traffic: Traffic, watch: Watch) -> Account:
    """Nobody sends anything any more: what is counted now is all there is."""
    scrape = await watch.look()
    figures = watch.figures()
    assert figures is not None  # noqa: S101 - there was a scrape just now
    saved, by_nobody = await demo.database.saved()
    return Account(
        settings=settings,
        released_at=demo.deployment.released_at,
        counts=traffic.counts,
        scrape=scrape,
        figures=figures,
        saved=saved,
        saved_by_nobody=by_nobody,
    )
