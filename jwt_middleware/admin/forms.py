"""Bodies of POST requests: JSON, or a form with a token that is bound to the session.

The middleware refuses cross-site requests with the cookie before they arrive here; the token is the second defence.
JSON needs none: for that content type a browser asks this site first (Fetch, CORS-safelisted request-headers).
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
MAX_BODY: Final = 8_192
_UNSUPPORTED: Final = "Send the header Content-Type: application/json, or the form of the page."
_PURPOSE: Final = b"jwt_middleware form\0"
"""No JWS signing input begins like this (RFC 7515 section 5.1), so no form token is the signature of a token."""


def form_token(authority: SessionAuthority[Any], visitor: Visitor[Any]) -> str:
    """The form token of a session: equal in every worker, and valid after a reissue of the session's token.

    An authority that cannot sign reissues nothing either, so there the session's token can be the key.
    """
    key = authority.signing
    signature = _mac(visitor) if key is None else key.sign(_signed(visitor))
    return urlsafe_b64encode(signature).decode("ascii")


async def fields_of(request: Request, authority: SessionAuthority[Any], visitor: Visitor[Any]) -> dict[str, str]:
    """Read the fields of a POST; a true boolean of JSON becomes ``"yes"``, a false one ``""``.

    Raises:
        HTTPException: 400, 403 (a form of another session), 413, 415.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return _parse_json(await _read_body(request))
    if kind == "application/x-www-form-urlencoded":
        fields = _parse_form(await _read_body(request))
        if FORM_TOKEN not in fields and not prefers_html(request):  # curl's default content type
            raise HTTPException(415, _UNSUPPORTED)
        if not _is_form_token(fields.pop(FORM_TOKEN, ""), authority, visitor):
            raise HTTPException(403, "This page is too old. Go back, load it again, and try once more.")
        return fields
    raise HTTPException(415, _UNSUPPORTED)


def _signed(visitor: Visitor[Any]) -> bytes:
    return _PURPOSE + visitor.session_id.encode("ascii")


def _mac(visitor: Visitor[Any]) -> bytes:
    return hmac.digest(visitor.raw.value, _PURPOSE, "sha256")


def _is_form_token(text: str, authority: SessionAuthority[Any], visitor: Visitor[Any]) -> bool:
    try:
        signature = urlsafe_b64decode(text.encode("ascii"))
    except ValueError:
        return False
    if authority.signing is None:
        return hmac.compare_digest(signature, _mac(visitor))
    return authority.signing.verify(_signed(visitor), signature)


def _parse_json(body: bytes) -> dict[str, str]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):  # the latter from deeply nested arrays
        fields = None
    if not isinstance(fields, dict) or not all(isinstance(value, (str, bool)) for value in fields.values()):
        raise HTTPException(400, "The body must be a JSON object of strings and booleans.")
    return {name: value if isinstance(value, str) else "yes" if value else "" for name, value in fields.items()}


def _parse_form(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=10, errors="strict")
    except ValueError:
        raise HTTPException(400, "The body must be a URL-encoded form with at most 10 fields.") from None
    return dict(pairs)


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:  # counted while it arrives: Content-Length may be absent or false
                raise HTTPException(413, f"The body must not be larger than {MAX_BODY} bytes.")
    except ClientDisconnect:
        raise HTTPException(400, "The body did not arrive.") from None
    return bytes(body)
