"""The plain hit, whole: a safe request whose cookie holds a token that was accepted before.

Nearly every request is one, so this is what the package costs, and it reads from top to bottom: the path, the cookie
(read as ``transport`` reads it, where it is spelled as browsers do), what ``remembered`` knows of the token, the scope.
Whatever is unusual is left to ``middleware``, which finds the same session at more expense, or refuses the request.
"""

from __future__ import annotations

from typing import Any, Final

from starlette.types import Scope

from ..authority import SessionAuthority
from ..names import DECIDED
from ..tokens.jws import EMPTY
from ..tokens.transport import MAX_COOKIE_HEADER
from .csrf import SAFE
from .paths import PublicPaths
from .user import AUTHENTICATED, SessionUser


class FastPath:
    """Finds the session of a request that is as plain as nearly all are."""

    def __init__(self, authority: SessionAuthority[Any], public: PublicPaths) -> None:
        self._authority: Final = authority
        self._is_public: Final = public.match
        self._exact: Final = public.exact
        self._below: Final = public.below
        self._name: Final = authority.cookie.name.encode("ascii")
        self._pair: Final = self._name + b"="
        known = authority.parts.known
        self._find: Final = known.find
        self._ended: Final = known.ended
        self._build: Final = known.build
        self._monotonic: Final = known.monotonic
        self._stands: Final = known.stands
        self._counts: Final = known.counts
        self._known: Final = known
        self._attribute: Final = authority.schema.subject_attribute

    def take(self, scope: Scope) -> bool:  # noqa: C901, PLR0911, PLR0912 - whatever is not plain leaves at once
        """Put the session into the scope. False: no plain hit, and nothing was done.

        Plain is: no Authorization, one Cookie header, in it our own name once, at the beginning or after ``; ``; the
        token then is looked up as by ``TokenCache.hit``. One function: each call would be a twentieth of it.
        """
        if scope["type"] != "http" or scope["method"] not in SAFE or DECIDED in scope:
            return False
        path = scope["path"]
        if (path in self._exact or path.startswith(self._below) or scope.get("root_path")) and self._is_public(scope):
            return False
        cookies = None
        for name, value in scope["headers"]:  # compared and not looked up: a server's names have no hash yet
            if name == b"cookie":
                if cookies is not None:
                    return False
                cookies = value
            elif name == b"authorization":
                return False
        if cookies is None or len(cookies) > MAX_COOKIE_HEADER:
            return False
        before, _, after = cookies.partition(self._pair)
        token, named = after.partition(b";")[0], cookies.count(self._name)
        if (before and before[-2:] != b"; ") or (named != 1 and named - token.count(self._name) != 1):
            return False
        digest = EMPTY()
        digest.update(token)
        key, generation = digest.digest(), self._known.generation
        entry = self._find(key)
        if entry is None:
            return False
        frozen, info, deadline, cell, _, _ = entry
        if info is None or (self._ended and info.session_id in self._ended):
            return False
        try:
            session = self._build(frozen)
        except Exception:  # the session class runs code of the app's, which may change its mind
            return False
        if deadline <= self._monotonic() and not self._stands(key, entry, info, generation):
            return False
        self._counts[cell] += 1
        try:
            state = scope["state"]
        except KeyError:
            state = scope["state"] = {}
        state["session"], state["token"] = session, info
        user = SessionUser()
        user.session, user.attribute = session, self._attribute
        scope["user"], scope["auth"] = user, AUTHENTICATED
        scope[DECIDED] = self._authority, (session, info)
        return True
