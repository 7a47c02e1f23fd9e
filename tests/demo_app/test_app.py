from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from demo_app.database import saves, users
from demo_app.deployment import DeployedSessions, session_of
from demo_app.settings import Settings
from jwt_middleware import names
from tests.support.demo import ADMIN, PASSWORD, USER, Demo, demo_of


async def test_the_login_page_is_a_labelled_form_under_a_strict_policy(demo: Demo) -> None:
    page = await demo.http.get("/login")
    assert page.status_code == 200
    assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'")
    assert '<html lang="en">' in page.text
    assert set(re.findall(r'<label for="(\w+)"', page.text)) == set(re.findall(r'<input id="(\w+)"', page.text))
    assert "<script" not in page.text
    assert " style=" not in page.text
    for path in re.findall(r'href="(/[^"]+)"', page.text):
        assert (await demo.http.get(path)).status_code == 200


async def test_a_login_by_json_opens_a_session(demo: Demo) -> None:
    assert (await demo.http.get("/me")).status_code == 401
    answer = await demo.log_in()
    assert (answer.status_code, answer.json()) == (200, {"userId": "2"})
    assert "HttpOnly; SameSite=Lax" in answer.headers["set-cookie"]
    me = (await demo.http.get("/me")).json()
    assert (me["email"], me["companyId"], me["role"]) == (USER, "initech", "user")
    assert me["permissions"] == ["read", "write"]


@pytest.mark.parametrize("email", [USER, "nobody@example.com"])
async def test_a_wrong_password_and_an_unknown_user_look_the_same(demo: Demo, email: str) -> None:
    answer = await demo.log_in(email, "wrong")
    assert (answer.status_code, answer.json()) == (401, {"error": "wrong"})
    page = await demo.http.post("/login", data={"email": email, "password": "wrong"})
    assert page.status_code == 401
    assert 'role="alert"' in page.text
    assert email not in page.text
    assert "set-cookie" not in page.headers


async def test_a_malformed_login_is_refused(demo: Demo) -> None:
    for body, status in [
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
    ]:
        assert (await demo.http.post("/login", content=body)).status_code == status, body


async def test_all_actions_work_by_forms_without_a_script(demo: Demo) -> None:
    sent = await demo.http.get("/devices/", headers={"Sec-Fetch-Mode": "navigate"})
    assert (sent.status_code, sent.headers["location"]) == (303, "/login")
    answer = await demo.http.post("/login", data={"email": USER, "password": PASSWORD})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    page = await demo.http.get("/devices/", headers={"Accept": "text/html"})
    assert "Where you are logged in" in page.text
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await demo.http.post("/api/consolidation/save", headers=form)).headers["location"] == "/"
    assert await demo.database.saved() == (1, 0)
    assert (await demo.http.post("/logout", headers=form)).headers["location"] == "/login"
    assert (await demo.http.get("/me")).status_code == 401


async def test_a_kept_cookie_is_refused_after_the_logout(demo: Demo) -> None:
    await demo.log_in()
    kept = {"Cookie": f"jwt_session={demo.http.cookies['jwt_session']}"}
    assert (await demo.users.get("/me", headers=kept)).status_code == 200
    assert (await demo.http.post("/logout")).status_code == 204
    assert (await demo.users.get("/me", headers=kept)).status_code == 401


async def test_a_save_records_the_user_s_email_for_old_and_new_tokens(demo: Demo) -> None:
    await demo.log_in()
    old = await demo.http.post("/api/consolidation/save")
    await demo.deployment.release()
    await demo.log_in(ADMIN)
    new = await demo.http.post("/api/consolidation/save")
    assert [(each.status_code, each.json()["savedBy"]) for each in (old, new)] == [(201, USER), (201, ADMIN)]
    assert [each.json()["filled"] for each in (old, new)] == [["email"], []]
    async with demo.database.engine.connect() as connection:
        assert list((await connection.execute(sa.select(saves.c.saved_by))).scalars()) == [USER, ADMIN]


async def test_a_deleted_user_is_refused(demo: Demo) -> None:
    await demo.log_in()
    async with demo.database.engine.begin() as connection:
        await connection.execute(sa.delete(users).where(users.c.id == 2))
    assert (await demo.http.get("/me")).status_code == 401


async def test_an_admin_releases_once_and_others_may_not(demo: Demo) -> None:
    await demo.log_in()
    assert (await demo.http.post("/release")).status_code == 403
    assert demo.deployment.released_at is None
    await demo.log_in(ADMIN)
    assert (await demo.http.post("/release")).json() == {"released": True}
    assert (await demo.http.post("/release")).json() == {"released": False}


async def test_the_release_switches_minting_and_old_tokens_live_on(demo: Demo) -> None:
    await demo.log_in()
    await demo.deployment.release()
    old = (await demo.http.get("/me")).json()
    await demo.log_in()
    new = (await demo.http.get("/me")).json()
    assert (old["payloadVersion"], old["filled"], old["email"]) == (1, ["email"], USER)
    assert (new["payloadVersion"], new["filled"], new["email"]) == (2, [], USER)


async def test_counters_continue_over_the_release_and_gauges_change(demo: Demo) -> None:
    await demo.log_in()
    await demo.http.get("/me")
    before = await demo.scrape()
    await demo.deployment.release()
    await demo.http.get("/me")
    after = await demo.scrape()
    minting = [each.newest(names.PAYLOAD_INFO, {names.PAYLOAD_MINTS: 1}) for each in (before, after)]
    assert minting == [1, None]
    assert [each.total(names.FALLBACKS) for each in (before, after)] == [1, 2]
    assert after.total(names.TOKENS_ISSUED, {names.PAYLOAD_VERSION: 1}) == 1


async def test_a_request_on_its_way_during_the_release_keeps_its_session(demo: Demo) -> None:
    async def released_meanwhile(scope: Scope, receive: Receive, send: Send) -> None:
        await demo.deployment.release()
        await PlainTextResponse(session_of(Request(scope)).email)(scope, receive, send)

    await demo.log_in()
    app = DeployedSessions(released_meanwhile, deployment=demo.deployment)
    cookie = {"Cookie": f"jwt_session={demo.http.cookies['jwt_session']}"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://testserver") as http:
        assert (await http.get("/", headers=cookie)).text == USER


async def test_an_early_release_moves_the_plan(demo: Demo) -> None:
    planned = demo.deployment.planned
    before = (await demo.scrape()).newest(names.PAYLOAD_SUPERSEDED, {names.PAYLOAD_VERSION: 1})
    await demo.deployment.release()
    assert demo.deployment.planned == demo.deployment.released_at
    after = (await demo.scrape()).newest(names.PAYLOAD_SUPERSEDED, {names.PAYLOAD_VERSION: 1})
    assert before is not None
    assert after is not None
    assert before - after == pytest.approx(planned - demo.deployment.planned)


async def test_the_release_comes_by_itself_at_the_planned_moment(tmp_path: Path) -> None:
    async with demo_of(tmp_path, Settings(users=1, release_after=0.05)) as demo:
        await demo.deployment.release_on_time()
        assert demo.deployment.released_at is not None
        assert demo.deployment.planned <= demo.deployment.released_at


async def break_database(demo: Demo, directory: Path) -> None:
    """Put a directory in place of the database."""
    await demo.database.aclose()
    for file in directory.glob("demo.db*"):
        file.unlink()
    (directory / "demo.db").mkdir()


async def test_the_health_check_queries_the_database(demo: Demo, tmp_path: Path) -> None:
    assert (await demo.http.get("/healthz")).json() == {"database": "ok"}
    await break_database(demo, tmp_path)
    assert (await demo.http.get("/healthz")).status_code == 503


async def test_a_login_without_a_database_is_a_503_that_quotes_nothing(demo: Demo, tmp_path: Path) -> None:
    await break_database(demo, tmp_path)
    answer = await demo.log_in()
    assert (answer.status_code, answer.json()) == (503, {"error": "unavailable"})
    assert answer.headers["retry-after"] == "1"


async def test_a_logout_without_a_database_clears_the_cookie_and_is_a_503(demo: Demo, tmp_path: Path) -> None:
    await demo.log_in()
    await break_database(demo, tmp_path)
    answer = await demo.http.post("/logout")
    assert answer.status_code == 503
    assert "Max-Age=0" in answer.headers["set-cookie"]


async def test_the_fallback_is_one_event_with_a_trace_and_without_the_user(demo: Demo) -> None:
    await demo.log_in()
    with structlog.testing.capture_logs() as events:
        await demo.http.get("/me")
    fired = [event for event in events if event["event"] == "jwt_middleware.fallback"]
    assert len(fired) == 1
    assert (fired[0]["claims"], fired[0]["outcome"]) == (["email"], "resolved")
    assert re.fullmatch(r"[0-9a-f]{32}", fired[0]["trace_id"])
    assert USER not in str(events)


async def test_a_second_run_replaces_the_rows_of_the_first(demo: Demo) -> None:
    await demo.log_in()
    await demo.http.post("/api/consolidation/save")
    await demo.database.prepare(2, "another")
    assert await demo.database.saved() == (0, 0)
    assert (await demo.log_in()).status_code == 401
    assert (await demo.log_in(password="another")).status_code == 200


async def test_the_app_runs_on_postgresql(tmp_path: Path, postgres_url: str) -> None:
    async with demo_of(tmp_path, Settings(users=3, database=postgres_url)) as demo:
        await demo.log_in()
        old = await demo.http.post("/api/consolidation/save")
        assert (old.json()["savedBy"], old.json()["filled"]) == (USER, ["email"])
        assert await demo.database.saved() == (1, 0)
        assert (await demo.http.post("/logout")).status_code == 204
        assert (await demo.http.get("/me")).status_code == 401
