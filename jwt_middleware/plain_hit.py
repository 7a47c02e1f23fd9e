"""The plain hit, whole: a safe request whose cookie holds a token that was accepted before.

Nearly every request is one, so this is what the package costs. It reads from top to bottom and calls three things:
``policy`` for public paths, ``transport`` for the cookie, ``pipeline`` for what is known of the token. Whatever is
unusual about a request is left to ``middleware``, which finds the same session at more expense, or refuses it.
"""

from __future__ import annotations

from typing import Any, Final

from starlette.authentication import AuthCredentials, BaseUser
from starlette.types import Scope

from .authority import SessionAuthority
from .decisions import DECIDED
from .policy import SAFE, PublicPaths


class SessionUser(BaseUser):
    """``request.user`` for Starlette's own tools; the session itself is on ``request.state``."""

    __slots__ = ("_attribute", "_session")

    def __init__(self, session: object, attribute: str) -> None:
        self._session = session
        self._attribute = attribute

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def identity(self) -> str:
        return str(getattr(self._session, self._attribute))

    @property
    def display_name(self) -> str:
        return self.identity


class Credentials(AuthCredentials):
    """Shared by all requests, hence a tuple that nobody can append to."""

    def __init__(self, *scopes: str) -> None:
        self.scopes = scopes  # type: ignore[assignment]  # Starlette only asks `in`


AUTHENTICATED: Final = Credentials("authenticated")


class PlainHits:
    """Finds the session of a request that is as plain as nearly all are."""

    def __init__(self, authority: SessionAuthority[Any], public: PublicPaths) -> None:
        self._authority: Final = authority
        self._is_public: Final = public.match
        self._token_of: Final = authority.transport.plain
        self._known: Final = authority.hit
        self._attribute: Final = authority.schema.subject_attribute

    def take(self, scope: Scope) -> bool:
        """Put the session into the scope. False: no plain hit, and nothing was done."""
        if scope["type"] != "http" or scope["method"] not in SAFE or DECIDED in scope or self._is_public(scope):
            return False
        token = self._token_of(scope["headers"])
        if token is None or (found := self._known(token)) is None:
            return False
        state = scope.setdefault("state", {})
        state["session"], state["token"] = session, _ = found
        scope["user"], scope["auth"] = SessionUser(session, self._attribute), AUTHENTICATED
        scope[DECIDED] = self._authority, found
        return True
