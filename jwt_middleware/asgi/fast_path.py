"""The cache hit: a safe request whose cookie holds a token that was accepted before.

Nearly every request is one, so this is what the package costs, and it reads from top to bottom: the path, the cookie
(read as ``tokens.transport`` reads it, where it is spelled as browsers do), the token cache, the scope. Every other
request is left to ``middleware``, which finds the same session at a higher price, or refuses the request.
"""

from __future__ import annotations

from typing import Any, Final

from starlette.types import Scope

from ..authenticator import Presented
from ..authority import SessionAuthority
from ..names import SCOPE_KEY
from ..sessions.token_cache import Hit
from ..tokens.jws import MAX_TOKEN, new_sha256
from ..tokens.transport import MAX_COOKIE_HEADER
from ..types import Carrier, RawToken
from .csrf import SAFE_METHODS
from .paths import PublicPaths
from .user import attach


class FastPath:
    """Finds the session of a request that is as simple as nearly all are."""

    def __init__(self, authority: SessionAuthority[Any], public: PublicPaths) -> None:
        self._authority: Final = authority
        self._is_public: Final = public.match
        self._exact: Final = public.exact
        self._prefixes: Final = public.prefixes
        self._name: Final = authority.cookie.name.encode("ascii")
        self._pair: Final = self._name + b"="
        self._token_cache: Final = authority.parts.token_cache
        self._recall: Final = authority.parts.token_cache.recall
        self._attribute: Final = authority.schema.subject_attribute

    def take(self, scope: Scope) -> Hit[Any] | Presented | None:  # noqa: C901, PLR0911 - every other request leaves at once
        """Put the session of a cache hit into the scope.

        Returns:
            The hit; or the token that was read and looked up in vain; or None where no token was read, because the
            request is not so simple. It is if it has no Authorization, one Cookie header, and in that our own name
            once, at the beginning or after ``; ``. One function, because each call costs a twentieth of it.
        """
        if scope["type"] != "http" or scope["method"] not in SAFE_METHODS or SCOPE_KEY in scope:
            return None
        path = scope["path"]
        if (path in self._exact or path.startswith(self._prefixes) or scope.get("root_path")) and self._is_public(
            scope
        ):
            return None
        cookies = None
        for name, value in scope["headers"]:  # compared and not looked up: a server's names have no hash yet
            if name == b"cookie":
                if cookies is not None:
                    return None
                cookies = value
            elif name == b"authorization":
                return None
        if cookies is None or len(cookies) > MAX_COOKIE_HEADER:
            return None
        before, _, after = cookies.partition(self._pair)
        token, times = after.partition(b";")[0], cookies.count(self._name)
        if (before and before[-2:] != b"; ") or (times != 1 and times - token.count(self._name) != 1):
            return None
        sha = new_sha256()
        sha.update(token)
        key, generation = sha.digest(), self._token_cache.generation
        recalled = self._recall(key)
        if type(recalled) is Hit:
            attach(scope, self._authority, recalled, self._attribute)
            return recalled
        if not 0 < len(token) <= MAX_TOKEN or b" " in token or b"\t" in token:  # perhaps a scheme stands before it
            return None
        return Presented(RawToken(token, Carrier.COOKIE), key, recalled, generation)
