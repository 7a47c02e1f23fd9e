"""From a session to a signed token and its cookie: the seat of the payload's shape."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final, Generic
from uuid import uuid4

from . import names
from .errors import ConfigError, MintError
from .migration import Migration
from .ports import Clock, SessionStore
from .schema import SessionSchema
from .secret_claims import SecretClaims
from .tallies import Tallies
from .tokens import Tokens
from .transport import SessionCookie
from .types import Issued, S, SessionRecord, moment


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
        tallies: Tallies,
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
        self._cells: Final = tallies.cells
        self._issued: Final = tallies.cell(
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
        self._cells[self._issued] += 1
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
