"""JSON or a page, the headers of whatever is answered, and what is said when something is wrong."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from jwt_middleware.admin.responses import prefers_html
from tests.support.administration import ADMIN, DEVICES, HTML, Page, Stage
from tests.support.asgi import scope_of


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        (HTML, True),
        ("text/html", True),
        ("text/*", True),
        ("TEXT/HTML; charset=utf-8", True),
        ("text/html;q=0.5, application/json;q=0.4", True),
        ("text/html, application/json", False),
        ("application/json", False),
        ("*/*", False),
        ("", False),
        ("text/html;q=0, */*", False),
        ("text/*;q=0.9, text/html;q=0.1, application/json;q=0.2", False),
        ("text/html;q=high", False),
        ("application/*, text/html;q=0.9", False),
        ("nonsense, ,;", False),
    ],
)
def test_html_where_it_is_wanted_more(accept: str, html: bool) -> None:
    assert prefers_html(Request(scope_of(headers=[(b"accept", accept.encode())]))) is html


def test_without_accept_it_is_json() -> None:
    assert not prefers_html(Request(scope_of()))


@pytest.mark.parametrize("accept", ["", HTML])
@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        (ADMIN, "GET", 200),
        (DEVICES, "GET", 200),
        (f"{ADMIN}migration", "HEAD", 200),
        (f"{ADMIN}style.css", "GET", 200),
        (f"{ADMIN}sessions", "GET", 400),
        (f"{ADMIN}nowhere", "GET", 404),
        (ADMIN, "DELETE", 405),
        (f"{ADMIN}revoke-all", "POST", 415),
    ],
)
async def test_whatever_is_answered_carries_the_headers(path: str, method: str, status: int, accept: str) -> None:
    response = await (await Stage().log_in()).ask(path, method, accept=accept)
    assert response.status_code == status
    policy = response.headers["content-security-policy"].split("; ")
    assert policy[0] == "default-src 'none'"
    assert "frame-ancestors 'none'" in policy
    assert not any("unsafe" in rule or "script" in rule for rule in policy)
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "same-origin"
    assert {name.strip() for name in response.headers["vary"].split(",")} == {"Accept", "Authorization", "Cookie"}
    if status >= 400:
        kind = "text/html; charset=utf-8" if accept else "application/problem+json"
        assert response.headers["content-type"] == kind


async def test_a_problem_is_told_in_either_shape() -> None:
    visit = await Stage().log_in(role="user")
    assert await visit.json(ADMIN) == (
        403,
        {
            "type": "about:blank",
            "title": "Forbidden",
            "status": 403,
            "detail": "You may not administrate sessions.",
        },
    )
    page = await visit.page(ADMIN)
    assert page.status == 403
    assert "You may not administrate sessions." in page.text
    assert ("p", {"role": "alert"}) in page.elements
    assert await visit.json(f"{ADMIN}nowhere") == (
        404,
        {"type": "about:blank", "title": "Not Found", "status": 404},
    )


async def test_who_has_no_session_is_told_how_to_get_one() -> None:
    response = await Stage(optional=["/*"]).nobody().ask(ADMIN)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", [ADMIN, f"{ADMIN}sessions?user_id=1", f"{ADMIN}migration", DEVICES])
async def test_pages_are_read_without_eyes_hands_and_scripts(path: str) -> None:
    stage = Stage()
    visit = await stage.log_in(label="phone")
    await stage.log_in()
    page = await visit.page(path)
    _is_accessible(page)
    for form in page.forms:
        if form.method == "post":
            _is_accessible(await visit.send(page, form))


def _is_accessible(page: Page) -> None:
    names = [name for name, _ in page.elements]
    assert page.source.startswith('<!doctype html>\n<html lang="en">')
    assert names.count("h1") == names.count("main") == names.count("title") == 1
    assert names.count("table") == names.count("caption")
    assert "script" not in names
    assert "style" not in names
    by_id = {given["id"] for _, given in page.elements if "id" in given}
    assert page.links[0] == ("Skip to content", "#content")
    assert "content" in by_id
    labelled = {given.get("for") for name, given in page.elements if name == "label"}
    for name, given in page.elements:
        assert "style" not in given
        assert not any(attribute.startswith("on") for attribute in given)
        if name == "th":
            assert given["scope"] in ("row", "col")
        if name == "input" and given.get("type") != "hidden":
            assert given["id"] in labelled
        if name == "nav":
            assert given["aria-label"]
    buttons = [given.get("aria-label") for name, given in page.elements if name == "button"]
    told = [label for label in buttons if label is not None]
    assert len(told) == len(set(told))  # each can be told from the others


async def test_links_hold_behind_a_prefix_that_nobody_mentions() -> None:
    page = await (await Stage().log_in()).page(ADMIN)
    targets = [href for _, href in page.links] + [form.action for form in page.forms]
    assert len(targets) > 5
    assert not any(target.startswith("/") or "//" in target for target in targets)
    assert ("link", {"rel": "stylesheet", "href": "style.css"}) in page.elements


async def test_the_page_without_its_slash_is_found() -> None:
    response = await (await Stage().log_in()).ask(ADMIN.rstrip("/"))
    assert response.status_code == 307
    assert response.headers["location"] == f"https://testserver{ADMIN}"
