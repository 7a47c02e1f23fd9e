"""What the live page is made of, without a browser; ``test_browser`` looks at it in one."""

from __future__ import annotations

import asyncio
import io
import json
import re
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from demo_app.database import users
from demo_app.live_page import STATIC
from demo_app.settings import Settings
from demo_app.telemetry import log_json
from jwt_middleware import Reason, Refusal, names
from tests.support.demo import ADMIN, USER, Demo, demo_of

SCRIPTS = sorted(STATIC.glob("*.js"))


async def test_the_page_s_policy_allows_only_its_own_files(demo: Demo) -> None:
    page = await demo.http.get("/")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*src=)| on\w+=| style=", page.text)
    wanted = re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text)
    assert len(wanted) == 5
    for path in wanted:
        file = await demo.http.get(path)
        assert (file.status_code, file.headers["x-content-type-options"]) == (200, "nosniff")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_imports_existing_files_and_makes_no_markup_of_text(script: Path) -> None:
    text = script.read_text()
    for imported in re.findall(r'from "\./([^"]+)"', text):
        assert (STATIC / imported).is_file()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|document\.cookie", text)


def test_the_vendored_library_has_its_licence_and_says_its_version() -> None:
    vendored = STATIC / "vendor" / "uplot"
    assert "The MIT License (MIT)" in (vendored / "LICENSE").read_text()
    library = (vendored / "uPlot.iife.min.js").read_text()
    assert re.match(r"/\*! https://github.com/leeoniya/uPlot \(v[\d.]+\) \*/", library)


async def test_the_public_figures_contain_no_personal_data(demo: Demo) -> None:
    before = (await demo.http.get("/api/live")).json()
    assert (before["figures"], before["points"], before["events"]) == (None, [], [])
    await demo.log_in()
    await demo.http.get("/me")
    await demo.watch_once()
    await demo.deployment.release()
    await demo.watch_once()
    answer = await demo.users.get("/api/live")
    assert answer.headers["cache-control"] == "no-store"
    live = answer.json()
    assert (live["mints"], live["released"], live["window"]) == (2, True, 180)
    figures = live["figures"]
    assert (figures["verdict"], figures["fallbacks"], figures["queries"]) == ("draining", 1, 1)
    assert figures["planned_sunset"] == pytest.approx(demo.deployment.planned + 181, abs=0.1)
    assert figures["latest_expiry"] <= figures["planned_sunset"]
    points = [dict(zip(live["columns"], point, strict=True)) for point in live["points"]]
    assert points[0]["fallback_rate"] == 1
    assert live["users"][:2] == [{"email": ADMIN, "role": "admin"}, {"email": USER, "role": "user"}]
    token = demo.http.cookies["jwt_session"]
    assert token not in answer.text
    assert "demo_users" not in answer.text


async def test_a_page_gets_only_newer_points_and_events(demo: Demo) -> None:
    log_json(io.StringIO(), demo.events)
    await demo.log_in()
    for _ in range(2):
        await demo.http.get("/me")
    await demo.watch_once()
    first = (await demo.http.get("/api/live")).json()
    newest = first["events"][-1]["number"]
    assert [event["event"] for event in first["events"]].count(names.EVENT_FALLBACK) == 2
    again = (await demo.http.get("/api/live", params={"since": first["points"][-1][0], "event": newest})).json()
    assert (again["run"], again["points"], again["events"]) == (first["run"], [], [])
    await demo.http.get("/me")
    later = (await demo.http.get("/api/live", params={"since": 0, "event": newest})).json()
    assert [event["number"] for event in later["events"]] == [newest + 1]
    assert USER not in json.dumps(later["events"])


@pytest.mark.parametrize("since", ["x", "-1", "nan", "inf", "1e99"])
async def test_an_invalid_moment_is_a_bad_request(demo: Demo, since: str) -> None:
    assert (await demo.http.get("/api/live", params={"since": since})).status_code == 400
    assert (await demo.http.get("/api/live", params={"event": since})).status_code == 400


async def test_without_a_session_the_page_gets_no_user(demo: Demo) -> None:
    assert (await demo.http.get("/api/you")).json() == {"you": None}
    bad = await demo.users.get("/api/you", headers={"Cookie": "jwt_session=no.token.atall"})
    assert (bad.status_code, bad.json()) == (200, {"you": None})


def claims_of(you: dict[str, list[dict[str, object]]]) -> dict[object, tuple[object, object]]:
    return {claim["name"]: (claim["value"], claim["source"]) for claim in you["claims"]}


async def test_the_page_gets_the_decoded_token_with_the_source_of_each_claim(demo: Demo) -> None:
    await demo.log_in()
    answer = await demo.http.get("/api/you")
    you = answer.json()["you"]
    assert (you["email"], you["version"], you["today"], you["mayRelease"]) == (USER, 1, 2, False)
    claims = claims_of(you)
    assert claims["email"] == (USER, "database")
    assert claims["companyId"] == ("initech", "token")
    assert claims["version"] == (1, "token")
    assert {"iat", "exp", "auth_time", "sid"} <= claims.keys()
    assert demo.http.cookies["jwt_session"] not in answer.text
    again = claims_of((await demo.http.get("/api/you")).json()["you"])
    assert again["email"] == (USER, "cache")


async def test_a_token_of_today_s_payload_needs_no_fallback(demo: Demo) -> None:
    await demo.deployment.release()
    await demo.log_in(ADMIN)
    you = (await demo.http.get("/api/you")).json()["you"]
    assert (you["version"], you["mayRelease"], you["mayAdministrate"]) == (2, True, True)
    assert {source for _, source in claims_of(you).values()} == {"token"}


async def test_data_of_a_row_reaches_the_page_as_text(demo: Demo) -> None:
    async with demo.database.engine.begin() as connection:
        await connection.execute(sa.update(users).where(users.c.id == 2).values(email="<b>@example.com"))
    await demo.log_in("<b>@example.com")
    answer = await demo.http.get("/api/you")
    assert answer.headers["content-type"] == "application/json"
    assert claims_of(answer.json()["you"])["email"] == ("<b>@example.com", "database")


async def test_logging_out_everywhere_ends_only_the_user_s_sessions(demo: Demo) -> None:
    kept = []
    for email in (USER, ADMIN, USER):
        await demo.log_in(email)
        kept.append({"Cookie": f"jwt_session={demo.http.cookies['jwt_session']}"})
    answer = await demo.http.post("/logout-everywhere")
    assert answer.status_code == 204
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert [(await demo.users.get("/me", headers=cookie)).status_code for cookie in kept] == [401, 200, 401]
    assert (await demo.users.post("/logout-everywhere")).status_code == 401


async def test_plain_sql_logs_out_within_the_bound(tmp_path: Path) -> None:
    async with demo_of(tmp_path, Settings(users=3, window=10)) as demo:
        await demo.log_in()
        assert (await demo.http.get("/me")).status_code == 200
        async with demo.database.engine.begin() as connection:
            await connection.execute(sa.text("UPDATE user_sessions SET is_active = false WHERE user_id = '2'"))
        async with asyncio.timeout(10):
            while (await demo.http.get("/me")).status_code == 200:
                await asyncio.sleep(0.02)
        assert (await demo.http.get("/me")).status_code == 401


async def test_a_device_is_revoked_and_another_users_is_not(demo: Demo) -> None:
    await demo.log_in(ADMIN)
    others = (await demo.http.get("/api/you")).json()["you"]["devices"][0]["id"]
    await demo.log_in()
    there = {"Cookie": f"jwt_session={demo.http.cookies['jwt_session']}"}
    await demo.log_in()
    devices = (await demo.http.get("/api/you")).json()["you"]["devices"]
    assert sorted(device["current"] for device in devices) == [False, True]
    wanted = next(device["id"] for device in devices if not device["current"])
    for session_id, status in ((wanted, 200), (others, 404)):
        body = {"session_id": session_id, "confirm": True}
        assert (await demo.http.post("/devices/revoke-session", json=body)).status_code == status
    assert (await demo.users.get("/me", headers=there)).status_code == 401
    assert (await demo.http.get("/me")).status_code == 200


async def test_only_administrators_see_all_sessions_before_and_after_the_release(demo: Demo) -> None:
    await demo.log_in()
    assert (await demo.http.get("/admin/sessions/")).status_code == 403
    await demo.log_in(ADMIN)
    before = (await demo.http.get("/admin/sessions/")).json()
    assert {user["user_id"] for user in before["users"]} == {"1", "2"}
    await demo.deployment.release()
    migration = (await demo.http.get("/admin/sessions/migration")).json()
    assert (migration["reads"], migration["mints"]) == (2, 2)
    page = await demo.http.get("/admin/sessions/", headers={"Accept": "text/html"})
    assert "Active sessions by user" in page.text
    assert (await demo.users.get("/admin/sessions/")).status_code == 401


async def test_a_session_that_ends_during_the_request_is_no_session(
    demo: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ended(token: str) -> None:
        raise Refusal(Reason.TOKEN_EXPIRED)

    await demo.log_in()
    monkeypatch.setattr(demo.deployment.authority, "verify", ended)
    assert (await demo.http.get("/api/you")).json() == {"you": None}


async def test_a_database_error_is_a_503_for_the_page(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    async def gone(*_: object, **__: object) -> None:
        raise OperationalError("SELECT", {}, Exception("gone"))

    await demo.log_in()
    monkeypatch.setattr(demo.deployment.authority, "sessions_of", gone)
    answer = await demo.http.get("/api/you")
    assert (answer.status_code, answer.json()) == (503, {"error": "unavailable"})
