"""HTML from Python functions, on MarkupSafe: everything that is not :class:`markupsafe.Markup` is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from markupsafe import Markup, escape

_VOID: Final = frozenset({"input", "link", "meta"})  # elements without an end tag, as far as they are used here


def tag(name: str, /, *children: object, **attributes: str) -> Markup:
    """An element. Attribute names are Python's, with underscores: ``for_``, ``aria_label``."""
    start = Markup("<") + name
    for key, value in attributes.items():
        start += Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), value)
    start += Markup(">")
    return start if name in _VOID else start + join(*children) + Markup("</{}>").format(name)


def join(*children: object) -> Markup:
    """The children one below the other."""
    return Markup("\n").join(map(escape, children))


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> Markup:
    """A table whose rows each start with their header cell."""
    lines = [tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in cells)) for first, *cells in rows]
    return tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *(tag("th", head, scope="col") for head in heads))),
        tag("tbody", *lines),
    )


def time_of(at: datetime) -> Markup:
    """A ``<time>`` element that shows the seconds."""
    return tag("time", f"{at:%Y-%m-%d %H:%M:%S} UTC", datetime=at.isoformat())


def button(action: str, text: str, fields: Mapping[str, str], *, about: str = "") -> Markup:
    """A form that posts the fields to ``action``; ``about`` labels the button for screen readers."""
    hidden = [tag("input", type="hidden", name=name, value=value) for name, value in fields.items()]
    label = {"aria_label": f"{text}: {about}"} if about else {}
    return tag("form", *hidden, tag("button", text, type="submit", **label), method="post", action=action)


def document(title: str, *body: object, links: Sequence[tuple[str, str]] = ()) -> Markup:
    """A whole page; ``links`` (address, text) are its navigation."""
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
    return Markup("<!doctype html>\n") + page


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
