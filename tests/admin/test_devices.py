"""My devices: a user lists and revokes their own sessions, and no other user's."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jwt_middleware import Envelope
from jwt_middleware.testing import old_token
from tests.support.administration import ADMIN, DEVICES, Stage, Visit
from tests.support.stores import FakeStore, status_of
from tests.support.world import ROWLESS, FakeClock


class TestMyDevices:
    async def test_users_see_their_own_sessions_and_which_one_this_is(self) -> None:
        stage = Stage()
        await stage.visit("8", label="another user")
        await stage.visit("7", "user", label="phone")
        laptop = await stage.visit("7", "user", label="laptop")
        status, facts = await laptop.json(DEVICES)
        assert status == 200
        assert [(row["label"], row["current"]) for row in facts["sessions"]] == [("laptop", True), ("phone", False)]
        page = await laptop.page(DEVICES)
        assert [row[0] for row in page.cells] == ["laptop (this one)", "phone"]
        assert (await laptop.ask(ADMIN)).status_code == 403

    async def test_one_session_is_revoked_with_a_browser(self) -> None:
        stage = Stage()
        phone, laptop = await stage.visit("7", "user", label="phone"), await stage.visit("7", "user")
        page = await laptop.page(DEVICES)
        form = next(form for form in page.forms if form.fields.get("session_id") == phone.session_id)
        question = await laptop.send(page, form)
        assert "That device is logged out." in question.text
        assert await phone.is_logged_in()
        done = await laptop.send(question, question.form("Yes, revoke"))
        assert "The session is revoked." in done.text
        assert (await phone.is_logged_in(), await laptop.is_logged_in()) == (False, True)
        own = await laptop.send(page, page.form("Revoke"))
        assert "You are logged out here." in own.text
        await laptop.send(own, own.form("Yes, revoke"))
        assert not await laptop.is_logged_in()

    async def test_all_sessions_but_this_one_are_revoked_with_a_browser(self) -> None:
        stage = Stage()
        visits = [await stage.visit(user_id) for user_id in ("7", "7", "7", "8")]
        here = visits[2]
        page = await here.page(DEVICES)
        question = await here.send(page, page.form("Log out on all other devices"))
        assert "You stay logged in here." in question.text
        done = await here.send(question, question.form("Yes, revoke"))
        assert "All other devices are logged out." in done.text
        assert [await visit.is_logged_in() for visit in visits] == [False, False, True, True]

    async def test_a_script_does_the_same(self) -> None:
        stage = Stage()
        other, phone, here = await stage.visit("7"), await stage.visit("7"), await stage.visit("7")
        body = {"session_id": phone.session_id}
        assert (await here.json(f"{DEVICES}revoke-session", body))[0] == 400
        assert await here.json(f"{DEVICES}revoke-session", {**body, "confirm": True}) == (200, {"revoked": "session"})
        assert (await here.json(f"{DEVICES}revoke-others", {}))[0] == 400
        assert await other.is_logged_in()
        assert await here.json(f"{DEVICES}revoke-others", {"confirm": True}) == (200, {"revoked": "others"})
        assert [await visit.is_logged_in() for visit in (other, phone, here)] == [False, False, True]

    async def test_the_statement_carries_the_users_id_despite_the_body(self) -> None:
        store = FakeStore(clock=(clock := FakeClock()))
        stage = Stage(store=store, clock=clock)
        here, phone = await stage.visit("7"), await stage.visit("7")
        body = {"session_id": phone.session_id, "user_id": "8", "confirm": True}
        assert (await here.json(f"{DEVICES}revoke-session", body))[0] == 200
        assert store.revoked == [(phone.session_id, "7")]

    async def test_another_users_session_stays_active_and_cached(self) -> None:
        """Its cached status stays too, so that no user makes another user's session depend on the database."""
        stage = Stage()
        here, theirs = await stage.visit("7"), await stage.visit("8")
        generation = stage.authority.parts.token_cache.generation
        body = {"session_id": theirs.session_id, "user_id": "8", "confirm": True}
        assert (await here.json(f"{DEVICES}revoke-session", body))[0] == 404
        assert stage.authority.parts.token_cache.generation == generation
        assert (await status_of(stage.store, theirs.session_id, "8")).active

    @pytest.mark.parametrize("typ", [None, "JWT"])
    async def test_a_session_without_sid_cannot_keep_itself_since_it_has_no_row(self, typ: str | None) -> None:
        """An own one of before the store, and one of the app's former code."""
        stage = Stage(also_accept=[ROWLESS, Envelope.foreign()])
        listed = await stage.visit("7")
        old = old_token(stage.authority, {"userId": "7"}, sid=None, age=timedelta(hours=1), typ=typ)
        adopted = Visit(stage, old)
        status, facts = await adopted.json(DEVICES)
        assert (status, [row["current"] for row in facts["sessions"]]) == (200, [False])
        assert (await adopted.json(f"{DEVICES}revoke-others", {"confirm": True}))[0] == 409
        assert await listed.is_logged_in()
        assert (await adopted.confirm(await adopted.page(DEVICES), "Revoke")).status == 200
        assert (await listed.is_logged_in(), await adopted.is_logged_in()) == (False, True)

    async def test_the_sid_of_a_foreign_token_names_no_device(self) -> None:
        stage = Stage(also_accept=[Envelope.foreign()])
        listed = await stage.visit("7")
        old = old_token(stage.authority, {"userId": "7"}, sid=listed.session_id, age=timedelta(hours=1), typ="JWT")
        foreign = Visit(stage, old)
        assert [row["current"] for row in (await foreign.json(DEVICES))[1]["sessions"]] == [False]
        assert (await foreign.json(f"{DEVICES}revoke-others", {"confirm": True}))[0] == 409
        body = {"session_id": listed.session_id, "confirm": True}
        assert (await foreign.json(f"{DEVICES}revoke-session", body))[0] == 200
        assert (await listed.is_logged_in(), await foreign.is_logged_in()) == (False, True)

    @pytest.mark.parametrize("typ", [None, "JWT"])
    async def test_logging_out_all_other_devices_ends_a_session_without_sid(self, typ: str | None) -> None:
        stage = Stage(also_accept=[ROWLESS, Envelope.foreign()])
        here = await stage.visit("7")
        tokens = [
            old_token(stage.authority, {"userId": user_id}, sid=None, age=timedelta(hours=1), typ=typ)
            for user_id in ("7", "8")
        ]
        mine, theirs = (Visit(stage, token) for token in tokens)
        assert await mine.is_logged_in()
        assert await here.json(f"{DEVICES}revoke-others", {"confirm": True}) == (200, {"revoked": "others"})
        assert [await visit.is_logged_in() for visit in (mine, here, theirs)] == [False, True, True]

    @pytest.mark.parametrize("session_id", ["", "no uuid", "6f1c7b52-0000-4000-8000-000000000001"])
    async def test_an_unknown_session_is_not_found(self, session_id: str) -> None:
        here = await Stage().visit("7")
        assert (await here.json(f"{DEVICES}revoke-session", {"session_id": session_id, "confirm": True}))[0] == 404
