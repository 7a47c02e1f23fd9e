"""The migration page: the plan and the evidence of one process, which never proves that a version is gone."""

from __future__ import annotations

from datetime import timedelta

from jwt_middleware.testing import old_token
from jwt_middleware.types import moment
from tests.support.administration import ADMIN, Stage, Visit
from tests.support.world import DAY, EPOCH


async def test_the_plan_and_the_requests_of_this_process_are_shown() -> None:
    planned = moment(EPOCH - 7_200)
    stage = Stage(effective_at={2: planned})
    visit = await stage.visit()
    claims = {"userId": "1", "role": "admin"}
    old = old_token(stage.authority, claims, age=timedelta(days=1), sid=visit.session_id, auth_time=EPOCH - DAY)
    assert (await Visit(stage).ask("/devices/", headers={"authorization": f"Bearer {old}"})).status_code == 200
    status, facts = await visit.json(f"{ADMIN}migration")
    assert status == 200
    assert (facts["reads"], facts["mints"], facts["newer_requests"]) == (2, 2, 0)
    assert facts["versions"] == [
        {
            "version": 1,
            "requests": 1,
            "last_minted": moment(int(EPOCH - DAY)).isoformat(),
            "last_expiry": moment(int(EPOCH - DAY) + 7 * DAY).isoformat(),
            "effective_at": planned.isoformat(),
            "superseded": (planned + timedelta(hours=1, seconds=30)).isoformat(),
            "sunset": (planned + timedelta(days=7, hours=1, seconds=30)).isoformat(),
            "verdict": "draining",
        },
        {
            **facts["versions"][1],
            "version": 2,
            "requests": 1,
            "last_minted": moment(int(EPOCH)).isoformat(),
            "sunset": None,
            "verdict": None,
        },
    ]
    page = await visit.page(f"{ADMIN}migration")
    assert [(row[0], row[-1]) for row in page.cells] == [("Version 1", "draining"), ("Version 2", "none")]
    assert "Only the dashboards" in page.text


async def test_one_process_never_says_that_a_version_is_gone() -> None:
    visit = await Stage(effective_at={2: moment(EPOCH - 30 * DAY)}).visit()
    facts = (await visit.json(f"{ADMIN}migration"))[1]
    assert facts["versions"][0]["verdict"] == "unproven"
    assert facts["versions"][0]["last_minted"] is None


async def test_a_process_that_mints_the_old_payload_after_the_plan_says_so() -> None:
    visit = await Stage(effective_at={2: moment(EPOCH - 2 * DAY)}, schema={"mints": 1}).visit()
    facts = (await visit.json(f"{ADMIN}migration"))[1]
    assert (facts["reads"], facts["mints"]) == (2, 1)
    assert (facts["versions"][0]["verdict"], facts["versions"][0]["requests"]) == ("still minted", 1)
