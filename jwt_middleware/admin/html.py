"""HTML by functions: whatever is not markup made here is escaped, so that forgetting to escape is not possible."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from typing import Final

_VOID: Final = frozenset({"input", "link", "meta"})


class Html(str):
    """Markup. Joined with other text it is a plain string again, and escaped."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: str) -> Html:
    """An element; an attribute that is a word of Python has an underscore behind it: ``for_``."""
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{given}>" if name in _VOID else f"<{name}{given}>{_inner(children)}</{name}>")


def together(*children: object) -> Html:
    """One after the other."""
    return Html(_inner(children))


def _inner(children: Iterable[object]) -> str:
    return "\n".join(child if isinstance(child, Html) else escape(str(child)) for child in children)


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
    """The first cell of a row is its header."""
    lines = [tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in cells)) for first, *cells in rows]
    return tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *(tag("th", head, scope="col") for head in heads))),
        tag("tbody", *lines),
    )


def clock_time(at: datetime | None) -> object:
    """To the second; an empty text where there is none."""
    return "" if at is None else tag("time", f"{at:%Y-%m-%d %H:%M:%S} UTC", datetime=at.isoformat())


def button(action: str, text: str, about: str, fields: dict[str, str]) -> Html:
    """A form of one button. ``about`` tells apart, for who cannot see the row, what many buttons of one text do."""
    hidden = [tag("input", type="hidden", name=name, value=value) for name, value in fields.items()]
    said = {"aria_label": f"{text}: {about}"} if about else {}
    return tag("form", *hidden, tag("button", text, type="submit", **said), method="post", action=action)


def document(title: str, *body: object, links: Sequence[tuple[str, str]] = ()) -> Html:
    """A whole page; ``links`` are its navigation."""
    navigation = tag("nav", *(tag("a", text, href=href) for href, text in links), aria_label="Sessions")
    page = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("title", title),
            tag("link", rel="stylesheet", href="style.css"),
        ),
        tag(
            "body",
            tag("a", "Skip to content", href="#content", class_="skip"),
            *([navigation] if links else []),
            tag("main", tag("h1", title), *body, id="content"),
        ),
        lang="en",
    )
    return Html(f"<!doctype html>\n{page}")


STYLE: Final = """:root { color-scheme: light dark; font-family: system-ui, sans-serif; line-height: 1.5; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; }
nav { display: flex; flex-wrap: wrap; gap: 1rem; }
main { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
caption { font-weight: 600; padding: .5rem 0; text-align: start; }
th, td { border-bottom: 1px solid; padding: .25rem .75rem .25rem 0; text-align: start; vertical-align: top; }
td, th[scope="row"] { overflow-wrap: anywhere; }
label { display: block; }
input, button { font: inherit; padding: .25rem .75rem; }
.skip { left: -100vw; position: absolute; }
.skip:focus { position: static; }
"""
