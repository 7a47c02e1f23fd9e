"""A newer token for a session that is due for one: checked, minted, written to its row, all as the response starts.

Whatever goes wrong, the response goes out without a cookie and the next one tries again: the token that came is good.
"""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import Any, Final, Generic
from weakref import WeakKeyDictionary

from . import names
from .errors import MintError, Refusal, Unavailable
from .fallback import Filler
from .minting import Minter
from .ports import Clock, SessionStore
from .revocation import RevocationView
from .schema import ENVELOPE, SessionSchema
from .tallies import Tallies
from .types import Due, S, SessionKey, moment

AT_ONCE: Final = 2
"""Rows updated at once in one event loop: a release moment must not take the app's connections."""


class Reissuer(Generic[S]):
    """Makes the cookie for what is due.

    Args:
        triggers: What is configured: ``reissue``, ``renew``.
        patience: Seconds that a response waits for its cookie.
    """

    def __init__(
        self,
        *,
        schema: SessionSchema[S],
        minter: Minter[S],
        filler: Filler,
        revocation: RevocationView | None,
        store: SessionStore | None,
        triggers: tuple[str, ...],
        patience: float,
        tallies: Tallies,
        clock: Clock,
    ) -> None:
        self._schema: Final = schema
        self._known: Final = frozenset({schema.version_claim, *(spec.name for spec in schema.claims)})
        self._minter: Final = minter
        self._filler: Final = filler
        self._revocation: Final = revocation
        self._store: Final = store
        self._patience: Final = patience
        self._clock: Final = clock
        self._cells: Final = tallies.cells
        self._issued: Final = {
            trigger: tallies.cell(names.TOKENS_ISSUED, {names.PAYLOAD_VERSION: schema.mints, names.TRIGGER: trigger})
            for trigger in triggers
        }
        self._busy: Final[set[str | None]] = set()
        self._places: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]] = WeakKeyDictionary()

    async def set_cookie(self, due: Due) -> str | None:
        """The Set-Cookie value; None where it may not or cannot be made, or is being made for another response."""
        session_id = due.token.session_id
        if session_id in self._busy:
            return None
        self._busy.add(session_id)
        try:
            async with asyncio.timeout(self._patience):
                return await self._made(due)
        except (Refusal, Unavailable, MintError, TimeoutError):
            return None
        finally:
            self._busy.discard(session_id)

    async def _made(self, due: Due) -> str | None:
        token = due.token
        if self._revocation is not None:
            asked = SessionKey(session_id=token.session_id, user_id=due.subject)
            await self._revocation.check(asked, token.auth_time or 0.0, listed=True, fresh=True)
        claims = due.claims
        if due.trigger == "renew":
            claims = await self._filler.fetch_anew(claims, subject=due.subject)
        envelope = {name: token.claims[name] for name in ENVELOPE if name in token.claims} | due.times
        signed, set_cookie = self._minter.again({**self._session_claims(due, claims), **envelope})
        if not await self._written(due, sha256(signed.encode("ascii")).hexdigest(), envelope["exp"]):
            return None
        self._cells[self._issued[due.trigger]] += 1
        self._minter.saw(envelope["iat"], envelope["exp"])
        return set_cookie

    def _session_claims(self, due: Due, claims: dict[str, Any]) -> dict[str, Any]:
        """What a log-in of this session would mint, and what the schema does not know."""
        subject, minted = self._schema.mint(self._schema.thaw(self._schema.freeze(claims)))
        if subject != due.subject:
            raise MintError("the session class changes its subject: the token would be of another user")
        return {**{name: value for name, value in claims.items() if name not in self._known}, **minted}

    async def _written(self, due: Due, digest: str, expires_at: float) -> bool:
        """Whether the session is still active at the moment in which its row learns of the token."""
        if self._store is None:
            return True
        async with self._places.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE)):
            return await self._store.replace_token(
                due.token.session_id or "",
                user_id=due.subject,
                session_token=digest,
                expires_at=moment(expires_at) if due.trigger == "renew" else None,
            )
