"""The live page in a real Chromium: what people see, by mouse and by keyboard, in the light and in the dark."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from docs.pictures.live_page import CHROMIUM_ARGUMENTS, chromium
from tests.support.demo import ADMIN, USER, command

SLOWLY = 120_000
"""Milliseconds until a condition that never holds fails its test."""
expect.set_options(timeout=SLOWLY)


@dataclass(frozen=True)
class Running:
    url: str
    password: str


@contextmanager
def demo(*arguments: str) -> Iterator[Running]:
    """The running command; its first line has the address and the password."""
    with command("--port", "0", *arguments) as process:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        yield Running(url=words[0], password=words[-1])
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=SLOWLY / 1000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_ARGUMENTS))
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with demo("--window", "2m", "--release-after", "2m", "--users", "12", "--rate", "8") as on:
        yield on


@contextmanager
def opened(browser: Browser, url: str, **options: object) -> Iterator[Page]:
    """A page of its own; whatever its console calls an error, a broken policy included, fails the test."""
    context = browser.new_context(**options)  # type: ignore[arg-type]  # keywords of the context, as given
    page = context.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_default_timeout(SLOWLY)
    page.goto(url)
    try:
        yield page
        assert errors == []
    finally:
        context.close()


def log_in(page: Page, on: Running, email: str) -> None:
    page.get_by_label("Log in as").select_option(email)
    page.get_by_label("Password").fill(on.password)
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#who")).to_contain_text(email)


def says(page: Page, text: str) -> None:
    expect(page.locator("#said")).to_contain_text(text)


def row_of(page: Page, claim: str) -> str:
    return page.locator("#token tbody tr", has=page.get_by_role("rowheader", name=claim, exact=True)).inner_text()


def test_the_whole_story_from_version_one_to_the_end_of_the_fallback(browser: Browser) -> None:
    arguments = ("--window", "20s", "--release-after", "20s", "--users", "10", "--rate", "12")
    with demo(*arguments) as on, opened(browser, on.url) as page:
        expect(page.locator("#word")).to_have_text("scheduled")
        log_in(page, on, ADMIN)
        expect(page.locator("#who")).to_contain_text("Payload version 1; today's is 2")
        assert re.search(r"user1@example.com\s+filled: (database|cache|shared query)", row_of(page, "email"))
        assert row_of(page, "companyId").split() == ["companyId", "globex", "token"]
        page.get_by_role("button", name="Save something").click()
        says(page, "The fallback fired: email was not in your token.")
        expect(page.locator("#number-rate")).to_have_text("100 %")
        page.get_by_role("button", name="Release version 2").click()
        says(page, "Released")
        expect(page.locator("#number-mints")).to_have_text("version 2")
        expect(page.locator("#word")).to_have_text("draining")
        expect(page.locator("#events")).to_contain_text("minted before the change")

        says(page, "Your session has ended")
        expect(page.locator("#word")).to_have_text("drained: the fallback can be deleted")
        expect(page.locator("#number-rate")).to_have_text("0 %")
        expect(page.locator("#chart-rate")).to_have_attribute("aria-label", "Fallback rate, now 0 %")
        assert painted(page) == [True] * 4
        page.get_by_text("The curves as a table").click()
        expect(page.locator("#as-table tbody tr")).not_to_have_count(0)
        rates = rates_in_the_table(page)
        served = rates_of_the_server(page, on)
        assert all(min(abs(rate - other) for other in served) <= 1 for rate in rates)
        assert max(served) == 100
        assert max(rates) > rates[-1] == 0

        log_in(page, on, ADMIN)
        expect(page.locator("#who")).to_contain_text("Payload version 2")
        expect(page.locator("#token .filled")).to_have_count(0)
        page.locator("#devices li", has_text="(this one)").get_by_role("button").click()
        says(page, "Your session here is revoked: you are logged out.")
        expect(page.get_by_label("Log in as")).to_be_visible()
        expect(page.locator("#logged-in")).to_be_hidden()


def rates_in_the_table(page: Page) -> list[int]:
    """The fallback rates in percent; moments without accepted requests are left out."""
    cells = page.locator("#as-table tbody td:nth-child(5)").all_inner_texts()
    return [int(cell.strip("<> %")) for cell in cells if cell != "-"]


def rates_of_the_server(page: Page, on: Running) -> list[int]:
    """The same rates of all points, as the page gets them."""
    live = page.request.get(f"{on.url}/api/live").json()
    column = live["columns"].index("fallback_rate")
    return [round(100 * point[column]) for point in live["points"] if point[column] is not None]


def painted(page: Page) -> list[bool]:
    """Of each chart: whether something was drawn on it."""
    drawn: list[bool] = page.evaluate(
        """() => [...document.querySelectorAll(".chart canvas")].map((canvas) =>
            canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value > 0))"""
    )
    return drawn


def test_the_page_can_be_used_with_a_keyboard_alone(browser: Browser, running: Running) -> None:
    with opened(browser, running.url) as page:
        expect(page.get_by_label("Log in as")).to_be_visible()
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to your session")).to_be_focused()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        expect(page.get_by_label("Log in as")).to_be_focused()
        page.keyboard.type("user1@")
        page.keyboard.press("Tab")
        page.keyboard.type(running.password)
        page.keyboard.press("Enter")
        says(page, "You are logged in.")
        expect(page.get_by_role("heading", name="Your session")).to_be_focused()
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Release version 2")).to_be_focused()
        page.keyboard.press("Space")
        says(page, "Released")
        expect(page.get_by_role("button", name="Version 2 is released")).to_be_disabled()
        for _ in range(2):
            page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Log out", exact=True)).to_be_focused()
        page.keyboard.press("Enter")
        says(page, "You are logged out.")
        expect(page.get_by_label("Log in as")).to_be_focused()


def test_a_session_that_another_browser_ends_is_seen_on_the_page(browser: Browser, running: Running) -> None:
    with opened(browser, running.url) as here, opened(browser, running.url) as there:
        for page in (here, there):
            log_in(page, running, USER)
        there.get_by_role("button", name="Log out everywhere").click()
        says(there, "You are logged out everywhere.")
        says(here, "Your session has ended: it expired, or it was revoked.")
        expect(here.get_by_label("Log in as")).to_be_focused()


def test_another_device_is_revoked_from_the_list(browser: Browser, running: Running) -> None:
    with opened(browser, running.url) as here, opened(browser, running.url) as there:
        for page in (there, here):
            log_in(page, running, "user3@example.com")
        other = here.locator("#devices li", has_text="browser").filter(has_not_text="(this one)")
        other.get_by_role("button").click()
        says(here, "That session is revoked.")
        says(there, "Your session has ended")


def test_a_wrong_password_is_announced_to_screen_readers(browser: Browser, running: Running) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(running.url)
    page.get_by_label("Log in as").select_option(USER)
    page.get_by_label("Password").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("Email or password is wrong.")
    expect(page.locator("#logged-in")).to_be_hidden()
    context.close()


def test_only_an_administrator_sees_the_link_to_all_sessions(browser: Browser, running: Running) -> None:
    with opened(browser, running.url) as page:
        log_in(page, running, USER)
        expect(page.get_by_role("link", name="All sessions")).to_be_hidden()
    with opened(browser, running.url) as page:
        log_in(page, running, "user11@example.com")
        page.get_by_role("link", name="All sessions").click()
        expect(page.get_by_role("heading", name="Active sessions")).to_be_visible()


def test_updates_can_be_paused(browser: Browser, running: Running) -> None:
    with opened(browser, running.url) as page:
        expect(page.locator("#note-rate")).not_to_be_empty()
        page.get_by_role("button", name="Pause updates").click()
        expect(page.get_by_role("button", pressed=True)).to_have_text("Pause updates")
        page.wait_for_timeout(300)  # an answer that was on its way
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.wait_for_timeout(1_200)
        assert asked == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 768, 1200, 1920])
def test_nothing_overlaps_or_sticks_out_at_any_width(
    browser: Browser, running: Running, width: int, scheme: str
) -> None:
    overlaps = """() => {
      const parts = "h1, #about, #pause, #verdict, #numbers > div, figure, details, #you, #log";
      const boxes = [...document.querySelectorAll(parts)]
        .map((element) => [element.id || element.textContent.trim().slice(0, 20), element.getBoundingClientRect()]);
      return boxes.flatMap(([name, a], place) => boxes.slice(place + 1)
        .filter(([, b]) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1)
        .map(([other]) => [name, other]));
    }"""
    # Texts whose contrast is below 4.5 (WCAG 2.2, success criterion 1.4.3).
    unreadable = """() => {
      const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
      const light = ([r, g, b]) => [r, g, b].map((each) => each / 255)
        .map((each) => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
        .reduce((sum, each, place) => sum + each * [0.2126, 0.7152, 0.0722][place], 0);
      const paper = (element) => {
        for (let at = element; at; at = at.parentElement) {
          const [r, g, b, alpha = 1] = numbers(getComputedStyle(at).backgroundColor);
          if (alpha > 0) return [r, g, b];
        }
      };
      return [...document.querySelectorAll("body *")]
        .filter((element) => element.checkVisibility() && !element.disabled && !element.closest("svg, select"))
        .filter((element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()))
        .map((element) => {
          const [a, b] = [light(numbers(getComputedStyle(element).color)), light(paper(element))];
          return [element.textContent.trim().slice(0, 30), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
        })
        .filter(([, contrast]) => contrast < 4.5);
    }"""
    size = {"width": width, "height": 900}
    with opened(browser, running.url, viewport=size, color_scheme=scheme) as page:
        log_in(page, running, "user4@example.com")
        expect(page.locator("#note-rate")).not_to_be_empty()
        page.get_by_text("The curves as a table").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(overlaps) == []
        assert page.evaluate(unreadable) == []
