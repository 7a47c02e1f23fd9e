"""What a request shows of its session: ``request.state``, ``request.user``, ``request.auth``, and the decision."""

from __future__ import annotations

from typing import Any, Final

from starlette.authentication import AuthCredentials, BaseUser, UnauthenticatedUser
from starlette.types import Scope

from ..authority import SessionAuthority
from ..names import SCOPE_KEY
from ..sessions.token_cache import Hit
from ..types import Outcome

Decision = Hit[Any] | Outcome[Any]


class SessionUser(BaseUser):
    """``request.user`` for Starlette's own tools; the session itself is on ``request.state``.

    :func:`attach` sets both attributes: an ``__init__`` would be one more call for every request.
    """

    __slots__ = ("attribute", "session")

    session: object
    attribute: str
    """The attribute of the session that holds the subject."""

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def identity(self) -> str:
        return str(getattr(self.session, self.attribute))

    @property
    def display_name(self) -> str:
        return self.identity


class Credentials(AuthCredentials):
    """Shared by all requests, hence a tuple that no request can append to."""

    def __init__(self, *scopes: str) -> None:
        self.scopes = scopes  # type: ignore[assignment]  # Starlette only asks `in`


_AUTHENTICATED: Final = Credentials("authenticated")
_UNAUTHENTICATED: Final = Credentials()
_NO_USER: Final = UnauthenticatedUser()


def detach(scope: Scope) -> None:
    """Every request starts without a session, whatever an outer app left in its scope."""
    state = scope.setdefault("state", {})
    state["session"] = state["token"] = None
    scope["user"], scope["auth"] = _NO_USER, _UNAUTHENTICATED


def attach(scope: Scope, authority: SessionAuthority[Any], decision: Decision, attribute: str) -> None:
    """Show the session of an accepted request.

    Args:
        scope: The request's.
        authority: Which one decided: a nested middleware of the same authority finds its decision here.
        decision: Has a session.
        attribute: The attribute of the session that holds the subject.
    """
    session = decision.session
    try:
        state = scope["state"]
    except KeyError:
        state = scope["state"] = {}
    state["session"], state["token"] = session, decision.token
    user = SessionUser()
    user.session, user.attribute = session, attribute
    scope["user"], scope["auth"] = user, _AUTHENTICATED
    scope[SCOPE_KEY] = authority, decision


def decision_of(scope: Scope, authority: SessionAuthority[Any]) -> Decision | None:
    """What an outer middleware of the same authority decided about the request."""
    decided_by, decision = scope.get(SCOPE_KEY, (None, None))
    return decision if decided_by is authority else None
