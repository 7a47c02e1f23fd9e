"""Responses: JSON or a page, security headers on every one, problem details, and accessible pages."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from jwt_middleware.admin.responses import prefers_html
from tests.support.administration import ADMIN, DEVICES, HTML, Page, Stage, Visit
from tests.support.asgi import scope_of


def check_accessible(page: Page) -> None:
    names = [name for name, _ in page.elements]
    assert page.source.startswith('<!doctype html>\n<html lang="en">')
    assert names.count("h1") == names.count("main") == names.count("title") == 1
    assert names.count("table") == names.count("caption")
    assert not {"script", "style"} & set(names)
    assert page.links[0] == ("Skip to content", "#content")
    assert "content" in [attributes.get("id") for _, attributes in page.elements]
    labelled = {attributes["for"] for name, attributes in page.elements if name == "label"}
    for name, attributes in page.elements:
        assert not any(attribute == "style" or attribute.startswith("on") for attribute in attributes)
        assert name != "th" or attributes["scope"] in ("row", "col")
        assert name != "input" or attributes.get("type") == "hidden" or attributes["id"] in labelled
        assert name != "nav" or attributes["aria-label"]
    labels = [attributes.get("aria-label") for name, attributes in page.elements if name == "button"]
    labels = [label for label in labels if label is not None]
    assert len(labels) == len(set(labels))  # a screen reader tells the buttons apart


class TestResponses:
    def test_a_client_that_ranks_html_above_json_gets_html(self, subtests: pytest.Subtests) -> None:
        for accept, html in [
            (HTML, True),
            ("text/html", True),
            ("text/*", True),
            ("TEXT/HTML; charset=utf-8", True),
            ("text/html;q=0.5, application/json;q=0.4", True),
            ("text/html, application/json", False),
            ("application/json", False),
            ("*/*", False),
            ("", False),
            (None, False),
            ("text/html;q=0, */*", False),
            ("text/*;q=0.9, text/html;q=0.1, application/json;q=0.2", False),
            ("text/html;q=0.1, text/html;q=0.9, application/json;q=0.5", True),
            ("text/html;q=high", False),
            ("application/*, text/html;q=0.9", False),
            ("nonsense, ,;", False),
        ]:
            with subtests.test(accept=accept):
                headers = [] if accept is None else [(b"accept", accept.encode())]
                assert prefers_html(Request(scope_of(headers=headers))) is html

    @pytest.mark.parametrize("accept", ["", HTML])
    async def test_every_response_carries_the_security_headers(self, accept: str, subtests: pytest.Subtests) -> None:
        for path, method, status in [
            (ADMIN, "GET", 200),
            (DEVICES, "GET", 200),
            (f"{ADMIN}migration", "HEAD", 200),
            (f"{ADMIN}style.css", "GET", 200),
            (f"{ADMIN}sessions", "GET", 400),
            (f"{ADMIN}nowhere", "GET", 404),
            (ADMIN, "DELETE", 405),
            (f"{ADMIN}revoke-all", "POST", 415),
        ]:
            with subtests.test(path=path):
                response = await (await Stage().visit()).ask(path, method, accept=accept)
                assert response.status_code == status
                policy = response.headers["content-security-policy"].split("; ")
                assert policy[0] == "default-src 'none'"
                assert "frame-ancestors 'none'" in policy
                assert not any("unsafe" in rule or "script" in rule for rule in policy)
                assert response.headers["cache-control"] == "no-store"
                assert response.headers["x-content-type-options"] == "nosniff"
                assert response.headers["referrer-policy"] == "same-origin"
                assert {name.strip() for name in response.headers["vary"].split(",")} == {
                    "Accept",
                    "Authorization",
                    "Cookie",
                }
                if status >= 400:
                    kind = "text/html; charset=utf-8" if accept else "application/problem+json"
                    assert response.headers["content-type"] == kind

    async def test_a_problem_is_shown_in_both_media_types(self) -> None:
        visit = await Stage().visit(role="user")
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
        status, problem = await visit.json(f"{ADMIN}nowhere")
        assert (status, problem) == (404, {"type": "about:blank", "title": "Not Found", "status": 404})

    async def test_a_request_without_a_session_gets_the_scheme_to_use(self) -> None:
        response = await Visit(Stage(optional=["/*"])).ask(ADMIN)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"

    @pytest.mark.parametrize("path", [ADMIN, f"{ADMIN}sessions?user_id=1", f"{ADMIN}migration", DEVICES])
    async def test_pages_and_confirmations_are_accessible(self, path: str) -> None:
        stage = Stage()
        visit = await stage.visit(label="phone")
        await stage.visit()
        page = await visit.page(path)
        check_accessible(page)
        for form in page.forms:
            if form.method == "post":
                check_accessible(await visit.send(page, form))

    async def test_links_are_relative_so_that_any_prefix_works(self) -> None:
        page = await (await Stage().visit()).page(ADMIN)
        targets = [href for _, href in page.links] + [form.action for form in page.forms]
        assert len(targets) > 5
        assert not any(target.startswith("/") or "//" in target for target in targets)
        assert ("link", {"rel": "stylesheet", "href": "style.css"}) in page.elements

    async def test_the_path_without_its_slash_is_redirected(self) -> None:
        response = await (await Stage().visit()).ask(ADMIN.rstrip("/"))
        assert response.status_code == 307
        assert response.headers["location"] == f"https://testserver{ADMIN}"
