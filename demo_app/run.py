"""Runs the app, the users and the watch together, until the view ends or the user presses Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import Final

from .headless import headless
from .server import running
from .settings import Settings
from .terminal import live
from .traffic import Traffic

_PATIENCE: Final = 2
"""Seconds that the simulated users have to finish."""


async def run(settings: Settings, *, without_terminal: bool) -> int:
    """Run the demo; the exit code.

    Raises:
        Unusable: The port, the database or the log file cannot be used.
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
    """An event that the first Ctrl-C (or SIGTERM) sets; a second one interrupts the shutdown."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def stopping() -> None:
        stop.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    with contextlib.suppress(NotImplementedError):  # Windows: KeyboardInterrupt ends the loop instead
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopping)
    return stop
