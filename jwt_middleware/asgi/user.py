"""The plain hit, whole: a safe request whose cookie holds a token that was accepted before.

Nearly every request is one, so this is what the package costs, and it reads from top to bottom: the path, the cookie
(read as ``transport`` reads it, where it is spelled as browsers do), what ``remembered`` knows of the token, the scope.
Whatever is unusual is left to ``middleware``, which finds the same session at more expense, or refuses the request.
"""

from __future__ import annotations

from typing import Final

from starlette.authentication import AuthCredentials, BaseUser


class SessionUser(BaseUser):
    """``request.user`` for Starlette's own tools; the session itself is on ``request.state``.

    Whoever makes one sets both attributes: an ``__init__`` would be one more call for every request.
    """

    __slots__ = ("attribute", "session")

    session: object
    attribute: str

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
    """Shared by all requests, hence a tuple that nobody can append to."""

    def __init__(self, *scopes: str) -> None:
        self.scopes = scopes  # type: ignore[assignment]  # Starlette only asks `in`


AUTHENTICATED: Final = Credentials("authenticated")
