"""From a session to a signed token and its cookie: the one place that decides what a token contains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Generic
from uuid import uuid4

from .. import names
from ..counters import Runtime
from ..errors import ConfigError, MintError
from ..payload.migration import Migration
from ..payload.schema import SessionSchema
from ..protocols import SessionStore
from ..tokens.cookies import SessionCookie
from ..tokens.jwt import Tokens
from ..types import Issued, S, SessionRecord, moment, words_of

SECRET_CLAIMS: Final = ("password", "passwd", "secret", "api key", "private key", "card", "ssn")
"""Denied words, as they stand in a name whatever its spelling (``apiKey``, ``api_key``, ``API-KEY``)."""
MAX_LABEL: Final = 100
"""Characters of a session's label."""


class SecretClaims:
    """Finds claims, at any depth, whose names look like secrets: a token's bearer can read it (RFC 7519 section 12)."""

    def __init__(self, denied: Iterable[str]) -> None:
        self._denied: Final = tuple(tuple(phrase.lower().split()) for phrase in denied)

    def denies(self, name: str) -> bool:
        """True if the name contains a denied phrase as whole words or written together (``apikey``), or its plural."""
        words = words_of(name)
        return any(_contains(words, phrase) for phrase in self._denied if phrase)

    def within(self, value: object) -> Iterator[str]:
        """The denied names among the keys of nested JSON objects."""
        if isinstance(value, dict):
            for name, inner in value.items():
                if self.denies(str(name)):
                    yield str(name)
                yield from self.within(inner)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                yield from self.within(inner)


def _contains(words: Sequence[str], phrase: Sequence[str]) -> bool:
    """``phrase`` stands somewhere in ``words``; its last word may have an ``s``."""
    together = "".join(phrase)
    if together in words or f"{together}s" in words:
        return True
    for at in range(len(words) - len(phrase) + 1):
        *start, last = words[at : at + len(phrase)]
        if start == list(phrase[:-1]) and last in (phrase[-1], f"{phrase[-1]}s"):
            return True
    return False


@dataclass(frozen=True, kw_only=True, repr=False)
class Minter(Generic[S]):
    """Mints tokens of the schema's ``mints`` version.

    Raises:
        ConfigError: The name of a claim looks like a secret.
    """

    schema: SessionSchema[S]
    tokens: Tokens
    cookie: SessionCookie
    clearing: Sequence[str]
    """The Set-Cookie values that clear every other cookie that a token may come in."""
    store: SessionStore | None
    migration: Migration
    window: int
    """The life of a token, in seconds."""
    registered: Mapping[str, Any]
    """``iss`` and ``aud``, where they are configured (RFC 7519 section 4.1)."""
    secrets: SecretClaims
    runtime: Runtime

    def __post_init__(self) -> None:
        self._issued("start")  # declared, so that the counter is zero from the start
        if denied := [spec.name for spec in self.schema.claims if self.secrets.denies(spec.name)]:
            raise ConfigError(
                f"claim {denied[0]!r} looks like a secret, and the bearer of a token can read it: leave it out "
                "of the session class, or allow the name with secret_claims=(…)"
            )

    async def mint(self, session: S, *, label: str | None) -> Issued:
        """Sign a token for a new session. With a store, the row is written before the token leaves.

        Raises:
            MintError: The session cannot become a token, or the cookie would exceed 4,096 bytes.
            Unavailable: The store could not write the row.
        """
        if label is not None and len(label) > MAX_LABEL:
            raise MintError(f"label has at most {MAX_LABEL} characters, got {len(label)}; cut it")
        subject, claims = self.schema.mint(session)
        self._refuse_secrets(claims)
        clock, user_id = self.runtime.clock, self.schema.own_subject(claims) or subject
        auth_time = clock.now() if self.store is None else await self._stamp(self.store, {subject, user_id})
        now = clock.now()
        issued_at: float = int(now)
        if auth_time > issued_at + self.migration.leeway:  # whole seconds may cut off more than the leeway accepts
            issued_at = max(now, auth_time)
        expires_at = int(issued_at) + self.window
        session_id = None if self.store is None else str(uuid4())
        envelope = {"iat": issued_at, "exp": expires_at, "auth_time": auth_time}
        token = self.sign({**claims, **envelope, **({} if session_id is None else {"sid": session_id})})
        set_cookie = self.cookie.set_header(token, max_age=max(0, int(expires_at - now)))
        if self.store is not None and session_id is not None:
            record = SessionRecord(
                id=session_id,
                user_id=user_id,
                session_token=sha256(token.encode("ascii")).hexdigest(),
                expires_at=moment(expires_at),
                last_activity_at=moment(now),
                created_at=moment(auth_time),
                label=label,
            )
            await self.store.add(record)
        self.count("start", issued_at, expires_at)
        return Issued(
            token=token,
            set_cookie=[*self.clearing, set_cookie],
            session_id=session_id,
            expires_at=moment(expires_at),
        )

    def mint_again(self, claims: dict[str, Any], *, typ: str | None) -> tuple[str, str]:
        """A newer token of a session and its Set-Cookie value.

        Args:
            claims: Complete, ``exp``, ``iss`` and ``aud`` included.
            typ: Of its header; None: today's.

        Raises:
            MintError: It cannot become a token or a cookie, or it has expired.
        """
        self._refuse_secrets(claims)
        max_age = int(claims["exp"] - self.runtime.clock.now())
        if max_age < 1:
            raise MintError("the session expires now: browsers would delete its cookie")
        token = self.tokens.sign(claims, typ=typ)
        return token, self.cookie.set_header(token, max_age=max_age)

    def sign(self, claims: Mapping[str, Any], *, typ: str | None = None) -> str:
        """A token of just these claims, with ``iss`` and ``aud`` as configured."""
        return self.tokens.sign({**claims, **self.registered}, typ=typ)

    def count(self, trigger: str, issued_at: float, expires_at: float) -> None:
        """A token left; ``trigger`` is start, reissue or renew."""
        self.runtime.counters.counts[self._issued(trigger)] += 1
        self.migration.saw(self.schema.mints, issued_at, expires_at)

    def declare(self, triggers: Iterable[str]) -> None:
        """Start the counters of further triggers at zero."""
        for trigger in triggers:
            self._issued(trigger)

    def _issued(self, trigger: str) -> int:
        attributes = {names.PAYLOAD_VERSION: self.schema.mints, names.TRIGGER: trigger}
        return self.runtime.counters.counter(names.TOKENS_ISSUED, attributes)

    @staticmethod
    async def _stamp(store: SessionStore, user_ids: Iterable[str]) -> float:
        """The store's clock, later than every mark on these spellings of a user."""
        return max([await store.stamp(user_id) for user_id in user_ids])

    def _refuse_secrets(self, claims: Mapping[str, Any]) -> None:
        if denied := next(self.secrets.within(claims), None):
            raise MintError(f"claim {denied!r} looks like a secret: leave it out of the session")
