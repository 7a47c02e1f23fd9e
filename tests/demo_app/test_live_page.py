"""What the live page is made of, without a browser; ``test_browser`` looks at it in one."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from demo_app.database import users
from demo_app.live_page import STATIC
from demo_app.settings import Settings
from demo_app.telemetry import log_json
from jwt_middleware import Reason, Refusal, names
from tests.support.demo import ADMIN, USER, Stage, stage

Play = Callable[[Stage], Awaitable[None]]
SCRIPTS = sorted(STATIC.glob("*.js"))


def play(scene: Play, directory: Path, settings: Settings | None = None) -> None:
    async def playing() -> None:
        async with stage(directory, settings) as on:
            await scene(on)

    asyncio.run(playing())


def test_everybody_gets_the_page_and_its_policy_allows_only_its_own_files(tmp_path: Path) -> None:
    async def scene(on: Stage) -> None:
        page = await on.http.get("/")
        assert page.status_code == 200
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert "unsafe" not in policy
        assert not re.search(r"<script(?![^>]*src=)| on\w+=| style=", page.text)
        wanted = re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text)
        assert len(wanted) == 5
        for path in wanted:
            file = await on.http.get(path)
            assert (file.status_code, file.headers["x-content-type-options"]) == (200, "nosniff")

    play(scene, tmp_path)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_imports_what_exists_and_makes_no_markup_of_text(script: Path) -> None:
    text = script.read_text()
    for imported in re.findall(r'from "\./([^"]+)"', text):
        assert (STATIC / imported).is_file()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|document\.cookie", text)


def test_the_vendored_library_has_its_licence_and_says_its_version() -> None:
    vendored = STATIC / "vendor" / "uplot"
    assert "The MIT License (MIT)" in (vendored / "LICENSE").read_text()
    library = (vendored / "uPlot.iife.min.js").read_text()
    assert re.match(r"/\*! https://github.com/leeoniya/uPlot \(v[\d.]+\) \*/", library)


def test_the_figures_are_everybodys_and_hold_nothing_about_anybody(tmp_path: Path) -> None:
    async def scene(on: Stage) -> None:
        before = (await on.http.get("/api/live")).json()
        assert (before["figures"], before["points"], before["events"]) == (None, [], [])
        await on.log_in()
        await on.http.get("/me")
        await on.look()
        await on.deployment.release()
        await on.look()
        answer = await on.users.get("/api/live")
        assert answer.headers["cache-control"] == "no-store"
        live = answer.json()
        assert (live["mints"], live["released"], live["window"]) == (2, True, 180)
        figures = live["figures"]
        assert (figures["verdict"], figures["fallbacks"], figures["queries"]) == ("draining", 1, 1)
        assert figures["planned_sunset"] == pytest.approx(on.deployment.planned + 181, abs=0.1)
        assert figures["latest_expiry"] <= figures["planned_sunset"]
        points = [dict(zip(live["columns"], point, strict=True)) for point in live["points"]]
        assert points[0]["fallback_rate"] == 1
        assert live["users"][:2] == [{"email": ADMIN, "role": "admin"}, {"email": USER, "role": "user"}]
        token = on.http.cookies["session"]
        assert token not in answer.text
        assert "demo_users" not in answer.text

    play(scene, tmp_path)


def test_a_page_gets_only_what_it_does_not_have(tmp_path: Path) -> None:
    async def scene(on: Stage) -> None:
        log_json(io.StringIO(), on.ring)
        await on.log_in()
        for _ in range(2):
            await on.http.get("/me")
        await on.look()
        first = (await on.http.get("/api/live")).json()
        newest = first["events"][-1]["number"]
        assert [event["event"] for event in first["events"]].count(names.EVENT_FALLBACK) == 2
        again = (await on.http.get("/api/live", params={"since": first["points"][-1][0], "event": newest})).json()
        assert (again["run"], again["points"], again["events"]) == (first["run"], [], [])
        await on.http.get("/me")
        later = (await on.http.get("/api/live", params={"since": 0, "event": newest})).json()
        assert [event["number"] for event in later["events"]] == [newest + 1]
        assert USER not in json.dumps(later["events"])

    play(scene, tmp_path)


@pytest.mark.parametrize("since", ["x", "-1", "nan", "inf", "1e99"])
def test_a_question_for_no_moment_is_a_bad_request(tmp_path: Path, since: str) -> None:
    async def scene(on: Stage) -> None:
        assert (await on.http.get("/api/live", params={"since": since})).status_code == 400
        assert (await on.http.get("/api/live", params={"event": since})).status_code == 400

    play(scene, tmp_path)


def test_the_page_of_nobody_is_told_that_it_is_nobodys(tmp_path: Path) -> None:
    async def scene(on: Stage) -> None:
        assert (await on.http.get("/api/you")).json() == {"you": None}
        bad = await on.users.get("/api/you", headers={"Cookie": "session=no.token.atall"})
        assert (bad.status_code, bad.json()) == (200, {"you": None})

    play(scene, tmp_path)


def claims_of(you: dict[str, list[dict[str, object]]]) -> dict[object, tuple[object, object]]:
    return {claim["name"]: (claim["value"], claim["source"]) for claim in you["claims"]}


def test_the_token_is_taken_apart_and_what_was_filled_is_told_with_its_source(tmp_path: Path) -> None:
    async def scene(on: Stage) -> None:
        await on.log_in()
        answer = await on.http.get("/api/you")
        you = answer.json()["you"]
        assert (you["email"], you["version"], you["today"], you["mayRelease"]) == (USER, 1, 2, False)
        claims = claims_of(you)
        assert claims["email"] == (USER, "database")
        assert claims["companyId"] == ("initech", "token")
        assert claims["version"] == (1, "token")
        assert {"iat", "exp", "auth_time", "sid"} <= claims.keys()
        assert on.http.cookies["session"] not in answer.text
        again = claims_of((await on.http.get("/api/you")).json()["you"])
        assert again["email"] == (USER, "cache")

    play(scene, tmp_path)


def test_a_token_of_todays_payload_lacks_nothing(tmp_path: Path) -> None:
    async def scene(on: Stage) -> None:
        await on.deployment.release()
        await on.log_in(ADMIN)
        you = (await on.http.get("/api/you")).json()["you"]
        assert (you["version"], you["mayRelease"], you["mayAdministrate"]) == (2, True, True)
        assert {source for _, source in claims_of(you).values()} == {"token"}

    play(scene, tmp_path)


def test_what_a_row_holds_reaches_the_page_as_text(tmp_path: Path) -> None:
    async def scene(on: Stage) -> None:
        async with on.database.engine.begin() as connection:
            await connection.execute(sa.update(users).where(users.c.id == 2).values(email="<b>@example.com"))
        await on.log_in("<b>@example.com")
        answer = await on.http.get("/api/you")
        assert answer.headers["content-type"] == "application/json"
        assert claims_of(answer.json()["you"])["email"] == ("<b>@example.com", "database")

    play(scene, tmp_path)


def test_logging_out_everywhere_ends_every_session_of_the_user_and_nobody_elses(tmp_path: Path) -> None:
    async def scene(on: Stage) -> None:
        kept = []
        for email in (USER, ADMIN, USER):
            await on.log_in(email)
            kept.append({"Cookie": f"session={on.http.cookies['session']}"})
        answer = await on.http.post("/logout-everywhere")
        assert answer.status_code == 204
        assert "Max-Age=0" in answer.headers["set-cookie"]
        assert [(await on.users.get("/me", headers=cookie)).status_code for cookie in kept] == [401, 200, 401]
        assert (await on.users.post("/logout-everywhere")).status_code == 401

    play(scene, tmp_path)


def test_plain_sql_logs_out_within_the_bound(tmp_path: Path) -> None:
    async def scene(on: Stage) -> None:
        await on.log_in()
        assert (await on.http.get("/me")).status_code == 200
        async with on.database.engine.begin() as connection:
            await connection.execute(sa.text("UPDATE user_sessions SET is_active = false WHERE user_id = '2'"))
        async with asyncio.timeout(10):
            while (await on.http.get("/me")).status_code == 200:
                await asyncio.sleep(0.02)
        assert (await on.http.get("/me")).status_code == 401

    play(scene, tmp_path, Settings(users=3, window=10))


def test_a_device_is_revoked_and_another_users_is_not(tmp_path: Path) -> None:
    async def scene(on: Stage) -> None:
        await on.log_in(ADMIN)
        others = (await on.http.get("/api/you")).json()["you"]["devices"][0]["id"]
        await on.log_in()
        there = {"Cookie": f"session={on.http.cookies['session']}"}
        await on.log_in()
        devices = (await on.http.get("/api/you")).json()["you"]["devices"]
        assert sorted(device["current"] for device in devices) == [False, True]
        wanted = next(device["id"] for device in devices if not device["current"])
        for session_id, status in ((wanted, 200), (others, 404)):
            body = {"session_id": session_id, "confirm": True}
            assert (await on.http.post("/devices/revoke-session", json=body)).status_code == status
        assert (await on.users.get("/me", headers=there)).status_code == 401
        assert (await on.http.get("/me")).status_code == 200

    play(scene, tmp_path)


def test_the_administrators_page_is_theirs_alone_before_and_after_the_release(tmp_path: Path) -> None:
    async def scene(on: Stage) -> None:
        await on.log_in()
        assert (await on.http.get("/admin/sessions/")).status_code == 403
        await on.log_in(ADMIN)
        before = (await on.http.get("/admin/sessions/")).json()
        assert {user["user_id"] for user in before["users"]} == {"1", "2"}
        await on.deployment.release()
        migration = (await on.http.get("/admin/sessions/migration")).json()
        assert (migration["reads"], migration["mints"]) == (2, 2)
        page = await on.http.get("/admin/sessions/", headers={"Accept": "text/html"})
        assert "Active sessions by user" in page.text
        assert (await on.users.get("/admin/sessions/")).status_code == 401

    play(scene, tmp_path)


def test_a_session_that_ends_while_it_is_looked_at_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(on: Stage) -> None:
        async def ended(token: str) -> None:
            raise Refusal(Reason.TOKEN_EXPIRED)

        await on.log_in()
        monkeypatch.setattr(on.deployment.authority, "verify", ended)
        assert (await on.http.get("/api/you")).json() == {"you": None}

    play(scene, tmp_path)


def test_a_database_that_is_gone_is_a_503_for_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(on: Stage) -> None:
        async def gone(*_: object, **__: object) -> None:
            raise OperationalError("SELECT", {}, Exception("gone"))

        await on.log_in()
        monkeypatch.setattr(on.deployment.authority, "sessions_of", gone)
        answer = await on.http.get("/api/you")
        assert (answer.status_code, answer.json()) == (503, {"error": "unavailable"})

    play(scene, tmp_path)
