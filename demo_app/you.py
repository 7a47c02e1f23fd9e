"""The token in a person's own cookie, taken apart: which claims it has, which were filled, and from where.

The cookie is HttpOnly, so the page's script cannot read it; the server does, and never shows the token itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from starlette.requests import Request

from jwt_middleware import SessionAuthority, SessionRecord, TokenInfo

from .session import Session

ADMIN: Final = "admin"
_ENVELOPE: Final = ("version", "iat", "exp", "auth_time", "sid")
_TIMES: Final = frozenset({"iat", "exp", "auth_time"})
_DEVICES: Final = 8


async def you(authority: SessionAuthority[Session], request: Request) -> dict[str, Any] | None:
    """Who is logged in and by what; None where nobody is."""
    token: TokenInfo | None = request.state.token
    if token is None:
        return None
    session = authority.session(request)
    carried = authority.transport.read(request.scope["headers"]).raw
    assert carried is not None  # noqa: S101 - the session came from it
    verified = await authority.verify(carried.value.decode("ascii"))
    devices = await authority.sessions_of(session.user_id, limit=_DEVICES)
    return {
        "email": session.email,
        "role": session.role,
        "mayRelease": "release" in session.permissions,
        "mayAdministrate": session.role == ADMIN,
        "version": token.version,
        "today": authority.schema.version,
        "expiresAt": token.expires_at.timestamp(),
        "claims": list(_claims(authority, session, token, dict(verified.claims))),
        "devices": [_device(record, current=token.session_id) for record in devices],
    }


def _claims(
    authority: SessionAuthority[Session], session: Session, token: TokenInfo, carried: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Today's claims one by one, then what every token carries besides them."""
    filled = {claim.claim: claim.source for claim in token.filled}
    for spec in authority.schema.claims:
        source = filled.get(spec.name, "token" if spec.name in carried else "default")
        value = carried[spec.name] if source == "token" else getattr(session, spec.attribute)
        yield {"name": spec.name, "value": value, "source": source, "since": spec.since}
    for name in _ENVELOPE:
        if name in carried:
            value = f"{carried[name][:8]}…" if name == "sid" else carried[name]
            yield {"name": name, "value": value, "source": "token", "since": 1, "time": name in _TIMES}


def _device(record: SessionRecord, *, current: str | None) -> dict[str, Any]:
    return {
        "id": record.id,
        "label": record.label or "no label",
        "since": record.created_at.timestamp(),
        "current": record.id == current,
    }
