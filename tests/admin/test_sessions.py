"""What an administrator reads and revokes, as a script and with a browser."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from jwt_middleware import Key, KeyRing, source
from jwt_middleware.sqlalchemy.sessions import SQLAlchemySessionStore
from jwt_middleware.testing import old_token
from jwt_middleware.types import moment
from tests.support.administration import ADMIN, Page, Stage, Visit
from tests.support.databases import checked_out
from tests.support.world import EPOCH, SECRET, FakeClock, Session


async def stands(visit: Visit) -> bool:
    """Whether the session's next request passes."""
    return (await visit.ask("/devices/")).status_code == 200


async def test_users_are_listed_with_their_active_sessions() -> None:
    stage = Stage()
    visit = await stage.log_in("1")
    for user_id in ("2", "2", "3"):
        await stage.log_in(user_id)
    status, facts = await visit.json(ADMIN)
    assert status == 200
    assert facts["next"] is None
    assert [(user["user_id"], user["sessions"]) for user in facts["users"]] == [("1", 1), ("2", 2), ("3", 1)]
    assert datetime.fromisoformat(facts["users"][0]["last_activity_at"]) == moment(EPOCH)
    page = await visit.page(ADMIN)
    assert [row[:2] for row in page.cells] == [["1", "1"], ["2", "2"], ["3", "1"]]
    assert page.cells[0][2] == "2026-11-25 09:46:40 UTC"
    assert "Next page" not in page.text


@pytest.mark.parametrize("path", [ADMIN, f"{ADMIN}sessions?user_id=7", "/devices/"])
async def test_lists_are_read_page_by_page_in_either_shape(path: str) -> None:
    stage = Stage()
    visit = await stage.log_in("7")
    for number in range(4):
        await stage.log_in("7", label=f"device {number}")
        await stage.log_in(f"1{number}")
    whole = (await visit.json(path))[1]
    rows = whole.get("sessions") or whole["users"]
    assert len(rows) == 5
    start = path + ("&" if "?" in path else "?") + "limit=2"
    found: list[Any] = []
    facts = (await visit.json(start))[1]
    page = await visit.page(start)
    shown = [row[0] for row in page.cells]
    found += facts.get("sessions") or facts["users"]
    assert "First page" not in page.text
    while facts["next"] is not None:
        status, facts = await visit.json(f"{start}&after={facts['next']}")
        assert status == 200
        found += facts.get("sessions") or facts["users"]
        page = await visit.page(page.link("Next page"))
        shown += [row[0] for row in page.cells]
        first = await visit.page(page.link("First page"))
        assert [row[0] for row in first.cells] == shown[:2]
    assert found == rows
    assert len(shown) == 5
    assert "Next page" not in page.text


async def test_a_page_that_is_full_exactly_leads_nowhere() -> None:
    visit = await Stage().log_in("7")
    for path in (f"{ADMIN}?limit=1", f"{ADMIN}sessions?user_id=7&limit=1", "/devices/?limit=1"):
        assert (await visit.json(path))[1]["next"] is None


@pytest.mark.parametrize(
    "query",
    [
        "user_id=7&limit=0",
        "user_id=7&limit=201",
        "user_id=7&limit=-1",
        "user_id=7&limit=1e2",
        "user_id=7&limit=²",
        "user_id=7&after=",
        "user_id=7&after=1",
        "user_id=7&after=1.6F1C7B52-0000-4000-8000-000000000001",
        f"user_id=7&after={'9' * 18}.6f1c7b52-0000-4000-8000-000000000001",
        "user_id=",
        "user_id=%00",
        f"user_id={'7' * 256}",
        "",
    ],
)
async def test_what_no_page_says_is_refused(query: str) -> None:
    visit = await Stage().log_in()
    assert (await visit.ask(f"{ADMIN}sessions?{query}")).status_code == 400


async def test_users_after_what_is_no_user_are_refused() -> None:
    assert (await (await Stage().log_in()).json(f"{ADMIN}?after="))[0] == 400


async def test_a_cursor_at_the_end_of_time_is_one() -> None:
    visit = await Stage().log_in("7")
    cursor = f"{'9' * 17}.6f1c7b52-0000-4000-8000-000000000001"
    status, facts = await visit.json(f"{ADMIN}sessions?user_id=7&after={cursor}")
    assert (status, len(facts["sessions"])) == (200, 1)


async def test_the_sessions_of_a_user_are_found_by_their_id() -> None:
    stage = Stage()
    visit = await stage.log_in("1")
    phone = await stage.log_in("7", label="phone")
    await stage.log_in("7")
    search = next(form for form in (await visit.page(ADMIN)).forms if form.method == "get")
    search.fields["user_id"] = "7"
    page = await visit.send(await visit.page(ADMIN), search)
    assert page.path == f"{ADMIN}sessions"
    assert [row[0] for row in page.cells] == ["no label", "phone"]
    status, facts = await visit.json(f"{ADMIN}sessions?user_id=7")
    assert (status, facts["user_id"]) == (200, "7")
    assert facts["sessions"][1] == {
        "session_id": phone.session_id,
        "label": "phone",
        "created_at": facts["sessions"][1]["created_at"],
        "last_activity_at": facts["sessions"][1]["last_activity_at"],
        "expires_at": facts["sessions"][1]["expires_at"],
        "current": False,
    }
    assert (await visit.json(f"{ADMIN}sessions?user_id=1"))[1]["sessions"][0]["current"] is True
    assert (await visit.json(f"{ADMIN}sessions?user_id=nobody"))[1]["sessions"] == []


async def confirmed(visit: Visit, page: Page, button: str) -> Page:
    """Press the button, read the question, say yes."""
    question = await visit.send(page, page.form(button))
    assert question.status == 200
    assert "?" in question.text
    assert question.link("No").endswith("/")
    return await visit.send(question, question.form("Yes, revoke"))


async def test_one_session_is_revoked_with_a_browser() -> None:
    stage = Stage()
    visit, phone, laptop = await stage.log_in("1"), await stage.log_in("7", label="phone"), await stage.log_in("7")
    page = await visit.page(f"{ADMIN}sessions?user_id=7")
    form = next(form for form in page.forms if form.fields.get("session_id") == phone.session_id)
    question = await visit.send(page, form)
    assert "A session of user" in question.text
    assert "You are logged out too" not in question.text
    assert await stands(phone)
    done = await visit.send(question, question.form("Yes, revoke"))
    assert (done.status, "The session is revoked." in done.text) == (200, True)
    assert ("p", {"role": "status"}) in done.elements
    assert [await stands(each) for each in (visit, phone, laptop)] == [True, False, True]
    again = await visit.send(question, question.form("Yes, revoke"))
    assert (again.status, "no such active session" in again.text) == (404, True)


async def test_all_of_a_user_are_revoked_with_a_browser() -> None:
    stage = Stage()
    visit, one, two = await stage.log_in("1"), await stage.log_in("7"), await stage.log_in("7")
    done = await confirmed(visit, await visit.page(f"{ADMIN}sessions?user_id=7"), "Revoke all sessions of this user")
    assert "All sessions of the user are revoked." in done.text
    assert [await stands(each) for each in (visit, one, two)] == [True, False, False]


async def test_everybodys_are_revoked_with_a_browser_and_ones_own_too() -> None:
    stage = Stage()
    visit, other = await stage.log_in("1"), await stage.log_in("7")
    done = await confirmed(visit, await visit.page(ADMIN), "Revoke all sessions of everybody")
    assert (done.status, "of everybody are revoked" in done.text) == (200, True)
    assert [await stands(each) for each in (visit, other)] == [False, False]


async def test_who_ends_their_own_session_is_told_before() -> None:
    visit = await Stage().log_in("1")
    page = await visit.page(f"{ADMIN}sessions?user_id=1")
    for button in ("Revoke", "Revoke all sessions of this user"):
        assert "You are logged out too." in (await visit.send(page, page.form(button))).text
    home = await visit.page(ADMIN)
    assert "You are logged out too." in (await visit.send(home, home.form("Revoke all sessions of everybody"))).text


@pytest.mark.parametrize(
    ("what", "body", "left"),
    [
        ("session", {}, ["1", "7", "8"]),
        ("user", {"user_id": "7"}, ["1", "8"]),
        ("all", {}, []),
    ],
)
async def test_a_script_revokes_by_saying_that_it_means_it(what: str, body: dict[str, Any], left: list[str]) -> None:
    stage = Stage()
    visit, phone = await stage.log_in("1"), await stage.log_in("7")
    await stage.log_in("7")
    await stage.log_in("8")
    path, asked = (
        f"{ADMIN}revoke-{what}",
        {**body, **({"session_id": phone.session_id} if what == "session" else {})},
    )
    for unsure in (asked, {**asked, "confirm": False}, {**asked, "confirm": "no"}):
        status, problem = await visit.json(path, unsure)
        assert (status, problem["detail"]) == (400, 'Nothing was revoked: say "confirm": true.')
    assert await stands(phone)
    assert await visit.json(path, {**asked, "confirm": True}) == (200, {"revoked": what})
    assert not await stands(phone)
    assert [user.user_id for user in await stage.authority.active_users()] == left


async def test_a_session_is_revoked_together_with_the_user_that_is_named() -> None:
    stage = Stage()
    visit, phone = await stage.log_in("1"), await stage.log_in("7")
    body = {"session_id": phone.session_id, "confirm": True}
    assert (await visit.json(f"{ADMIN}revoke-session", {**body, "user_id": "8"}))[0] == 404
    assert await stands(phone)
    assert (await visit.json(f"{ADMIN}revoke-session", {**body, "user_id": "7"}))[0] == 200
    assert not await stands(phone)


@pytest.mark.parametrize("session_id", ["", "no uuid", "6f1c7b52-0000-4000-8000-000000000001"])
async def test_a_session_that_is_none_is_not_revoked(session_id: str) -> None:
    visit = await Stage().log_in()
    body = {"session_id": session_id, "confirm": True}
    assert (await visit.json(f"{ADMIN}revoke-session", body))[0] == 404
    assert (await visit.json(f"{ADMIN}revoke-session", {"confirm": True}))[0] == 404


async def test_a_user_that_is_none_is_not_revoked() -> None:
    visit = await Stage().log_in()
    assert (await visit.json(f"{ADMIN}revoke-user", {"confirm": True}))[0] == 400


async def test_a_session_without_row_has_no_name_in_the_question() -> None:
    visit = await Stage().log_in()
    page = await visit.page(f"{ADMIN}sessions?user_id=1")
    form = page.form("Revoke")
    del form.fields["user_id"]
    question = await visit.send(page, form)
    assert "(not told)" in question.text
    assert "user_id" not in question.form("Yes, revoke").fields


async def test_the_migration_is_told_as_far_as_this_process_can_say() -> None:
    planned = datetime.fromtimestamp(EPOCH, UTC) - timedelta(hours=2)
    stage = Stage(effective_at={2: planned})
    visit = await stage.log_in()
    claims = {"userId": "1", "role": "admin"}
    began = EPOCH - 86_400
    old = old_token(stage.authority, claims, age=timedelta(days=1), sid=visit.session_id, auth_time=began)
    headers = {"authorization": f"Bearer {old}"}
    assert (await stage.nobody().ask("/devices/", headers=headers)).status_code == 200
    status, facts = await visit.json(f"{ADMIN}migration")
    assert status == 200
    assert (facts["reads"], facts["mints"], facts["newer_requests"]) == (2, 2, 0)
    first, second = facts["versions"]
    assert first["version"] == 1
    assert (first["verdict"], first["requests"]) == ("draining", 1)
    assert datetime.fromisoformat(first["effective_at"]) == planned
    assert datetime.fromisoformat(first["superseded"]) == planned + timedelta(hours=1, seconds=30)
    assert datetime.fromisoformat(first["sunset"]) == planned + timedelta(days=7, hours=1, seconds=30)
    assert first["last_minted"] == moment(int(EPOCH - 86_400)).isoformat()
    assert second["verdict"] is None
    assert second["requests"] == 1
    assert second["last_minted"] == moment(int(EPOCH)).isoformat()
    page = await visit.page(f"{ADMIN}migration")
    assert [row[0] for row in page.cells] == ["Version 1", "Version 2"]
    assert page.cells[0][-1] == "draining"
    assert page.cells[1][-1] == "none"
    assert "for the dashboards to prove" in page.text


async def test_one_process_never_says_that_a_version_is_gone() -> None:
    planned = datetime.fromtimestamp(EPOCH, UTC) - timedelta(days=30)
    visit = await Stage(effective_at={2: planned}).log_in()
    facts = (await visit.json(f"{ADMIN}migration"))[1]
    assert facts["versions"][0]["verdict"] == "unproven"
    assert facts["versions"][0]["last_minted"] is None


async def test_a_process_that_mints_the_old_payload_after_the_plan_says_so() -> None:
    @source("email")
    async def emails(keys: Any) -> Any:
        return {key: {"email": "a@b.c"} for key in keys}

    planned = datetime.fromtimestamp(EPOCH, UTC) - timedelta(days=2)
    visit = await Stage(effective_at={2: planned}, schema={"mints": 1}, sources=[emails]).log_in()
    facts = (await visit.json(f"{ADMIN}migration"))[1]
    assert (facts["reads"], facts["mints"]) == (2, 1)
    assert (facts["versions"][0]["verdict"], facts["versions"][0]["requests"]) == ("still minted", 1)


async def test_all_of_it_in_a_database(database_url: str) -> None:
    engine = create_async_engine(database_url)
    store = SQLAlchemySessionStore(engine)
    try:
        await store.create_all()
        clock = FakeClock(wall=datetime.now(UTC).timestamp())
        stage = Stage(store=store, clock=clock, keys=KeyRing([Key.hmac(SECRET)]))
        visit, phone = await stage.log_in("1"), await stage.log_in("7", label="phone")
        clock.advance(1)
        await stage.log_in("7")
        assert [(user["user_id"], user["sessions"]) for user in (await visit.json(ADMIN))[1]["users"]] == [
            ("1", 1),
            ("7", 2),
        ]
        page = await visit.page(f"{ADMIN}sessions?user_id=7&limit=1")
        page = await visit.page(page.link("Next page"))
        assert [row[0] for row in page.cells] == ["phone"]
        await confirmed(visit, page, "Revoke")
        assert not await stands(phone)
        await confirmed(visit, page, "Revoke all sessions of this user")
        assert [user["user_id"] for user in (await visit.json(ADMIN))[1]["users"]] == ["1"]
        assert checked_out(engine) == 0
        await stage.authority.aclose()
    finally:
        await engine.dispose()


async def test_who_may_read_need_not_be_who_may_revoke() -> None:
    def allow(conn: Any, session: Session) -> bool:
        return session.role == "admin" and conn.method == "GET"

    visit = await Stage(allow=allow).log_in()
    assert (await visit.json(ADMIN))[0] == 200
    assert (await visit.json(f"{ADMIN}revoke-all", {"confirm": True}))[0] == 403
