"""Pages of long lists: what a URL asks for, and what leads to the next page. Records as facts and as rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request

from ..errors import Refusal
from ..payload.fields import subject_key
from ..types import SessionCursor, SessionRecord
from .html import Html, button, clock_time, table, tag

MOST_ROWS: Final = 200
USUAL_ROWS: Final = 50
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CURSOR: Final = re.compile(r"([0-9]{1,17})\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True, kw_only=True)
class Forms:
    """What the buttons of a page post: where to, and the fields that all of them have."""

    action: str
    fields: Mapping[str, str]


def asked_of(request: Request, *names: str) -> dict[str, str]:
    """What the URL says, of these."""
    return {name: request.query_params[name] for name in names if name in request.query_params}


def limit_of(request: Request) -> int:
    text = request.query_params.get("limit", str(USUAL_ROWS))
    if not re.fullmatch("[0-9]{1,3}", text) or not 1 <= int(text) <= MOST_ROWS:
        raise HTTPException(400, f"limit is a number from 1 to {MOST_ROWS}.")
    return int(text)


def user_of(text: str) -> str:
    """A user id that some subject may have.

    Raises:
        HTTPException: 400.
    """
    try:
        return subject_key(text)
    except Refusal:
        raise HTTPException(400, "user_id has 1 to 255 characters.") from None


def cursor_of(request: Request) -> SessionCursor | None:
    text = request.query_params.get("after")
    if text is None:
        return None
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise HTTPException(400, "after is what the page before said.")
    return SessionCursor(last_activity_at=_EPOCH + timedelta(microseconds=int(found[1])), id=found[2])


def cursor_after(record: SessionRecord) -> str:
    return f"{(record.last_activity_at - _EPOCH) // timedelta(microseconds=1)}.{record.id}"


def cut(rows: Sequence[Row], limit: int) -> tuple[Sequence[Row], Row | None]:
    """The rows of a page, of which one more was asked for; and the last of them where there are more."""
    return (rows[:limit], rows[limit - 1]) if len(rows) > limit else (rows, None)


def pager(path: str, asked: Mapping[str, str], after: str | None) -> Html:
    """The links to the next and the first page, where there are any."""
    links = []
    if "after" in asked:
        first = urlencode({name: value for name, value in asked.items() if name != "after"})
        links.append(tag("a", "First page", href=f"{path}?{first}"))
    if after is not None:
        links.append(tag("a", "Next page", href=f"{path}?{urlencode({**asked, 'after': after})}", rel="next"))
    return tag("nav", *links, aria_label="Pages") if links else Html("")


def facts_of(record: SessionRecord, *, current: str) -> dict[str, Any]:
    """A session as JSON; the digest of its token stays in the table."""
    return {
        "session_id": record.id,
        "label": _label(record),
        "created_at": record.created_at.isoformat(),
        "last_activity_at": record.last_activity_at.isoformat(),
        "expires_at": record.expires_at.isoformat(),
        "current": record.id == current,
    }


def sessions_table(caption: str, records: Sequence[SessionRecord], forms: Forms, *, current: str) -> Html:
    """One row a session, each with its button."""
    rows: list[Sequence[object]] = []
    for record in records:
        name = (_label(record) or "").strip() or "no label"
        here = " (this one)" if record.id == current else ""
        began = f"{name}, since {record.created_at:%Y-%m-%d %H:%M:%S} UTC"
        times = [clock_time(at) for at in (record.created_at, record.last_activity_at, record.expires_at)]
        revoke = button(forms.action, "Revoke", began, {**forms.fields, "session_id": record.id})
        rows.append([tag("bdi", f"{name}{here}"), *times, revoke])
    return table(caption, ["Device", "Logged in", "Last activity", "Expires", "Revoke"], rows)


def _label(record: SessionRecord) -> str | None:
    """As the contract bounds it, also where SQLite or plain SQL did not."""
    return None if record.label is None else record.label[:100]
