from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from demo_app.database import saves, users
from demo_app.release import DeployedSessions, session_of
from demo_app.settings import Settings
from jwt_middleware import names
from tests.support.demo import ADMIN, PASSWORD, USER, Stage, stage

Play = Callable[[Stage], Awaitable[None]]


def play(scene: Play, directory: Path, settings: Settings | None = None) -> None:
    async def playing() -> None:
        async with stage(directory, settings) as on:
            await scene(on)

    asyncio.run(playing())


def test_the_login_page_is_a_labelled_form_under_a_strict_policy(tmp_path: Path) -> None:
    async def scene(on: Stage) -> None:
        page = await on.http.get("/login")
        assert page.status_code == 200
        assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'")
        assert '<html lang="en">' in page.text
        assert set(re.findall(r'<label for="(\w+)"', page.text)) == set(re.findall(r'<input id="(\w+)"', page.text))
        assert "<script" not in page.text
        assert " style=" not in page.text
        for path in re.findall(r'href="(/[^"]+)"', page.text):
            assert (await on.http.get(path)).status_code == 200

    play(scene, tmp_path)


def test_a_login_by_json_opens_a_session(tmp_path: Path) -> None:
    async def scene(on: Stage) -> None:
        assert (await on.http.get("/me")).status_code == 401
        answer = await on.log_in()
        assert (answer.status_code, answer.json()) == (200, {"userId": "2"})
        assert "HttpOnly; SameSite=Lax" in answer.headers["set-cookie"]
        me = (await on.http.get("/me")).json()
        assert (me["email"], me["companyId"], me["role"]) == (USER, "initech", "user")
        assert me["permissions"] == ["read", "write"]

    play(scene, tmp_path)


@pytest.mark.parametrize("email", [USER, "nobody@example.com"])
def test_a_wrong_password_or_user_is_told_apart_by_nothing(tmp_path: Path, email: str) -> None:
    async def scene(on: Stage) -> None:
        answer = await on.log_in(email, "wrong")
        assert (answer.status_code, answer.json()) == (401, {"error": "wrong"})
        page = await on.http.post("/login", data={"email": email, "password": "wrong"})
        assert page.status_code == 401
        assert 'role="alert"' in page.text
        assert email not in page.text
        assert "set-cookie" not in page.headers

    play(scene, tmp_path)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"\xff", 400),
        (b'{"email": "a@example.com"}', 400),
        (b'{"email": 1, "password": "x"}', 400),
        (b'{"email": "a\\u0000", "password": "x"}', 400),
        (b'{"email": "\\ud800", "password": "x"}', 400),
        (b'{"email": "a@example.com", "password": "\\ud800"}', 400),
        (json.dumps({"email": "a" * 300, "password": "x"}).encode(), 400),
        (b"[" * 4_000, 400),
        (b"x" * 5_000, 413),
    ],
)
def test_a_body_that_is_no_login_is_refused(tmp_path: Path, body: bytes, status: int) -> None:
    async def scene(on: Stage) -> None:
        assert (await on.http.post("/login", content=body)).status_code == status

    play(scene, tmp_path)


def test_a_person_logs_in_sees_their_devices_saves_and_logs_out_by_forms(tmp_path: Path) -> None:
    async def scene(on: Stage) -> None:
        sent = await on.http.get("/devices/", headers={"Sec-Fetch-Mode": "navigate"})
        assert (sent.status_code, sent.headers["location"]) == (303, "/login")
        answer = await on.http.post("/login", data={"email": USER, "password": PASSWORD})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        page = await on.http.get("/devices/", headers={"Accept": "text/html"})
        assert "Where you are logged in" in page.text
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert (await on.http.post("/api/consolidation/save", headers=form)).headers["location"] == "/"
        assert await on.database.saved() == (1, 0)
        assert (await on.http.post("/logout", headers=form)).headers["location"] == "/login"
        assert (await on.http.get("/me")).status_code == 401

    play(scene, tmp_path)


def test_a_logged_out_session_is_revoked_also_for_who_kept_the_cookie(tmp_path: Path) -> None:
    async def scene(on: Stage) -> None:
        await on.log_in()
        kept = {"Cookie": f"session={on.http.cookies['session']}"}
        assert (await on.users.get("/me", headers=kept)).status_code == 200
        assert (await on.http.post("/logout")).status_code == 204
        assert (await on.users.get("/me", headers=kept)).status_code == 401

    play(scene, tmp_path)


def test_a_save_records_who_saved_by_email_whatever_the_token_holds(tmp_path: Path) -> None:
    async def scene(on: Stage) -> None:
        await on.log_in()
        old = await on.http.post("/api/consolidation/save")
        await on.deployment.release()
        await on.log_in(ADMIN)
        new = await on.http.post("/api/consolidation/save")
        assert [(each.status_code, each.json()["savedBy"]) for each in (old, new)] == [(201, USER), (201, ADMIN)]
        assert [each.json()["filled"] for each in (old, new)] == [["email"], []]
        async with on.database.engine.connect() as connection:
            assert list((await connection.execute(sa.select(saves.c.saved_by))).scalars()) == [USER, ADMIN]

    play(scene, tmp_path)


def test_a_deleted_user_does_not_go_on(tmp_path: Path) -> None:
    async def scene(on: Stage) -> None:
        await on.log_in()
        async with on.database.engine.begin() as connection:
            await connection.execute(sa.delete(users).where(users.c.id == 2))
        assert (await on.http.get("/me")).status_code == 401

    play(scene, tmp_path)


def test_an_admin_releases_once_and_others_may_not(tmp_path: Path) -> None:
    async def scene(on: Stage) -> None:
        await on.log_in()
        assert (await on.http.post("/release")).status_code == 403
        assert on.deployment.released_at is None
        await on.log_in(ADMIN)
        assert (await on.http.post("/release")).json() == {"released": True}
        assert (await on.http.post("/release")).json() == {"released": False}

    play(scene, tmp_path)


def test_the_release_switches_minting_and_old_tokens_live_on(tmp_path: Path) -> None:
    async def scene(on: Stage) -> None:
        await on.log_in()
        await on.deployment.release()
        old = (await on.http.get("/me")).json()
        await on.log_in()
        new = (await on.http.get("/me")).json()
        assert (old["payloadVersion"], old["filled"], old["email"]) == (1, ["email"], USER)
        assert (new["payloadVersion"], new["filled"], new["email"]) == (2, [], USER)

    play(scene, tmp_path)


def test_the_metrics_count_over_the_release_and_stop_saying_that_version_one_is_minted(tmp_path: Path) -> None:
    async def scene(on: Stage) -> None:
        await on.log_in()
        await on.http.get("/me")
        before = await on.scrape()
        await on.deployment.release()
        await on.http.get("/me")
        after = await on.scrape()
        minting = [each.newest(names.PAYLOAD_INFO, {names.PAYLOAD_MINTS: 1}) for each in (before, after)]
        assert minting == [1, None]
        assert [each.total(names.FALLBACKS) for each in (before, after)] == [1, 2]
        assert after.total(names.TOKENS_ISSUED, {names.PAYLOAD_VERSION: 1}) == 1

    play(scene, tmp_path)


def test_a_request_on_its_way_during_the_release_keeps_its_session(tmp_path: Path) -> None:
    async def scene(on: Stage) -> None:
        async def released_meanwhile(scope: Scope, receive: Receive, send: Send) -> None:
            await on.deployment.release()
            await PlainTextResponse(session_of(Request(scope)).email)(scope, receive, send)

        await on.log_in()
        app = DeployedSessions(released_meanwhile, deployment=on.deployment)
        cookie = {"Cookie": f"session={on.http.cookies['session']}"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://testserver") as http:
            assert (await http.get("/", headers=cookie)).text == USER

    play(scene, tmp_path)


def test_an_early_release_mends_the_plan(tmp_path: Path) -> None:
    async def scene(on: Stage) -> None:
        planned = on.deployment.planned
        before = (await on.scrape()).newest(names.PAYLOAD_SUPERSEDED, {names.PAYLOAD_VERSION: 1})
        await on.deployment.release()
        assert on.deployment.planned == on.deployment.released_at
        after = (await on.scrape()).newest(names.PAYLOAD_SUPERSEDED, {names.PAYLOAD_VERSION: 1})
        assert before is not None
        assert after is not None
        assert before - after == pytest.approx(planned - on.deployment.planned)

    play(scene, tmp_path)


def test_the_release_comes_by_itself_at_the_planned_moment(tmp_path: Path) -> None:
    async def scene(on: Stage) -> None:
        await on.deployment.release_on_time()
        assert on.deployment.released_at is not None
        assert on.deployment.planned <= on.deployment.released_at

    play(scene, tmp_path, Settings(users=1, release_after=0.05))


async def broken(on: Stage, directory: Path) -> None:
    """From now on the database cannot be opened."""
    await on.database.aclose()
    for file in directory.glob("demo.db*"):
        file.unlink()
    (directory / "demo.db").mkdir()


def test_the_health_check_asks_the_database(tmp_path: Path) -> None:
    async def scene(on: Stage) -> None:
        assert (await on.http.get("/healthz")).json() == {"database": "ok"}
        await broken(on, tmp_path)
        assert (await on.http.get("/healthz")).status_code == 503

    play(scene, tmp_path)


def test_a_login_without_a_database_is_a_503_that_quotes_nothing(tmp_path: Path) -> None:
    async def scene(on: Stage) -> None:
        await broken(on, tmp_path)
        answer = await on.log_in()
        assert (answer.status_code, answer.json()) == (503, {"error": "unavailable"})
        assert answer.headers["retry-after"] == "1"

    play(scene, tmp_path)


def test_a_logout_without_a_database_clears_the_cookie_and_says_that_it_failed(tmp_path: Path) -> None:
    async def scene(on: Stage) -> None:
        await on.log_in()
        await broken(on, tmp_path)
        answer = await on.http.post("/logout")
        assert answer.status_code == 503
        assert "Max-Age=0" in answer.headers["set-cookie"]

    play(scene, tmp_path)


def test_the_fallback_is_one_event_with_a_trace_and_without_the_user(tmp_path: Path) -> None:
    async def scene(on: Stage) -> None:
        await on.log_in()
        with structlog.testing.capture_logs() as events:
            await on.http.get("/me")
        fired = [event for event in events if event["event"] == "jwt_middleware.fallback"]
        assert len(fired) == 1
        assert (fired[0]["claims"], fired[0]["outcome"]) == (["email"], "resolved")
        assert re.fullmatch(r"[0-9a-f]{32}", fired[0]["trace_id"])
        assert USER not in str(events)

    play(scene, tmp_path)


def test_a_second_run_replaces_what_the_first_one_left(tmp_path: Path) -> None:
    async def scene(on: Stage) -> None:
        await on.log_in()
        await on.http.post("/api/consolidation/save")
        await on.database.prepare(2, "another")
        assert await on.database.saved() == (0, 0)
        assert (await on.log_in()).status_code == 401
        assert (await on.log_in(password="another")).status_code == 200

    play(scene, tmp_path)


def test_the_app_runs_on_postgresql(tmp_path: Path, postgres_url: str) -> None:
    async def scene(on: Stage) -> None:
        await on.log_in()
        old = await on.http.post("/api/consolidation/save")
        assert (old.json()["savedBy"], old.json()["filled"]) == (USER, ["email"])
        assert await on.database.saved() == (1, 0)
        assert (await on.http.post("/logout")).status_code == 204
        assert (await on.http.get("/me")).status_code == 401

    play(scene, tmp_path, Settings(users=3, database=postgres_url))
