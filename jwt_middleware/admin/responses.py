"""One answer in two shapes: JSON, or a page where HTML is preferred (RFC 9110 section 12.5.1). Never cached."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Send

from ..errors import RETRY_AFTER, Refusal
from .html import Html, document, tag

_HEADERS: Final = (
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),  # "no-referrer" makes browsers send "Origin: null" with a form
    (b"cache-control", b"no-store"),
    (b"vary", b"Accept"),
)
_ASK_AGAIN: Final = {"retry-after": str(RETRY_AFTER)}


def secured(send: Send) -> Send:
    """A ``send`` that puts the headers on whatever is answered."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
        await send(message)

    return sending


def answer(request: Request, facts: Mapping[str, Any], page: Callable[[], Html]) -> Response:
    """The facts, or the page."""
    if prefers_html(request):
        return html(page(), 200)
    return Response(json.dumps(facts), media_type="application/json")


def prefers_html(request: Request) -> bool:
    accept = ",".join(request.headers.getlist("accept"))
    return _quality(accept, "text", "html") > _quality(accept, "application", "json")


def problem(
    request: Request,
    status: int,
    detail: str = "",
    *,
    headers: Mapping[str, str] | None = None,
    links: Sequence[tuple[str, str]] = (),
) -> Response:
    """What went wrong (RFC 9457)."""
    title = HTTPStatus(status).phrase
    if prefers_html(request):
        return html(document(title, tag("p", detail or title, role="alert"), links=links), status, headers)
    body: dict[str, str | int] = {"type": "about:blank", "title": title, "status": status}
    if detail and detail != title:
        body["detail"] = detail
    return Response(json.dumps(body), status, headers, media_type="application/problem+json")


async def turned_away(request: Request, error: Exception) -> Response:
    """The answer to an ``HTTPException``, to a ``Refusal``, and to an ``Unavailable``."""
    if isinstance(error, HTTPException):
        return problem(request, error.status_code, error.detail, headers=error.headers)
    status = error.reason.status if isinstance(error, Refusal) else 503
    return problem(request, status, headers={"www-authenticate": "Bearer"} if status == 401 else _ASK_AGAIN)


def html(page: Html, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """A label may hold half of a surrogate pair, which UTF-8 cannot carry."""
    return Response(page.encode("utf-8", "replace"), status, headers, media_type="text/html")


def _quality(accept: str, kind: str, subtype: str) -> float:
    """How much a media type is wanted: the most specific range that matches it decides."""
    found: dict[int, float] = {}
    places = {(kind, subtype): 2, (kind, "*"): 1, ("*", "*"): 0}
    for each in accept.lower().split(","):
        media, *parameters = (part.strip() for part in each.split(";"))
        first, _, second = media.partition("/")
        if (place := places.get((first, second))) is not None:
            found[place] = max(found.get(place, 0.0), _weight(parameters))
    return found[max(found)] if found else 0.0


def _weight(parameters: Sequence[str]) -> float:
    try:
        return next((float(each[2:]) for each in parameters if each.startswith("q=")), 1.0)
    except ValueError:
        return 0.0
