"""A world with both administration apps mounted, and a browser that reads their pages and submits their forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin
from xml.etree.ElementTree import Element, TreeBuilder

import httpx
from starlette.applications import Starlette
from starlette.routing import Mount

from jwt_middleware.admin import MyDevices, SessionAdmin
from tests.support.asgi import ask
from tests.support.world import Session, World

ADMIN = "/admin/sessions/"
DEVICES = "/devices/"
HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
SAME_ORIGIN = {"origin": "https://testserver", "sec-fetch-site": "same-origin"}


def is_administrator(conn: Any, session: Session) -> bool:
    return session.role == "admin"


class Stage(World):
    """A world with the administration below ``ADMIN`` and the devices below ``DEVICES``."""

    def __init__(self, *, allow: Callable[..., Any] = is_administrator, **settings: Any) -> None:
        def mounts(authority: Any) -> Starlette:
            admin = SessionAdmin(authority, allow=allow)
            return Starlette(routes=[Mount("/admin/sessions", admin), Mount("/devices", MyDevices(authority))])

        super().__init__(app=mounts, **settings)

    async def visit(self, user_id: str = "1", role: str = "admin", label: str | None = None) -> Visit:
        """A user logs in, a millisecond after the last one."""
        issued = await self.authority.issue(Session(user_id=user_id, role=role), label=label)
        self.clock.advance(0.001)
        return Visit(self, issued.token, issued.session_id)


@dataclass
class Visit:
    """One client: a browser, or a script. It sends its token as the cookie; None sends no cookie."""

    stage: Stage
    token: str | None = None
    session_id: str = ""

    async def ask(self, path: str, method: str = "GET", *, accept: str = "", **settings: Any) -> httpx.Response:
        headers = {"accept": accept, **settings.pop("headers", {})}
        if self.token is not None:
            headers["cookie"] = f"{self.stage.authority.cookie.name}={self.token}"
        return await ask(self.stage.app, path, method, headers=headers, **settings)

    async def json(self, path: str, body: Any = None) -> tuple[int, Any]:
        """The status and the JSON of a GET; of a POST if there is a body."""
        response = await (self.ask(path) if body is None else self.ask(path, "POST", json=body))
        return response.status_code, response.json()

    async def page(self, path: str) -> Page:
        return Page(path, await self.ask(path, accept=HTML))

    async def send(self, page: Page, form: Form) -> Page:
        """Submit a form of the page, as a browser does."""
        target = urljoin(page.path, form.action)
        if form.method != "post":
            return Page(target, await self.ask(target, accept=HTML, params=form.fields))
        return Page(target, await self.ask(target, "POST", accept=HTML, data=form.fields, headers=SAME_ORIGIN))

    async def confirm(self, page: Page, button: str) -> Page:
        """Press a button of the page, and confirm."""
        question = await self.send(page, page.form(button))
        assert (question.status, "?" in question.text) == (200, True)
        assert question.link("No").endswith("/")
        return await self.send(question, question.form("Yes, revoke"))

    async def is_logged_in(self) -> bool:
        return (await self.ask(DEVICES)).status_code == 200


@dataclass
class Form:
    action: str
    method: str
    button: str
    fields: dict[str, str]


class Page(HTMLParser):
    """What a client sees of a page whose elements are closed in the right order."""

    def __init__(self, path: str, response: httpx.Response) -> None:
        super().__init__()
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        self.path, self.response, self.status, self.source = path, response, response.status_code, response.text
        self._tree = TreeBuilder()
        self.feed(self.source)
        self.close()
        root = self._tree.close()
        self.elements = [(element.tag, element.attrib) for element in root.iter()]
        self.text = text_of(root)
        self.links = [(text_of(link), link.attrib["href"]) for link in root.iter("a")]
        self.cells = [[text_of(cell) for cell in row] for row in root.iter("tr")][1:]
        self.forms = [
            Form(
                action=form.attrib["action"],
                method=form.get("method", "get"),
                button="".join(text_of(button) for button in form.iter("button")),
                fields={field.attrib["name"]: field.get("value", "") for field in form.iter("input")},
            )
            for form in root.iter("form")
        ]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tree.start(tag, {name: value or "" for name, value in attrs})
        if tag in ("input", "link", "meta"):
            self._tree.end(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._tree.end(tag).tag == tag

    def handle_data(self, data: str) -> None:
        self._tree.data(data)

    def form(self, button: str) -> Form:
        """The first form with that button."""
        return next(form for form in self.forms if form.button == button)

    def link(self, text: str) -> str:
        """The target of a link."""
        return urljoin(self.path, next(href for name, href in self.links if name == text))


def text_of(element: Element) -> str:
    return "".join(element.itertext()).strip()
