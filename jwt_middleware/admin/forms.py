"""What a POST carries: JSON, or a form with a token of the session it was made for.

The middleware turns cross-site requests with the cookie away before they come here; the token is the second lock.
JSON needs none: another site cannot send that content type without asking first (Fetch, CORS-safelisted headers).
"""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from ..authority import SessionAuthority
from .access import Visitor
from .responses import prefers_html

FORM_TOKEN: Final = "form_token"
LARGEST_BODY: Final = 8_192
_WANTED: Final = "Send the header Content-Type: application/json, or the form of the page."
_PURPOSE: Final = b"jwt_middleware form\0"
"""What no JWS signing input begins with (RFC 7515 section 5.1): one signature is never taken for the other."""


def form_token(authority: SessionAuthority[Any], visitor: Visitor[Any]) -> str:
    """Bound to the session, the same in every worker, and good after a reissue.

    Where this authority cannot sign, it reissues nothing either: then the session's own token is the key.
    """
    signing = authority.signing
    signature = _mac(visitor) if signing is None else signing.sign(_PURPOSE + visitor.session_id.encode("ascii"))
    return urlsafe_b64encode(signature).decode("ascii")


async def fields_of(request: Request, authority: SessionAuthority[Any], visitor: Visitor[Any]) -> dict[str, str]:
    """The fields of a POST.

    Raises:
        HTTPException: 400, 403 (a form of another session), 413, 415.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return _of_json(await _body(request))
    if kind == "application/x-www-form-urlencoded":
        fields = _of_form(await _body(request))
        if FORM_TOKEN not in fields and not prefers_html(request):  # what curl calls JSON where nobody says so
            raise HTTPException(415, _WANTED)
        if not _is_token(fields.pop(FORM_TOKEN, ""), authority, visitor):
            raise HTTPException(403, "This page is too old. Go back, load it again, and try once more.")
        return fields
    raise HTTPException(415, _WANTED)


def _mac(visitor: Visitor[Any]) -> bytes:
    return hmac.digest(visitor.raw.value, _PURPOSE, "sha256")


def _is_token(given: str, authority: SessionAuthority[Any], visitor: Visitor[Any]) -> bool:
    try:
        signature = urlsafe_b64decode(given.encode("ascii"))
    except ValueError:
        return False
    if authority.signing is None:
        return hmac.compare_digest(signature, _mac(visitor))
    return authority.signing.verify(_PURPOSE + visitor.session_id.encode("ascii"), signature)


def _of_json(body: bytes) -> dict[str, str]:
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict) or not all(isinstance(value, (str, bool)) for value in given.values()):
        raise HTTPException(400, "The body must be a JSON object of strings and booleans.")
    return {name: value if isinstance(value, str) else "yes" if value else "" for name, value in given.items()}


def _of_form(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=10, errors="strict")
    except ValueError:
        raise HTTPException(400, "The body must be a form.") from None
    return dict(pairs)


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST_BODY:
                raise HTTPException(413, "The body is too large.")
    except ClientDisconnect:
        raise HTTPException(400, "The body did not arrive.") from None
    return bytes(body)
