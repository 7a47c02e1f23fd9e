"""ASGI middleware that lets a team change the payload of its JWT sessions and logs no user out.

The path of one request::

    raw header bytes ─ transport ─▶ token ─ tokens ─▶ verified claims ─ checker ─▶ session is active
       ─ schema.upgrade ─▶ today's claims + missing ─ fallback ─▶ complete claims ─ schema.assemble ─▶ session
       ─▶ request.state.session, request.state.token ─▶ the app ─▶ response

``SessionSchema`` describes the payload and its earlier versions, ``SessionAuthority`` mints, reads and revokes
sessions, ``JWTSessionMiddleware`` puts them on requests. ``docs/architecture.md`` is the way through the rooms.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .asgi.middleware import JWTSessionMiddleware
from .authority import SessionAuthority
from .errors import ConfigError, JWTMiddlewareError, MintError, Reason, Refusal, SessionNotEnded, Unavailable
from .lookup.lookup import LookupLimits
from .payload.fields import Claim
from .payload.migration import Coverage, Migration, Verdict
from .payload.schema import SessionSchema
from .payload.source import source
from .protocols import ClaimsSource, Clock, KeySource, Observer, SessionStore, SilentObserver
from .sessions.checker import Revocation
from .sessions.memory import MemorySessionStore
from .telemetry import Telemetry
from .tokens.cookies import SessionCookie
from .tokens.envelope import Envelope
from .tokens.keys import Key, KeyRing
from .types import (
    FilledClaim,
    FillOutcome,
    Issued,
    LookupFacts,
    Outcome,
    Purged,
    Retention,
    SessionCursor,
    SessionKey,
    SessionRecord,
    SessionStatus,
    TokenInfo,
    UserSessions,
    VerifiedToken,
)

if TYPE_CHECKING:
    from .sqlalchemy import SQLAlchemyClaims, SQLAlchemySessionStore
    from .tokens.jwks import RemoteKeys

__all__ = [
    "SessionAuthority",
    "JWTSessionMiddleware",
    "SessionSchema",
    "Claim",
    "Key",
    "KeyRing",
    "RemoteKeys",
    "SessionCookie",
    "Revocation",
    "Retention",
    "Purged",
    "LookupLimits",
    "Telemetry",
    "source",
    "SQLAlchemyClaims",
    "MemorySessionStore",
    "SQLAlchemySessionStore",
    "Outcome",
    "TokenInfo",
    "VerifiedToken",
    "Issued",
    "Envelope",
    "FilledClaim",
    "FillOutcome",
    "SessionRecord",
    "SessionKey",
    "SessionStatus",
    "SessionCursor",
    "UserSessions",
    "LookupFacts",
    "Migration",
    "Coverage",
    "Verdict",
    "ClaimsSource",
    "SessionStore",
    "KeySource",
    "Observer",
    "SilentObserver",
    "Clock",
    "JWTMiddlewareError",
    "ConfigError",
    "MintError",
    "Unavailable",
    "SessionNotEnded",
    "Refusal",
    "Reason",
]


_EXTRAS = {
    "RemoteKeys": (".tokens.jwks", "jwks"),
    "SQLAlchemyClaims": (".sqlalchemy", "sqlalchemy"),
    "SQLAlchemySessionStore": (".sqlalchemy", "sqlalchemy"),
}
"""Public names that need an extra: the module and the extra of each."""


def __getattr__(name: str) -> Any:
    """Import what needs SQLAlchemy or httpx on first use, so that the package works without them."""
    if name not in _EXTRAS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, extra = _EXTRAS[name]
    try:
        return getattr(import_module(module, __name__), name)
    except ModuleNotFoundError as missing:
        raise ImportError(f"{name} needs {missing.name}: pip install 'asgi-jwt-middleware[{extra}]'") from missing
