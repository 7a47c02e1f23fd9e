"""The example of docs/adopting.md does what the page says, with tokens of the former code and a clock of the test."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from jwt_middleware import (
    Envelope,
    JWTSessionMiddleware,
    Key,
    KeyRing,
    SessionAuthority,
    SessionCookie,
    SessionSchema,
)
from tests.support.asgi import ask, counts, foreign_token
from tests.support.processes import ROOT
from tests.support.world import DAY, EPOCH, FakeClock

PAGE = (ROOT / "docs" / "adopting.md").read_text("utf-8")
CODE = "\n\n".join(re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
OLD_SECRET = "sixteen letters."
MOMENT = datetime(2026, 12, 8, tzinfo=UTC).timestamp()
LEEWAY = 30


@dataclass
class Session:
    user_id: str


class Guide:
    """The names that the page defines."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = FakeClock(EPOCH)
        monkeypatch.setenv("JWT_SECRET", "of today, and long enough for HS256")
        monkeypatch.setenv("OLD_JWT_SECRET", OLD_SECRET)
        monkeypatch.setattr(
            "jwt_middleware.SessionAuthority",
            lambda *args, **settings: SessionAuthority(*args, **settings, clock=self.clock),
        )
        self.names: dict[str, Any] = {"__name__": __name__}
        exec(CODE, self.names)
        self.authority: SessionAuthority[Any] = self.names["authority"]

        async def promoting(request: Request) -> JSONResponse:
            response = JSONResponse(self.authority.session(request).id)
            await self.names["promote"](request, response)
            return response

        middleware = [Middleware(JWTSessionMiddleware, authority=self.authority)]
        self.app = Starlette(routes=[Route("/", promoting)], middleware=middleware)

    def old(self, **claims: Any) -> str:
        """A token of the former code: it lives 30 days and has no ``iat``."""
        exp = int(self.clock.now()) + 30 * DAY
        return foreign_token(OLD_SECRET.encode(), {"id": "7", "role": "user", "exp": exp, **claims})

    async def reason(self, *tokens: str) -> str | None:
        cookie = "; ".join(f"token={token}" for token in tokens)
        return (await self.authority.authenticate([(b"cookie", cookie.encode())])).reason


@pytest.fixture
def guide(monkeypatch: pytest.MonkeyPatch) -> Guide:
    return Guide(monkeypatch)


async def test_the_guide_admits_the_old_token_and_each_rule_is_counted(guide: Guide) -> None:
    assert await guide.reason(guide.old()) is None
    line = "foreign-2026-12-08"
    needed = {(line, rule): 1 for rule in ("foreign", "key", "iat", "window")}
    assert counts(guide.authority, "adoptions") == needed
    assert set(counts(guide.authority, "adoptions", zeros=True)) == set(needed)


async def test_the_guide_refuses_other_tokens_of_the_old_secret(guide: Guide) -> None:
    assert await guide.reason(guide.old(aud=None, iss=None, sub=7)) is None
    exp = int(EPOCH) + DAY
    reset = foreign_token(OLD_SECRET.encode(), {"id": "7", "exp": exp})
    assert await guide.reason(reset) == "token_foreign"


async def test_a_line_is_over_one_window_after_its_moment(guide: Guide) -> None:
    assert await guide.reason(guide.old(iat=int(EPOCH))) is None
    guide.clock.advance(MOMENT - EPOCH + 10)
    assert await guide.reason(guide.old(iat=int(MOMENT) - 1)) is None
    guide.clock.advance(LEEWAY)
    assert await guide.reason(guide.old(iat=int(MOMENT) + LEEWAY)) == "token_foreign"
    last = guide.old()
    guide.clock.advance(30 * DAY)
    assert await guide.reason(last) is None
    guide.clock.advance(2 * LEEWAY - 40)
    assert await guide.reason(last) == "token_foreign"


async def test_promoting_starts_a_session_once(guide: Guide) -> None:
    response = await ask(guide.app, cookie=f"token={guide.old()}")
    assert response.json() == "7"
    token = re.match("token=([^;]+)", response.headers["set-cookie"])
    assert token is not None
    assert "set-cookie" not in (await ask(guide.app, cookie=f"token={token[1]}")).headers


async def test_a_cookie_of_two_subjects_is_ambiguous(guide: Guide) -> None:
    session = guide.names["Session"]
    issued = await guide.authority.issue(session(id="7"))
    tossed = await guide.authority.issue(session(id="8"))
    assert await guide.reason(issued.token, guide.old()) is None
    assert await guide.reason(issued.token, tossed.token) == "token_ambiguous"
    assert await guide.reason(tossed.token, issued.token) == "token_ambiguous"


def test_the_page_names_each_rule_that_a_foreign_token_can_need() -> None:
    line = Envelope.foreign(
        window=timedelta(days=30),
        iat=False,
        scheme="Bearer",
        cookie=SessionCookie("token"),
        issuer="old",
        audience="old",
    )
    authority = SessionAuthority(
        SessionSchema(Session, version=1, subject="user_id"),
        keys=KeyRing([Key.hmac("new" * 16), Key.hmac("old" * 16, foreign=True)]),
        issuer="new",
        audience="new",
        also_accept=[line],
    )
    counted = [rule for _, rule in counts(authority, "adoptions", zeros=True)]
    assert sorted(re.findall(r"\| `([a-z]+)` \|$", PAGE, re.MULTILINE)) == sorted(counted)
