"""An app with both administration apps mounted, a browser that reads its pages and sends their forms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import httpx
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount

from jwt_middleware import JWTSessionMiddleware, MemorySessionStore, SessionStore
from jwt_middleware.admin.devices import MyDevices
from jwt_middleware.admin.sessions import SessionAdmin
from jwt_middleware.testing import client
from tests.support.world import FakeClock, Session, authority_of

ADMIN = "/admin/sessions/"
DEVICES = "/devices/"
HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
_VOID = {"input", "link", "meta"}


def is_administrator(conn: Any, session: Session) -> bool:
    return session.role == "admin"


class Stage:
    """One authority, its store, the app, and who asks it."""

    def __init__(
        self,
        *,
        allow: Callable[..., Any] = is_administrator,
        store: SessionStore | None = None,
        clock: FakeClock | None = None,
        optional: Sequence[str] = (),
        public: Sequence[str] = (),
        **settings: Any,
    ) -> None:
        self.clock = clock or FakeClock()
        self.store = store or MemorySessionStore(clock=self.clock)
        self.authority = authority_of(store=self.store, clock=self.clock, **settings)
        self.app = Starlette(
            routes=[
                Mount(ADMIN.rstrip("/"), SessionAdmin(self.authority, allow=allow)),
                Mount(DEVICES.rstrip("/"), MyDevices(self.authority)),
            ],
            middleware=[Middleware(JWTSessionMiddleware, authority=self.authority, optional=optional, public=public)],
        )

    async def log_in(self, user_id: str = "1", role: str = "admin", label: str | None = None) -> Visit:
        issued = await self.authority.issue(Session(user_id=user_id, role=role), label=label)
        self.clock.advance(0.001)
        return Visit(self, issued.token, issued.session_id)

    def nobody(self) -> Visit:
        return Visit(self, None, "")


class Visit:
    """One browser, or one script, with one session's cookie."""

    def __init__(self, stage: Stage, token: str | None, session_id: str) -> None:
        self.token = token
        self.session_id = session_id
        self._stage = stage

    async def ask(self, path: str, method: str = "GET", *, accept: str = "", **settings: Any) -> httpx.Response:
        headers = {"accept": accept, **settings.pop("headers", {})}
        if self.token is not None:
            headers.setdefault("cookie", f"{self._stage.authority.cookie.name}={self.token}")
        async with client(self._stage.app) as http:
            return await http.request(method, path, headers=headers, **settings)

    async def json(self, path: str, body: Any = None) -> tuple[int, Any]:
        """As a script: GET, or POST where there is a body."""
        response = await (self.ask(path) if body is None else self.ask(path, "POST", json=body))
        return response.status_code, response.json()

    async def page(self, path: str) -> Page:
        return Page(path, await self.ask(path, accept=HTML))

    async def send(self, page: Page, form: Form) -> Page:
        """As a browser sends it."""
        headers = {"origin": "https://testserver", "sec-fetch-site": "same-origin"}
        target = urljoin(page.path, form.action)
        if form.method != "post":
            return Page(target, await self.ask(target, accept=HTML, params=form.fields))
        return Page(target, await self.ask(target, "POST", accept=HTML, data=form.fields, headers=headers))


class Form:
    def __init__(self, action: str, method: str) -> None:
        self.action = action
        self.method = method
        self.fields: dict[str, str] = {}
        self.button = ""


class Page(HTMLParser):
    """What a reader of the page has: its text, its forms and links, its cells; each element closed as it was opened."""

    def __init__(self, path: str, response: httpx.Response) -> None:
        super().__init__()
        self.path = path
        self.status = response.status_code
        self.headers = response.headers
        self.source = response.text
        self.forms: list[Form] = []
        self.links: list[tuple[str, str]] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self._open: list[str] = []
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        self.feed(self.source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.elements.append((tag, given))
        if tag == "form":
            self.forms.append(Form(given.get("action") or "", given.get("method") or "get"))
        elif tag == "input" and given.get("type") == "hidden":
            self.forms[-1].fields[given["name"] or ""] = given["value"] or ""
        elif tag == "a":
            self.links.append(("", given["href"] or ""))
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "a" in self._open:
            text, href = self.links[-1]
            self.links[-1] = ((text + data).strip(), href)
        if "button" in self._open:
            self.forms[-1].button = (self.forms[-1].button + data).strip()
        if "td" in self._open or "th" in self._open:
            self.rows[-1][-1] += data

    def form(self, button: str) -> Form:
        """The first form with that button."""
        return next(form for form in self.forms if form.button == button)

    def link(self, text: str) -> str:
        """Where a link leads."""
        return urljoin(self.path, next(href for name, href in self.links if name == text))

    @property
    def cells(self) -> list[list[str]]:
        """The rows of its table, without the heads."""
        return [[cell.strip() for cell in row] for row in self.rows[1:]]
