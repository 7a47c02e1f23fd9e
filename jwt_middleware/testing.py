"""What apps use in their own tests: a client that speaks https, and tokens as an older release minted them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

from starlette.types import ASGIApp

from .authority import SessionAuthority
from .errors import refuse_numbers
from .types import S

try:
    import httpx
except ModuleNotFoundError as missing:
    raise ImportError("jwt_middleware.testing needs httpx: pip install 'asgi-jwt-middleware[testing]'") from missing


def client(app: ASGIApp, **settings: Any) -> httpx.AsyncClient:
    """A client for an ASGI app in process, over https, so that a Secure cookie comes back.

    Args:
        app: Errors it raises reach the test.
        settings: Of ``httpx.AsyncClient``.
    """
    return httpx.AsyncClient(
        **{"transport": httpx.ASGITransport(app=app), "base_url": "https://testserver", **settings}
    )


async def log_in(http: httpx.AsyncClient, authority: SessionAuthority[S], session: S) -> None:
    """Give the client a cookie for the session, as ``authority.start`` would: a later log-in or log-out replaces it."""
    issued = await authority.issue(session)
    host = http.base_url.host
    domain = host if "." in host else f"{host}.local"  # as http.cookiejar names a host without a dot
    http.cookies.set(authority.cookie.name, issued.token, domain=domain)


def old_token(
    authority: SessionAuthority[Any],
    claims: Mapping[str, Any],
    *,
    version: int | None = None,
    age: timedelta = timedelta(0),
    **envelope: Any,
) -> str:
    """A token with just these claims, signed with the authority's key: what an older release has in the wild.

    Args:
        authority: Whose key signs.
        claims: The payload of that release, by wire name.
        version: The payload version it wrote; None: none, as before versions were invented.
        age: How long ago it was minted.
        envelope: Overrides of ``iat``, ``exp``, ``sid``, ``auth_time``; None leaves one out. Also claims that the
            session class does not have, where that is what the test is about.

    Raises:
        ConfigError: A claim that neither the session class nor an upgrade step can know: a slip of the pen.
    """
    refuse_numbers(age=age)
    authority.schema.refuse_unknown(claims, version or 1)
    now = authority.clock.now() - age.total_seconds()
    minted = {
        "iat": int(now),
        "exp": int(now) + int(authority.window.total_seconds()),
        "sid": str(uuid4()),
        "auth_time": int(now),
        **({} if version is None else {authority.schema.version_claim: version}),
        **envelope,
    }
    return authority.parts.minter.sign(
        {**claims, **{name: value for name, value in minted.items() if value is not None}}
    )
