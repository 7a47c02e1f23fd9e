"""HTML: everything that is not markup made here is escaped."""

from __future__ import annotations

import json
from html import unescape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from jwt_middleware.admin.html import document, join, tag, time_of
from jwt_middleware.types import moment
from tests.support.administration import ADMIN, DEVICES, Stage

NASTY = st.one_of(
    st.text(min_size=1, max_size=100),
    st.text(alphabet="<>&\"'/= !-script:onerror\u202e\x00{}", min_size=1, max_size=100),
    st.text(alphabet=st.characters(categories=["Cs", "Cc", "Lu"]), min_size=1, max_size=20),
)
AT = moment(1_795_600_000.25)
ELEMENTS = {"html", "head", "meta", "title", "link", "body", "a", "nav", "main", "h1", "p", "bdi", "form", "input"}
ELEMENTS |= {"button", "time", "table", "caption", "thead", "tbody", "tr", "th", "td"}


class TestHtml:
    @given(NASTY)
    def test_text_and_attributes_are_escaped(self, text: str) -> None:
        markup = str(tag("p", text, title=text))
        inner = markup.removeprefix('<p title="').removesuffix("</p>")
        attribute, _, content = inner.partition('">')
        assert unescape(attribute) == unescape(content) == text
        assert not set("<>\"'") & set(attribute + content)

    def test_text_joined_with_markup_is_escaped(self) -> None:
        assert tag("p", tag("b", "x") + "<i>") == "<p><b>x</b>&lt;i&gt;</p>"
        assert isinstance(join(tag("b", "x"), "<i>"), Markup)
        assert join(tag("b", "x"), "<i>", 5) == "<b>x</b>\n&lt;i&gt;\n5"

    def test_elements_are_spelled_as_in_html(self) -> None:
        for markup, html in [
            (tag("label", "x", for_="a", aria_label="b"), '<label for="a" aria-label="b">x</label>'),
            (tag("input", name="n"), '<input name="n">'),
            (time_of(AT), f'<time datetime="{AT.isoformat()}">2026-11-25 09:46:40 UTC</time>'),
        ]:
            assert markup == html, markup

    def test_a_document_without_links_has_no_navigation(self) -> None:
        assert "<nav" not in document("Title", "body")

    @settings(deadline=None, max_examples=60)
    @given(NASTY)
    async def test_a_label_is_shown_and_does_nothing_else(self, label: str) -> None:
        """The parser sees the same elements as with a harmless label, and the label as text."""
        visit = await Stage().visit(label=label)
        for path in (DEVICES, f"{ADMIN}sessions?user_id=1"):
            page = await visit.page(path)
            assert page.status == 200
            assert {name for name, _ in page.elements} <= ELEMENTS
            shown = label.encode("utf-8", "replace").decode().strip() or "no label"
            assert page.cells[0][0] == f"{shown} (this one)"
            status, facts = await visit.json(path)
            assert (status, facts["sessions"][0]["label"]) == (200, json.loads(json.dumps(label)))

    @settings(deadline=None, max_examples=40)
    @given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=255))
    async def test_the_link_of_a_user_leads_to_its_sessions(self, user_id: str) -> None:
        stage = Stage()
        await stage.visit(user_id)
        visit = await stage.visit("0")
        page = await visit.page(f"{ADMIN}?limit=200")
        listed = await visit.page(page.link(user_id.strip()))
        assert listed.status == 200
        assert len(listed.cells) == (1 if user_id != "0" else 2)

    @pytest.mark.parametrize("label", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>'])
    async def test_a_label_that_is_markup_is_text(self, label: str) -> None:
        page = await (await Stage().visit(label=label)).page(DEVICES)
        assert label not in page.source
        assert label in page.text
