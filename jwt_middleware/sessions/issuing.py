"""From a session to a signed token and its cookie: the seat of the payload's shape."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Any, Final, Generic
from uuid import uuid4

from .. import names
from ..counters import Counters
from ..errors import ConfigError, MintError
from ..payload.migration import Migration
from ..payload.schema import SessionSchema
from ..protocols import Clock, SessionStore
from ..tokens.cookies import SessionCookie
from ..tokens.jwt import Tokens
from ..types import Issued, S, SessionRecord, moment

SECRET_CLAIMS: Final = ("password", "passwd", "secret", "api key", "private key", "card", "ssn")
"""The deny-list: words as they stand in a name, whatever its spelling (``apiKey``, ``api_key``, ``API-KEY``)."""
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


class SecretClaims:
    """Finds claims, at any depth, whose name says that they must not be in a token."""

    def __init__(self, denied: Iterable[str]) -> None:
        self._denied: Final = tuple(tuple(phrase.lower().split()) for phrase in denied)

    def named(self, name: str) -> bool:
        """The name contains a denied phrase as whole words or written together (``apikey``), or its plural."""
        words = [word.lower() for word in _WORD.findall(name)]
        return any(_contains(words, phrase) for phrase in self._denied if phrase)

    def within(self, value: object) -> Iterator[str]:
        """The denied names among the keys of nested JSON objects."""
        if isinstance(value, dict):
            for name, inner in value.items():
                if self.named(str(name)):
                    yield str(name)
                yield from self.within(inner)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                yield from self.within(inner)


def _contains(words: Sequence[str], phrase: Sequence[str]) -> bool:
    """``phrase`` stands somewhere in ``words``; the last word of it may have an ``s``."""
    together = "".join(phrase)
    if together in words or f"{together}s" in words:
        return True
    for at in range(len(words) - len(phrase) + 1):
        *start, last = words[at : at + len(phrase)]
        if start == list(phrase[:-1]) and last in (phrase[-1], f"{phrase[-1]}s"):
            return True
    return False


class Minter(Generic[S]):
    """Mints tokens of the schema's ``mints`` version.

    Raises:
        ConfigError: A claim of the session class looks like a secret.
    """

    def __init__(
        self,
        *,
        schema: SessionSchema[S],
        tokens: Tokens,
        cookie: SessionCookie,
        store: SessionStore | None,
        migration: Migration,
        window: int,
        registered: dict[str, Any],
        secret_claims: Sequence[str],
        counters: Counters,
        clock: Clock,
    ) -> None:
        self._schema: Final = schema
        self._tokens: Final = tokens
        self._cookie: Final = cookie
        self._store: Final = store
        self._migration: Final = migration
        self._window: Final = window
        self._registered: Final = registered
        self._secrets: Final = SecretClaims(secret_claims)
        self._clock: Final = clock
        self._counts: Final = counters.counts
        self._issued: Final = counters.counter(
            names.TOKENS_ISSUED, {names.PAYLOAD_VERSION: schema.mints, names.TRIGGER: "start"}
        )
        if denied := [spec.name for spec in schema.claims if self._secrets.named(spec.name)]:
            raise ConfigError(
                f"claim {denied[0]!r} looks like a secret, and a token can be read by whoever holds it: leave it out "
                "of the session class, or allow the name with secret_claims=(…)"
            )

    async def mint(self, session: S, *, label: str | None) -> Issued:
        """Sign a token for the session; with a store its row is written before the token leaves.

        Raises:
            MintError: The session cannot become a token, or the cookie would exceed 4,096 bytes.
            Unavailable: The store could not write the row.
        """
        if label is not None and len(label) > 100:
            raise MintError("the label of a session has at most 100 characters")
        user_id, claims = self._schema.mint(session)
        if denied := next(self._secrets.within(claims), None):
            raise MintError(f"claim {denied!r} looks like a secret: leave it out of the session")
        auth_time = self._clock.now() if self._store is None else await self._store.stamp(user_id)
        now = self._clock.now()
        issued_at: float = int(now)
        if auth_time > issued_at + self._migration.leeway:  # what whole seconds cut off is more than is forgiven
            issued_at = max(now, auth_time)
        expires_at = int(issued_at) + self._window
        session_id = str(uuid4())
        envelope = {"iat": issued_at, "exp": expires_at, "sid": session_id, "auth_time": auth_time}
        token = self.sign({**claims, **envelope})
        set_cookie = self._cookie.set_header(token, max_age=max(0, int(expires_at - now)))
        if self._store is not None:
            await self._store.add(
                SessionRecord(
                    id=session_id,
                    user_id=user_id,
                    session_token=sha256(token.encode("ascii")).hexdigest(),
                    expires_at=moment(expires_at),
                    last_activity_at=moment(now),
                    created_at=moment(auth_time),
                    label=label,
                )
            )
        self._counts[self._issued] += 1
        self.saw(issued_at, expires_at)
        return Issued(token=token, set_cookie=set_cookie, session_id=session_id, expires_at=moment(expires_at))

    def again(self, claims: dict[str, Any]) -> tuple[str, str]:
        """A newer token of a session and its Set-Cookie value; the claims are complete, and ``exp`` stands in them.

        Raises:
            MintError: It cannot become a token or a cookie, or its time is over.
        """
        if denied := next(self._secrets.within(claims), None):
            raise MintError(f"claim {denied!r} looks like a secret: a token must not carry it")
        max_age = int(claims["exp"] - self._clock.now())
        if max_age < 1:
            raise MintError("the session ends now: its cookie would be deleted")
        token = self.sign(claims)
        return token, self._cookie.set_header(token, max_age=max_age)

    def saw(self, issued_at: float, expires_at: float) -> None:
        """Take note of a token that left."""
        self._migration.saw(self._schema.mints, issued_at, expires_at)

    def sign(self, claims: dict[str, Any]) -> str:
        """A token of just these claims, with ``iss`` and ``aud`` as configured."""
        return self._tokens.sign({**claims, **self._registered})
