"""Screenshots of the demo's live page on its sixth day, in Chromium, light and dark."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from time import time
from typing import Final

from playwright.async_api import Page, ViewportSize, async_playwright

from demo_app.database import email_of
from demo_app.server import Demo, running
from demo_app.settings import Settings
from demo_app.traffic import Traffic

SETTINGS: Final = Settings(window=70, port=0, users=80, rate=40)
DAY: Final = 6
NAMES: Final = {"light": "live-page.png", "dark": "live-page-dark.png"}
CHROMIUM_ARGUMENTS: Final = (
    "--no-sandbox",  # containers run as root; Chromium opens only the demo's own pages
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_SIZE: Final[ViewportSize] = {"width": 1240, "height": 960}


def chromium() -> str:
    """The path of an installed Chromium.

    Raises:
        FileNotFoundError: It is not installed.
    """
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        raise FileNotFoundError("Chromium is not installed; run apt-get install chromium")
    return path


async def take(directory: Path, settings: Settings = SETTINGS, *, day: float = DAY) -> None:
    """Run the demo up to that day, logged in since before the release, and write both screenshots."""
    async with running(settings) as demo, _traffic(settings, demo), async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_ARGUMENTS))
        pages: dict[str, Page] = {}
        for user, scheme in enumerate(("light", "dark"), 2):
            context = await browser.new_context(
                viewport=_SIZE, color_scheme="dark" if scheme == "dark" else "light", device_scale_factor=1
            )
            pages[scheme] = await context.new_page()
            await _log_in(pages[scheme], demo, email_of(user))
        await asyncio.sleep(demo.deployment.planned + day * settings.day - time())
        for scheme, page in pages.items():
            await page.screenshot(path=directory / NAMES[scheme])
        await browser.close()


@contextlib.asynccontextmanager
async def _traffic(settings: Settings, demo: Demo) -> AsyncIterator[None]:
    """Users, the watch, and the release on time."""
    traffic = Traffic(settings, demo.http, demo.password)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(traffic.run()),
            group.create_task(demo.watch.follow()),
            group.create_task(demo.deployment.release_on_time()),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def _log_in(page: Page, demo: Demo, email: str) -> None:
    await page.goto(demo.url)
    await page.get_by_label("Log in as").select_option(email)
    await page.get_by_label("Password").fill(demo.password)
    await page.get_by_role("button", name="Log in").click()
    await page.locator("#token tbody tr").first.wait_for()
