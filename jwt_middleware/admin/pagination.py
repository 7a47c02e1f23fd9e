"""Keyset pagination: the limit and the cursor of a URL, the link to the next page, and a page of sessions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request

from ..types import SessionCursor, SessionRecord, is_identifier
from .html import button, table, tag, time_of

MAX_LIMIT: Final = 200
DEFAULT_LIMIT: Final = 50
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CURSOR: Final = re.compile(r"([0-9]{1,17})\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
"""Microseconds since the epoch, at most until the year 5138, and the session's id."""
_PARAMETERS: Final = ("user_id", "limit", "after")
Row = TypeVar("Row")


def limit_of(request: Request) -> int:
    """The number of rows the URL asks for.

    Raises:
        HTTPException: 400.
    """
    text = request.query_params.get("limit", str(DEFAULT_LIMIT))
    if not re.fullmatch("[0-9]{1,3}", text) or not 1 <= int(text) <= MAX_LIMIT:
        raise HTTPException(400, f"limit must be a number from 1 to {MAX_LIMIT}.")
    return int(text)


def user_of(text: str) -> str:
    """The text, if a user id may look like it.

    Raises:
        HTTPException: 400.
    """
    if not is_identifier(text):
        raise HTTPException(400, "user_id must have 1 to 255 characters and no control characters.")
    return text


def cursor_of(request: Request) -> SessionCursor | None:
    """Where the page begins; None for the first page.

    Raises:
        HTTPException: 400.
    """
    text = request.query_params.get("after")
    if text is None:
        return None
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise HTTPException(400, 'after must be the "next" of an earlier page.')
    # Integers, not a float of seconds: a rounded cursor would skip a session or repeat it.
    return SessionCursor(last_activity_at=_EPOCH + timedelta(microseconds=int(match[1])), id=match[2])


def cursor_after(record: SessionRecord) -> str:
    """The text that :func:`cursor_of` reads: the next page begins after this record."""
    return f"{(record.last_activity_at - _EPOCH) // timedelta(microseconds=1)}.{record.id}"


def split(rows: Sequence[Row], limit: int) -> tuple[Sequence[Row], Row | None]:
    """The rows to show, and the last of them if there is a next page; the query asked for ``limit + 1``."""
    return (rows[:limit], rows[limit - 1]) if len(rows) > limit else (rows, None)


def pager(path: str, request: Request, next_after: str | None) -> Markup:
    """The links to the first and to the next page, if those are other pages."""
    query = {name: request.query_params[name] for name in _PARAMETERS if name in request.query_params}
    links = []
    if "after" in query:
        first = urlencode({name: value for name, value in query.items() if name != "after"})
        links.append(tag("a", "First page", href=f"{path}?{first}"))
    if next_after is not None:
        links.append(tag("a", "Next page", href=f"{path}?{urlencode({**query, 'after': next_after})}", rel="next"))
    return tag("nav", *links, aria_label="Pages") if links else Markup()


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPage:
    """Some sessions of one user, as JSON and as a table; the digests of their tokens appear in neither."""

    records: Sequence[SessionRecord]
    next_after: str | None
    current: str
    """The id of the session that asks."""

    @property
    def facts(self) -> list[dict[str, Any]]:
        return [
            {
                "session_id": record.id,
                "label": _label(record),
                "created_at": record.created_at.isoformat(),
                "last_activity_at": record.last_activity_at.isoformat(),
                "expires_at": record.expires_at.isoformat(),
                "current": record.id == self.current,
            }
            for record in self.records
        ]

    def table(self, caption: str, fields: Mapping[str, str]) -> Markup:
        """One row for each session, with a button that revokes it; ``fields`` are those of each form."""
        heads = ["Device", "Logged in", "Last activity", "Expires", "Revoke"]
        return table(caption, heads, [self._row(record, fields) for record in self.records])

    def _row(self, record: SessionRecord, fields: Mapping[str, str]) -> list[Markup]:
        name = (_label(record) or "").strip() or "no label"
        suffix = " (this one)" if record.id == self.current else ""
        times = [time_of(at) for at in (record.created_at, record.last_activity_at, record.expires_at)]
        about = f"{name}, since {record.created_at:%Y-%m-%d %H:%M:%S} UTC"
        revoke = button("revoke-session", "Revoke", {**fields, "session_id": record.id}, about=about)
        return [tag("bdi", f"{name}{suffix}"), *times, revoke]


def _label(record: SessionRecord) -> str | None:
    """At most 100 characters: SQLite does not enforce the length of the column."""
    return None if record.label is None else record.label[:100]
