"""Who may: asked per request, after the store was, and never by what a default says."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.routing import Mount

from jwt_middleware import JWTSessionMiddleware, MemorySessionStore, source
from jwt_middleware.admin.devices import MyDevices
from jwt_middleware.admin.sessions import SessionAdmin
from jwt_middleware.errors import ConfigError, Unavailable
from jwt_middleware.testing import old_token
from jwt_middleware.types import SessionKey
from tests.support.administration import ADMIN, DEVICES, HTML, Stage, Visit
from tests.support.asgi import Sent, ask, nothing, scope_of
from tests.support.world import FakeClock, Session, authority_of

ROUTES = [
    ("GET", ADMIN),
    ("GET", f"{ADMIN}sessions?user_id=1"),
    ("GET", f"{ADMIN}migration"),
    ("POST", f"{ADMIN}revoke-session"),
    ("POST", f"{ADMIN}revoke-user"),
    ("POST", f"{ADMIN}revoke-all"),
]
MINE = [("GET", DEVICES), ("POST", f"{DEVICES}revoke-session"), ("POST", f"{DEVICES}revoke-others")]
BODY = {"session_id": "", "user_id": "1", "confirm": True}


async def statuses(visit: Visit, routes: list[tuple[str, str]]) -> set[int]:
    """Of all routes, as JSON and as a page."""
    found = set()
    for method, path in routes:
        for accept in ("", HTML):
            body = {"json": BODY} if method == "POST" else {}
            found.add((await visit.ask(path, method, accept=accept, **body)).status_code)
    return found


class Counting(MemorySessionStore):
    """Counts how often it is asked whether a session is active; may be down."""

    asked = 0
    down = False

    async def statuses(self, keys: Any) -> Any:
        self.asked += 1
        if self.down:
            raise Unavailable("the database could not answer")
        return await super().statuses(keys)


def test_without_allow_nothing_is_mounted() -> None:
    authority: Any = authority_of(store=MemorySessionStore())
    for allow in (None, True, "admin"):
        with pytest.raises(ConfigError, match="who may administrate sessions"):
            SessionAdmin(authority, allow=allow)  # type: ignore[arg-type] # what must not pass
    with pytest.raises(ConfigError, match="who may administrate sessions"):
        SessionAdmin(authority)


def test_without_a_store_nothing_is_mounted() -> None:
    with pytest.raises(ConfigError, match="only with a store"):
        SessionAdmin(authority_of(), allow=lambda request, session: True)
    with pytest.raises(ConfigError, match="only with a store"):
        MyDevices(authority_of())


async def _async_true(conn: HTTPConnection, session: Session) -> bool:
    return True


def _raises(conn: HTTPConnection, session: Session) -> bool:
    raise LookupError(f"the secret of {session.user_id}")


async def _raises_later(conn: HTTPConnection, session: Session) -> bool:
    raise LookupError("later")


@pytest.mark.parametrize("allow", [lambda conn, session: session.role == "admin", _async_true])
async def test_true_allows(allow: Any) -> None:
    assert (await (await Stage(allow=allow).log_in()).json(ADMIN))[0] == 200


@pytest.mark.parametrize(
    "allow",
    [
        lambda conn, session: False,
        lambda conn, session: None,
        lambda conn, session: "yes",
        lambda conn, session: 1,
        lambda conn: True,
        _raises,
        _raises_later,
    ],
)
async def test_whatever_is_not_true_denies_every_route(allow: Any) -> None:
    stage = Stage(allow=allow)
    visit = await stage.log_in()
    assert await statuses(visit, ROUTES) == {403}
    assert [user.user_id for user in await stage.authority.active_users()] == ["1"]


def test_an_exception_is_logged_by_its_name_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        assert (await (await Stage(allow=_raises).log_in("4711")).json(ADMIN))[0] == 403

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert [record.getMessage() for record in caplog.records if record.name.startswith("jwt_middleware")] == [
        "allow= of SessionAdmin raised LookupError, which denies"
    ]


async def test_it_is_asked_on_every_request_with_the_request_and_its_session() -> None:
    asked: list[tuple[str, str]] = []

    def allow(conn: HTTPConnection, session: Session) -> bool:
        asked.append((conn.url.path, session.user_id))
        return len(asked) < 3

    visit = await Stage(allow=allow).log_in("5")
    codes = [(await visit.json(path))[0] for path in (ADMIN, f"{ADMIN}migration", ADMIN)]
    assert codes == [200, 200, 403]
    assert asked == [(ADMIN, "5"), (f"{ADMIN}migration", "5"), (ADMIN, "5")]


async def test_the_store_is_asked_on_every_request_and_not_a_cache() -> None:
    clock = FakeClock()
    store = Counting(clock=clock)
    visit = await Stage(store=store, clock=clock).log_in()
    await visit.ask(ADMIN)
    before = store.asked
    for path in (ADMIN, DEVICES, ADMIN):
        assert (await visit.ask(path)).status_code == 200
    assert store.asked == before + 3


async def test_a_session_that_was_revoked_elsewhere_is_turned_away_at_once() -> None:
    stage = Stage()
    visit = await stage.log_in()
    assert await statuses(visit, [ROUTES[0]]) == {200}
    await stage.store.revoke(visit.session_id)  # as another process does: nothing is told here
    assert await statuses(visit, [*ROUTES, *MINE]) == {401}
    stage.clock.advance(60)
    response = await visit.ask(ADMIN)
    assert response.status_code == 401


async def test_a_store_that_is_down_allows_nothing() -> None:
    clock = FakeClock()
    store = Counting(clock=clock)
    visit = await Stage(store=store, clock=clock).log_in()
    assert await statuses(visit, [ROUTES[0]]) == {200}
    store.down = True
    assert await statuses(visit, [*ROUTES, *MINE]) == {503}
    assert (await visit.ask(ADMIN)).headers["retry-after"] == "1"


async def test_a_request_without_session_is_denied_where_the_middleware_lets_it_pass() -> None:
    for settings in ({"optional": ["/*"]}, {"public": ["/*"]}, {}):
        nobody = Stage(**settings).nobody()  # type: ignore[arg-type] # lists of paths
        assert await statuses(nobody, [*ROUTES, *MINE]) == {401}


async def test_a_session_that_another_authority_or_nobody_read_is_none() -> None:
    authority, other = authority_of(store=MemorySessionStore()), authority_of(store=MemorySessionStore())
    admin = SessionAdmin(authority, allow=lambda request, session: True)
    behind_other = Starlette(
        routes=[Mount("/a", admin)], middleware=[Middleware(JWTSessionMiddleware, authority=other)]
    )

    token = (await other.issue(Session(user_id="1"))).token
    assert (await ask(behind_other, "/a/", bearer=token)).status_code == 401
    sent = Sent()
    await admin(scope_of("/", state={"session": Session(user_id="1"), "token": None}), nothing, sent)
    assert sent.messages[0]["status"] == 401


async def test_a_session_put_there_without_a_token_is_none() -> None:
    """Two middlewares, and something between them that takes the cookie away."""
    authority = authority_of(store=MemorySessionStore())
    admin = SessionAdmin(authority, allow=lambda request, session: True)

    async def without_headers(scope: Any, receive: Any, send: Any) -> None:
        await admin({**scope, "headers": []}, receive, send)

    token = (await authority.issue(Session(user_id="1"))).token
    app = JWTSessionMiddleware(without_headers, authority=authority)
    assert (await ask(app, "/", bearer=token)).status_code == 401


@pytest.mark.parametrize(("row", "status"), [({"email": "a@b.c"}, 200), (None, 403)])
async def test_a_claim_that_a_default_stands_in_for_grants_nothing(row: Any, status: int) -> None:
    """`email` came with version 2: fetched it counts, defaulted it does not, whatever `allow` would say."""

    @source("email")
    async def emails(keys: Any) -> Any:
        return {key: row for key in keys if row is not None}

    stage = Stage(allow=lambda conn, session: True, sources=[emails])
    visit = await stage.log_in()
    key = SessionKey(session_id=visit.session_id, user_id="1")
    assert (await stage.store.statuses([key]))[key].active
    claims = {"userId": "1", "role": "admin"}
    auth_time = stage.clock.now() - 0.001
    visit.token = old_token(stage.authority, claims, version=1, sid=visit.session_id, auth_time=auth_time)
    assert await statuses(visit, ROUTES[:3]) == {status}
    assert await statuses(visit, MINE[:1]) == {200}


async def test_a_bearer_token_administrates_too() -> None:
    stage = Stage()
    visit = await stage.log_in()
    headers = {"authorization": f"Bearer {visit.token}"}
    nobody = stage.nobody()
    assert (await nobody.ask(ADMIN, headers=headers)).status_code == 200
    revoked = await nobody.ask(f"{ADMIN}revoke-user", "POST", headers=headers, json={**BODY, "user_id": "9"})
    assert revoked.json() == {"revoked": "user"}


async def test_an_expired_session_is_turned_away() -> None:
    stage = Stage(window=timedelta(hours=1))
    visit = await stage.log_in()
    stage.clock.advance(3_700)
    assert await statuses(visit, [*ROUTES, *MINE]) == {401}


def test_a_websocket_is_closed() -> None:
    admin = SessionAdmin(authority_of(store=MemorySessionStore()), allow=lambda request, session: True)
    sent = Sent()
    asyncio.run(admin(scope_of("/", kind="websocket"), nothing, sent))
    assert sent.types == ["websocket.close"]
