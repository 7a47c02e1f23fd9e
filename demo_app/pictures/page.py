"""The live page on its sixth day, as Chromium shows it, light and dark."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from time import time
from typing import Final

from playwright.async_api import Page, ViewportSize, async_playwright

from ..browser import ARGUMENTS, chromium
from ..database import email_of
from ..server import Demo, running
from ..settings import Settings
from ..traffic import Traffic

SETTINGS: Final = Settings(window=70, port=0, users=80, rate=40)
DAY: Final = 6
NAMES: Final = {"light": "live-page.png", "dark": "live-page-dark.png"}
_SIZE: Final[ViewportSize] = {"width": 1240, "height": 960}


async def take(directory: Path, settings: Settings = SETTINGS, *, day: float = DAY) -> None:
    """Live through the days of a migration, logged in since before the release."""
    async with running(settings) as demo, _lived_in(settings, demo), async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=list(ARGUMENTS))
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
async def _lived_in(settings: Settings, demo: Demo) -> AsyncIterator[None]:
    """With users, a watch, and the release on time."""
    traffic = Traffic(settings, demo.http, demo.password)
    async with asyncio.TaskGroup() as group:
        going = [
            group.create_task(traffic.run()),
            group.create_task(demo.watch.follow()),
            group.create_task(demo.deployment.release_on_time()),
        ]
        try:
            yield
        finally:
            for task in going:
                task.cancel()


async def _log_in(page: Page, demo: Demo, email: str) -> None:
    await page.goto(demo.url)
    await page.get_by_label("Log in as").select_option(email)
    await page.get_by_label("Password").fill(demo.password)
    await page.get_by_role("button", name="Log in").click()
    await page.locator("#token tbody tr").first.wait_for()
