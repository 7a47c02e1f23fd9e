"""A user's own devices: listed, revoked one by one, or all but this one; and nobody else's."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jwt_middleware import Adoption, MemorySessionStore
from jwt_middleware.testing import old_token
from jwt_middleware.types import SessionKey
from tests.support.administration import ADMIN, DEVICES, Stage, Visit
from tests.support.world import FakeClock


async def stands(visit: Visit) -> bool:
    return (await visit.ask(DEVICES)).status_code == 200


async def test_everybody_sees_their_own_and_which_one_this_is() -> None:
    stage = Stage()
    await stage.log_in("8", label="somebody else")
    await stage.log_in("7", "user", label="phone")
    laptop = await stage.log_in("7", "user", label="laptop")
    status, facts = await laptop.json(DEVICES)
    assert status == 200
    assert [(row["label"], row["current"]) for row in facts["sessions"]] == [("laptop", True), ("phone", False)]
    page = await laptop.page(DEVICES)
    assert [row[0] for row in page.cells] == ["laptop (this one)", "phone"]
    assert (await laptop.ask(ADMIN)).status_code == 403


async def test_one_is_revoked_with_a_browser() -> None:
    stage = Stage()
    phone, laptop = await stage.log_in("7", "user", label="phone"), await stage.log_in("7", "user")
    page = await laptop.page(DEVICES)
    form = next(form for form in page.forms if form.fields.get("session_id") == phone.session_id)
    question = await laptop.send(page, form)
    assert "That device is logged out." in question.text
    assert await stands(phone)
    done = await laptop.send(question, question.form("Yes, revoke"))
    assert "The session is revoked." in done.text
    assert (await stands(phone), await stands(laptop)) == (False, True)
    here = await laptop.send(page, page.form("Revoke"))
    assert "You are logged out here." in here.text
    await laptop.send(here, here.form("Yes, revoke"))
    assert not await stands(laptop)


async def test_all_but_this_one_are_revoked_with_a_browser() -> None:
    stage = Stage()
    others = [await stage.log_in("7"), await stage.log_in("7")]
    here, elsewhere = await stage.log_in("7"), await stage.log_in("8")
    page = await here.page(DEVICES)
    question = await here.send(page, page.form("Log out on all other devices"))
    assert "You stay logged in here." in question.text
    done = await here.send(question, question.form("Yes, revoke"))
    assert "All other devices are logged out." in done.text
    assert [await stands(other) for other in others] == [False, False]
    assert (await stands(here), await stands(elsewhere)) == (True, True)


async def test_a_script_does_the_same() -> None:
    stage = Stage()
    other, phone, here = await stage.log_in("7"), await stage.log_in("7"), await stage.log_in("7")
    body = {"session_id": phone.session_id}
    assert (await here.json(f"{DEVICES}revoke-session", body))[0] == 400
    assert await here.json(f"{DEVICES}revoke-session", {**body, "confirm": True}) == (200, {"revoked": "session"})
    assert (await here.json(f"{DEVICES}revoke-others", {}))[0] == 400
    assert await stands(other)
    assert await here.json(f"{DEVICES}revoke-others", {"confirm": True}) == (200, {"revoked": "others"})
    assert [await stands(visit) for visit in (other, phone, here)] == [False, False, True]


class Writing(MemorySessionStore):
    """Keeps the statements that revoke; may fail once it was asked."""

    revoked: list[tuple[str, str | None]]

    async def revoke(self, session_id: str, *, user_id: str | None = None) -> bool:
        self.revoked = [*getattr(self, "revoked", []), (session_id, user_id)]
        return await super().revoke(session_id, user_id=user_id)


async def test_the_statement_carries_the_users_id_whatever_is_posted() -> None:
    clock = FakeClock()
    store = Writing(clock=clock)
    stage = Stage(store=store, clock=clock)
    here, phone = await stage.log_in("7"), await stage.log_in("7")
    body = {"session_id": phone.session_id, "user_id": "8", "confirm": True}
    assert (await here.json(f"{DEVICES}revoke-session", body))[0] == 200
    assert store.revoked == [(phone.session_id, "7")]


async def test_somebody_elses_session_goes_on_as_if_nobody_had_asked() -> None:
    """Not even its cached answers are dropped, so that nobody makes another's session depend on the database."""

    stage = Stage()
    here, theirs = await stage.log_in("7"), await stage.log_in("8")
    generation = stage.authority.parts.known.generation
    body = {"session_id": theirs.session_id, "user_id": "8", "confirm": True}
    assert (await here.json(f"{DEVICES}revoke-session", body))[0] == 404
    assert stage.authority.parts.known.generation == generation
    key = SessionKey(session_id=theirs.session_id, user_id="8")
    assert (await stage.store.statuses([key]))[key].active


async def test_a_session_of_before_this_package_keeps_nothing_it_has_no_row_for() -> None:
    stage = Stage(adoption=Adoption(sessions="marks"))
    listed = await stage.log_in("7")
    old = Visit(stage, None, "")
    old.token = old_token(stage.authority, {"userId": "7"}, sid=None, auth_time=None, age=timedelta(hours=1))
    status, facts = await old.json(DEVICES)
    assert (status, [row["current"] for row in facts["sessions"]]) == (200, [False])
    assert (await old.json(f"{DEVICES}revoke-others", {"confirm": True}))[0] == 409
    assert await stands(listed)
    page = await old.page(DEVICES)
    question = await old.send(page, page.form("Revoke"))
    assert (await old.send(question, question.form("Yes, revoke"))).status == 200
    assert (await stands(listed), await stands(old)) == (False, True)


@pytest.mark.parametrize("session_id", ["", "no uuid", "6f1c7b52-0000-4000-8000-000000000001"])
async def test_what_is_no_session_is_not_revoked(session_id: str) -> None:
    here = await Stage().log_in("7")
    assert (await here.json(f"{DEVICES}revoke-session", {"session_id": session_id, "confirm": True}))[0] == 404
