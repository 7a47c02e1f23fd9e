"""Pagination: lists are read page by page, as JSON and as HTML; other cursors and limits are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.administration import ADMIN, DEVICES, Stage

CURSOR = "6f1c7b52-0000-4000-8000-000000000001"


class TestPagination:
    @pytest.mark.parametrize("path", [ADMIN, f"{ADMIN}sessions?user_id=7", DEVICES])
    async def test_lists_are_read_page_by_page_in_both_media_types(self, path: str) -> None:
        stage = Stage()
        visit = await stage.visit("7")
        for number in range(4):
            await stage.visit("7", label=f"device {number}")
            await stage.visit(f"1{number}")
        whole = (await visit.json(path))[1]
        rows = whole.get("sessions") or whole["users"]
        assert len(rows) == 5
        start = path + ("&" if "?" in path else "?") + "limit=2"
        facts = (await visit.json(start))[1]
        page = await visit.page(start)
        assert "First page" not in page.text
        shown = [row[0] for row in page.cells]
        listed = facts.get("sessions") or facts["users"]
        while facts["next"] is not None:
            status, facts = await visit.json(f"{start}&after={facts['next']}")
            assert status == 200
            listed += facts.get("sessions") or facts["users"]
            page = await visit.page(page.link("Next page"))
            shown += [row[0] for row in page.cells]
            first = await visit.page(page.link("First page"))
            assert [row[0] for row in first.cells] == shown[:2]
        assert listed == rows
        assert len(shown) == 5
        assert "Next page" not in page.text

    @pytest.mark.parametrize("path", [f"{ADMIN}?limit=1", f"{ADMIN}sessions?user_id=7&limit=1", f"{DEVICES}?limit=1"])
    async def test_a_last_page_that_is_full_has_no_next_page(self, path: str) -> None:
        assert (await (await Stage().visit("7")).json(path))[1]["next"] is None

    async def test_an_invalid_query_is_refused(self, subtests: pytest.Subtests) -> None:
        for query, detail in [
            ("user_id=7&limit=0", "limit must be a number from 1 to 200."),
            ("user_id=7&limit=201", "limit must be a number from 1 to 200."),
            ("user_id=7&limit=-1", "limit must be a number from 1 to 200."),
            ("user_id=7&limit=1e2", "limit must be a number from 1 to 200."),
            ("user_id=7&limit=²", "limit must be a number from 1 to 200."),
            ("user_id=7&after=", 'after must be the "next" of an earlier page.'),
            ("user_id=7&after=1", 'after must be the "next" of an earlier page.'),
            (f"user_id=7&after=1.{CURSOR.upper()}", 'after must be the "next" of an earlier page.'),
            (f"user_id=7&after={'9' * 18}.{CURSOR}", 'after must be the "next" of an earlier page.'),
            ("user_id=", "user_id must have 1 to 255 characters and no control characters."),
            ("user_id=%00", "user_id must have 1 to 255 characters and no control characters."),
            (f"user_id={'7' * 256}", "user_id must have 1 to 255 characters and no control characters."),
            ("", "user_id must have 1 to 255 characters and no control characters."),
        ]:
            with subtests.test(query=query):
                status, problem = await (await Stage().visit()).json(f"{ADMIN}sessions?{query}")
                assert (status, problem["detail"]) == (400, detail)

    async def test_a_list_of_users_cannot_begin_after_an_invalid_id(self) -> None:
        assert (await (await Stage().visit()).json(f"{ADMIN}?after="))[0] == 400

    async def test_a_cursor_in_the_far_future_is_valid(self) -> None:
        visit = await Stage().visit("7")
        status, facts = await visit.json(f"{ADMIN}sessions?user_id=7&after={'9' * 17}.{CURSOR}")
        assert (status, len(facts["sessions"])) == (200, 1)

    async def test_a_label_longer_than_its_column_is_cut(self) -> None:
        stage = Stage()
        visit = await stage.visit(label="x")
        rows = stage.store._rows  # as plain SQL on SQLite could write it
        rows[visit.session_id] = replace(rows[visit.session_id], label="y" * 5_000)
        assert (await visit.json(DEVICES))[1]["sessions"][0]["label"] == "y" * 100
        assert "y" * 101 not in (await visit.page(DEVICES)).source
