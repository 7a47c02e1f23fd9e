"""Access control: the store confirms the session, then ``allow`` decides; a default never grants a right."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
from starlette.requests import HTTPConnection

from jwt_middleware import JWTSessionMiddleware, MemorySessionStore
from jwt_middleware.admin import MyDevices, SessionAdmin
from jwt_middleware.errors import ConfigError
from jwt_middleware.testing import old_token
from tests.support.administration import ADMIN, DEVICES, HTML, Stage, Visit
from tests.support.asgi import Sent, ask, nothing, scope_of
from tests.support.stores import FakeStore, status_of
from tests.support.world import FakeClock, Session, authority_of

ROUTES = [("GET", f"{ADMIN}{path}") for path in ("", "sessions?user_id=1", "migration")]
ROUTES += [("POST", f"{ADMIN}revoke-{target}") for target in ("session", "user", "all")]
MINE = [("GET", DEVICES), ("POST", f"{DEVICES}revoke-session"), ("POST", f"{DEVICES}revoke-others")]
BODY = {"session_id": "", "user_id": "1", "confirm": True}


async def statuses(visit: Visit, routes: list[tuple[str, str]]) -> set[int]:
    """The statuses of all these routes, as JSON and as pages."""
    bodies: dict[str, Any] = {"GET": {}, "POST": {"json": BODY}}
    return {
        (await visit.ask(path, method, accept=accept, **bodies[method])).status_code
        for method, path in routes
        for accept in ("", HTML)
    }


def admin_of(authority: Any, allow: Any = lambda request, session: True) -> SessionAdmin[Session]:
    return SessionAdmin(authority, allow=allow)


async def allow_later(conn: HTTPConnection, session: Session) -> bool:
    if session.role != "admin":
        raise LookupError("later")
    return True


def fail(conn: HTTPConnection, session: Session) -> bool:
    raise LookupError(f"the secret of {session.user_id}")


class TestAllow:
    @pytest.mark.parametrize("allow", [None, True, "admin"])
    def test_without_allow_nothing_is_mounted(self, allow: Any) -> None:
        with pytest.raises(
            ConfigError, match=f"allow must be a function, got {type(allow).__name__}; use SessionAdmin"
        ):
            admin_of(authority_of(store=MemorySessionStore()), allow)

    @pytest.mark.parametrize("app", [admin_of, MyDevices])
    def test_without_a_store_nothing_is_mounted(self, app: Any) -> None:
        with pytest.raises(ConfigError, match=r"(SessionAdmin|MyDevices) needs a session store; use SessionAuthority"):
            app(authority_of())

    @pytest.mark.parametrize("allow", [lambda conn, session: session.role == "admin", allow_later])
    async def test_true_allows(self, allow: Any) -> None:
        assert (await (await Stage(allow=allow).visit()).json(ADMIN))[0] == 200

    async def test_any_result_but_true_denies_every_route(self, subtests: pytest.Subtests) -> None:
        cases: list[Any] = [
            lambda conn, session: False,
            lambda conn, session: None,
            lambda conn, session: "yes",
            lambda conn, session: 1,
            lambda conn: True,
            fail,
            allow_later,
        ]
        for allow in cases:
            with subtests.test(allow=allow):
                stage = Stage(allow=allow)
                assert await statuses(await stage.visit(role="user"), ROUTES) == {403}
                assert [user.user_id for user in await stage.authority.active_users()] == ["1"]

    async def test_an_exception_is_logged_by_its_class_alone(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING):
            assert (await (await Stage(allow=fail).visit("4711")).json(ADMIN))[0] == 403
        assert [record.getMessage() for record in caplog.records if record.name.startswith("jwt_middleware")] == [
            "allow= of SessionAdmin raised LookupError; the request is denied"
        ]

    async def test_allow_is_called_with_each_request_and_its_session(self) -> None:
        calls: list[tuple[str, str]] = []

        def allow(conn: HTTPConnection, session: Session) -> bool:
            calls.append((conn.url.path, session.user_id))
            return len(calls) < 3

        visit = await Stage(allow=allow).visit("5")
        codes = [(await visit.json(path))[0] for path in (ADMIN, f"{ADMIN}migration", ADMIN)]
        assert codes == [200, 200, 403]
        assert calls == [(ADMIN, "5"), (f"{ADMIN}migration", "5"), (ADMIN, "5")]

    async def test_allow_may_let_a_session_read_and_not_revoke(self) -> None:
        visit = await Stage(allow=lambda conn, session: conn.method == "GET").visit()
        assert (await visit.json(ADMIN))[0] == 200
        assert (await visit.json(f"{ADMIN}revoke-all", {"confirm": True}))[0] == 403


class TestSession:
    async def test_the_store_confirms_every_request_past_the_cache(self) -> None:
        store = FakeStore(clock=(clock := FakeClock()))
        visit = await Stage(store=store, clock=clock).visit()
        await visit.ask(ADMIN)
        before = store.asked
        for path in (ADMIN, DEVICES, ADMIN):
            assert (await visit.ask(path)).status_code == 200
        assert store.asked == before + 3

    async def test_a_session_that_another_process_revoked_is_refused_at_once(self) -> None:
        stage = Stage()
        visit = await stage.visit()
        assert await statuses(visit, [ROUTES[0]]) == {200}
        await stage.store.revoke(visit.session_id)  # past the authority, so this process does not notice
        assert await statuses(visit, [*ROUTES, *MINE]) == {401}
        stage.clock.advance(60)
        assert (await visit.ask(ADMIN)).status_code == 401

    async def test_a_store_that_is_down_allows_nothing(self) -> None:
        store = FakeStore(clock=(clock := FakeClock()))
        visit = await Stage(store=store, clock=clock).visit()
        assert await statuses(visit, [ROUTES[0]]) == {200}
        store.down = True
        assert await statuses(visit, [*ROUTES, *MINE]) == {503}
        assert (await visit.ask(ADMIN)).headers["retry-after"] == "1"

    @pytest.mark.parametrize("settings", [{"optional": ["/*"]}, {"public": ["/*"]}, {}])
    async def test_a_request_without_a_session_is_denied_even_on_a_public_path(self, settings: Any) -> None:
        assert await statuses(Visit(Stage(**settings)), [*ROUTES, *MINE]) == {401}

    async def test_a_session_that_this_authority_did_not_read_is_denied(self) -> None:
        authority, other = authority_of(store=MemorySessionStore()), authority_of(store=MemorySessionStore())
        behind_other = JWTSessionMiddleware(admin_of(authority), authority=other)
        token = (await other.issue(Session(user_id="1"))).token
        assert (await ask(behind_other, "/", bearer=token)).status_code == 401
        sent = Sent()
        await admin_of(authority)(scope_of("/", state={"session": Session(user_id="1"), "token": None}), nothing, sent)
        assert sent.messages[0]["status"] == 401

    async def test_a_session_whose_token_was_removed_on_the_way_is_denied(self) -> None:
        authority = authority_of(store=MemorySessionStore())

        async def without_headers(scope: Any, receive: Any, send: Any) -> None:
            await admin_of(authority)({**scope, "headers": []}, receive, send)

        token = (await authority.issue(Session(user_id="1"))).token
        app = JWTSessionMiddleware(without_headers, authority=authority)
        assert (await ask(app, "/", bearer=token)).status_code == 401

    @pytest.mark.parametrize(("rows", "status"), [({"1": {"email": "a@b.c"}}, 200), ({}, 403)])
    async def test_a_claim_that_a_default_filled_grants_nothing(self, rows: Any, status: int) -> None:
        """Version 2 added the email: fetched it counts, defaulted it does not, even if ``allow`` returns True."""
        stage = Stage(allow=lambda conn, session: True)
        stage.users.rows = rows
        visit = await stage.visit()
        assert (await status_of(stage.store, visit.session_id, "1")).active
        claims, auth_time = {"userId": "1", "role": "admin"}, stage.clock.now() - 0.001
        visit.token = old_token(stage.authority, claims, version=1, sid=visit.session_id, auth_time=auth_time)
        assert await statuses(visit, ROUTES[:3]) == {status}
        assert await statuses(visit, MINE[:1]) == {200}

    async def test_a_bearer_token_administrates_too(self) -> None:
        stage = Stage()
        headers = {"authorization": f"Bearer {(await stage.visit()).token}"}
        assert (await Visit(stage).ask(ADMIN, headers=headers)).status_code == 200
        revoked = await Visit(stage).ask(f"{ADMIN}revoke-user", "POST", headers=headers, json={**BODY, "user_id": "9"})
        assert revoked.json() == {"revoked": "user"}

    async def test_an_expired_session_is_refused(self) -> None:
        stage = Stage(window=timedelta(hours=1))
        visit = await stage.visit()
        stage.clock.advance(3_700)
        assert await statuses(visit, [*ROUTES, *MINE]) == {401}

    async def test_a_websocket_is_closed(self) -> None:
        sent = Sent()
        await admin_of(authority_of(store=MemorySessionStore()))(scope_of("/", kind="websocket"), nothing, sent)
        assert sent.types == ["websocket.close"]
