"""App, users and watch together, until the view has seen enough or somebody presses Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import Final

from .headless import headless
from .live import live
from .server import running
from .settings import Settings
from .traffic import Traffic

_PATIENCE: Final = 2
"""Seconds that users have to finish what they are doing."""


async def run(settings: Settings, *, without_terminal: bool) -> int:
    """The exit code.

    Raises:
        Unusable: The port, the database or the log's file.
    """
    stop = _stop_signal()
    async with running(settings) as demo, asyncio.TaskGroup() as group:
        traffic, watch = Traffic(settings, demo.http, demo.password), demo.watch
        background = [
            group.create_task(traffic.run()),
            group.create_task(watch.follow()),
            group.create_task(demo.deployment.release_on_time()),
        ]
        try:
            if without_terminal:
                return await headless(settings, demo, traffic, watch, stop)
            return await live(settings, demo, watch, stop)
        finally:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(traffic.end(), _PATIENCE)
            for task in background:
                task.cancel()


def _stop_signal() -> asyncio.Event:
    """Set by the first Ctrl-C (or SIGTERM); a second one interrupts the ending itself."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def stopping() -> None:
        stop.set()
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(each)

    with contextlib.suppress(NotImplementedError):  # Windows: KeyboardInterrupt ends the loop instead
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(each, stopping)
    return stop
