"""Responses in two media types: JSON, or a page if the client prefers HTML (RFC 9110 section 12.5.1)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Send

from ..errors import RETRY_AFTER, Refusal
from .html import document, tag

_HEADERS: Final = (  # the pages need one stylesheet and their own forms, so the policy allows nothing else
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),  # "no-referrer" makes browsers send "Origin: null" with a form
    (b"cache-control", b"no-store"),
    (b"vary", b"Accept"),
)


def with_security_headers(send: Send) -> Send:
    """A ``send`` that adds the security headers to every response, also to those of Starlette itself."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
        await send(message)

    return send_with_headers


def respond(request: Request, facts: Mapping[str, Any], page: Callable[[], Markup]) -> Response:
    """The facts as JSON, or the page."""
    if prefers_html(request):
        return html(page(), 200)
    return Response(json.dumps(facts), media_type="application/json")


def prefers_html(request: Request) -> bool:
    """True if ``Accept`` ranks HTML above JSON; a client without a preference gets JSON."""
    accept = ",".join(request.headers.getlist("accept"))
    return _quality(accept, "text", "html") > _quality(accept, "application", "json")


def problem(
    request: Request,
    status: int,
    detail: str = "",
    *,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The problem details of an error (RFC 9457), or a page."""
    title = HTTPStatus(status).phrase
    if prefers_html(request):
        return html(document(title, tag("p", detail or title, role="alert")), status, headers)
    body: dict[str, str | int] = {"type": "about:blank", "title": title, "status": status}
    if detail and detail != title:
        body["detail"] = detail
    return Response(json.dumps(body), status, headers, media_type="application/problem+json")


async def error_response(request: Request, error: Exception) -> Response:
    """The response to an ``HTTPException``, a ``Refusal`` or an ``Unavailable``."""
    if isinstance(error, HTTPException):
        return problem(request, error.status_code, error.detail, headers=error.headers)
    status = error.reason.status if isinstance(error, Refusal) else 503
    headers = {"www-authenticate": "Bearer"} if status == 401 else {"retry-after": str(RETRY_AFTER)}
    return problem(request, status, headers=headers)


def html(page: Markup, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """The page in UTF-8, with ``?`` for lone surrogates: a label may hold one, and UTF-8 cannot encode it."""
    return Response(page.encode("utf-8", "replace"), status, headers, media_type="text/html")


def _quality(accept: str, kind: str, subtype: str) -> float:
    """The weight of a media type: that of the most specific range that matches it, else 0."""
    specificity = {f"{kind}/{subtype}": 2, f"{kind}/*": 1, "*/*": 0}
    best = (-1, 0.0)
    for media_range in accept.lower().split(","):
        media, *parameters = (part.strip() for part in media_range.split(";"))
        if media in specificity:
            best = max(best, (specificity[media], _weight(parameters)))
    return best[1]


def _weight(parameters: Sequence[str]) -> float:
    try:
        return next((float(text[2:]) for text in parameters if text.startswith("q=")), 1.0)
    except ValueError:
        return 0.0
