"""Helpers for the tests of an app: an https client, a login without a page, and tokens of an earlier release."""

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
except ModuleNotFoundError as error:
    raise ImportError("jwt_middleware.testing needs httpx; run pip install 'asgi-jwt-middleware[testing]'") from error


def client(app: ASGIApp, **settings: Any) -> httpx.AsyncClient:
    """An HTTP client that calls the app in process, over https, so that it returns Secure cookies.

    Args:
        app: The app. Its exceptions reach the test.
        settings: Other arguments of ``httpx.AsyncClient``.
    """
    return httpx.AsyncClient(
        **{"transport": httpx.ASGITransport(app=app), "base_url": "https://testserver", **settings}
    )


async def log_in(http: httpx.AsyncClient, authority: SessionAuthority[S], session: S) -> None:
    """Give the client a session cookie, as ``authority.start`` does; a later login or logout replaces it."""
    issued = await authority.issue(session)
    host = http.base_url.host
    domain = host if "." in host else f"{host}.local"  # http.cookiejar's name of a host without a dot
    http.cookies.set(authority.cookie.name, issued.token, domain=domain)


def old_token(
    authority: SessionAuthority[Any],
    claims: Mapping[str, Any],
    *,
    version: int | None = None,
    age: timedelta = timedelta(0),
    typ: str | None = None,
    **envelope: Any,
) -> str:
    """A token as an earlier release minted it: exactly these claims, signed with the authority's key.

    Args:
        authority: The authority whose key signs.
        claims: The payload of that release, by wire name.
        version: The payload version in the token; None writes no version claim.
        age: The time since it was minted.
        typ: Of its header; ``"JWT"`` for a token of the app's former code.
        envelope: Values for ``iat``, ``exp``, ``sid`` and ``auth_time``; None omits the claim. Other claims that the
            session class does not have are accepted here too.

    Raises:
        ConfigError: The session class and its upgrade steps do not use a claim of ``claims``: a typo.
    """
    refuse_numbers(age=age)
    authority.schema.refuse_unknown(claims, version or 1)
    now = authority.clock.now() - age.total_seconds()
    minted = {
        "iat": int(now),
        "exp": int(now) + int(authority.window.total_seconds()),
        **({} if authority.parts.settings.store is None else {"sid": str(uuid4())}),
        "auth_time": int(now),
        **({} if version is None else {authority.schema.version_claim: version}),
        **envelope,
    }
    return authority.parts.minter.sign(
        {**claims, **{name: value for name, value in minted.items() if value is not None}}, typ=typ
    )
