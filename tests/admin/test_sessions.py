"""Session administration: an administrator lists and revokes sessions, with a script and with a browser."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from jwt_middleware.types import moment
from tests.support.administration import ADMIN, Stage
from tests.support.stores import opened
from tests.support.world import EPOCH, FakeClock


class TestSessionAdmin:
    async def test_users_are_listed_with_their_active_sessions(self) -> None:
        stage = Stage()
        visit = await stage.visit("1")
        for user_id in ("2", "2", "3"):
            await stage.visit(user_id)
        status, facts = await visit.json(ADMIN)
        assert status == 200
        assert facts["next"] is None
        assert [(user["user_id"], user["sessions"]) for user in facts["users"]] == [("1", 1), ("2", 2), ("3", 1)]
        assert datetime.fromisoformat(facts["users"][0]["last_activity_at"]) == moment(EPOCH)
        page = await visit.page(ADMIN)
        assert [row[:2] for row in page.cells] == [["1", "1"], ["2", "2"], ["3", "1"]]
        assert page.cells[0][2] == "2026-11-25 09:46:40 UTC"
        assert "Next page" not in page.text

    async def test_the_search_finds_the_sessions_of_a_user(self) -> None:
        stage = Stage()
        visit = await stage.visit("1")
        phone = await stage.visit("7", label="phone")
        await stage.visit("7")
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

    async def test_one_session_is_revoked_with_a_browser(self) -> None:
        stage = Stage()
        visit, phone, laptop = await stage.visit("1"), await stage.visit("7", label="phone"), await stage.visit("7")
        page = await visit.page(f"{ADMIN}sessions?user_id=7")
        form = next(form for form in page.forms if form.fields.get("session_id") == phone.session_id)
        question = await visit.send(page, form)
        assert "A session of user" in question.text
        assert "You are logged out too" not in question.text
        assert await phone.is_logged_in()
        done = await visit.send(question, question.form("Yes, revoke"))
        assert (done.status, "The session is revoked." in done.text) == (200, True)
        assert ("p", {"role": "status"}) in done.elements
        assert [await each.is_logged_in() for each in (visit, phone, laptop)] == [True, False, True]
        again = await visit.send(question, question.form("Yes, revoke"))
        assert (again.status, "no such active session" in again.text) == (404, True)

    async def test_all_sessions_of_a_user_are_revoked_with_a_browser(self) -> None:
        stage = Stage()
        visit, one, two = await stage.visit("1"), await stage.visit("7"), await stage.visit("7")
        done = await visit.confirm(await visit.page(f"{ADMIN}sessions?user_id=7"), "Revoke all sessions of this user")
        assert "All sessions of the user are revoked." in done.text
        assert [await each.is_logged_in() for each in (visit, one, two)] == [True, False, False]

    async def test_all_sessions_of_all_users_are_revoked_with_a_browser(self) -> None:
        stage = Stage()
        visit, other = await stage.visit("1"), await stage.visit("7")
        done = await visit.confirm(await visit.page(ADMIN), "Revoke all sessions of all users")
        assert (done.status, "of all users are revoked" in done.text) == (200, True)
        assert [await each.is_logged_in() for each in (visit, other)] == [False, False]

    async def test_the_question_warns_an_administrator_about_their_own_session(self) -> None:
        visit = await Stage().visit("1")
        page = await visit.page(f"{ADMIN}sessions?user_id=1")
        for button in ("Revoke", "Revoke all sessions of this user"):
            assert "You are logged out too." in (await visit.send(page, page.form(button))).text
        home = await visit.page(ADMIN)
        assert "You are logged out too." in (await visit.send(home, home.form("Revoke all sessions of all users"))).text

    @pytest.mark.parametrize(
        ("scope", "body", "left"),
        [("session", {}, ["1", "7", "8"]), ("user", {"user_id": "7"}, ["1", "8"]), ("all", {}, [])],
    )
    async def test_a_script_revokes_with_an_explicit_confirmation(
        self, scope: str, body: dict[str, Any], left: list[str]
    ) -> None:
        stage = Stage()
        visit, phone = await stage.visit("1"), await stage.visit("7")
        await stage.visit("7")
        await stage.visit("8")
        path = f"{ADMIN}revoke-{scope}"
        if scope == "session":
            body = {"session_id": phone.session_id}
        for unconfirmed in (body, {**body, "confirm": False}, {**body, "confirm": "no"}):
            status, problem = await visit.json(path, unconfirmed)
            assert (status, problem["detail"]) == (400, 'Nothing was revoked: add "confirm": true.')
        assert await phone.is_logged_in()
        assert await visit.json(path, {**body, "confirm": True}) == (200, {"revoked": scope})
        assert not await phone.is_logged_in()
        assert [user.user_id for user in await stage.authority.active_users()] == left

    async def test_a_session_is_revoked_only_if_it_is_the_named_users(self) -> None:
        stage = Stage()
        visit, phone = await stage.visit("1"), await stage.visit("7")
        body = {"session_id": phone.session_id, "confirm": True}
        assert (await visit.json(f"{ADMIN}revoke-session", {**body, "user_id": "8"}))[0] == 404
        assert await phone.is_logged_in()
        assert (await visit.json(f"{ADMIN}revoke-session", {**body, "user_id": "7"}))[0] == 200
        assert not await phone.is_logged_in()

    @pytest.mark.parametrize("session_id", ["", "no uuid", "6f1c7b52-0000-4000-8000-000000000001"])
    async def test_an_unknown_session_is_not_found(self, session_id: str) -> None:
        visit = await Stage().visit()
        body = {"session_id": session_id, "confirm": True}
        assert (await visit.json(f"{ADMIN}revoke-session", body))[0] == 404
        assert (await visit.json(f"{ADMIN}revoke-session", {"confirm": True}))[0] == 404

    async def test_a_missing_user_id_is_refused(self) -> None:
        visit = await Stage().visit()
        assert (await visit.json(f"{ADMIN}revoke-user", {"confirm": True}))[0] == 400

    async def test_the_question_does_not_name_a_user_that_is_not_given(self) -> None:
        visit = await Stage().visit()
        page = await visit.page(f"{ADMIN}sessions?user_id=1")
        form = page.form("Revoke")
        del form.fields["user_id"]
        question = await visit.send(page, form)
        assert "(not given)" in question.text
        assert "user_id" not in question.form("Yes, revoke").fields

    async def test_all_of_it_works_on_a_database(self, database_url: str) -> None:
        async with opened(database_url) as store:
            stage = Stage(store=store, clock=FakeClock(wall=datetime.now(UTC).timestamp()))
            visit, phone = await stage.visit("1"), await stage.visit("7", label="phone")
            stage.clock.advance(1)
            await stage.visit("7")
            users = (await visit.json(ADMIN))[1]["users"]
            assert [(user["user_id"], user["sessions"]) for user in users] == [("1", 1), ("7", 2)]
            page = await visit.page(f"{ADMIN}sessions?user_id=7&limit=1")
            page = await visit.page(page.link("Next page"))
            assert [row[0] for row in page.cells] == ["phone"]
            await visit.confirm(page, "Revoke")
            assert not await phone.is_logged_in()
            await visit.confirm(page, "Revoke all sessions of this user")
            assert [user["user_id"] for user in (await visit.json(ADMIN))[1]["users"]] == ["1"]
            await stage.authority.aclose()
