"""Reading one token as a contender: proved on good and bad tokens, then timed."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Any

import jwt

from jwt_middleware import Reason, Refusal, SessionAuthority
from jwt_middleware.types import Carrier, RawToken

from .measure import Timed, awaited, repeated
from .world import LEEWAY, SECRET

REQUIRED = ("exp", "iat", "sid", "auth_time")
"""The claims that our token step requires with a store; the session's claims are checked later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A function (or coroutine function) that reads a token, and the exception it raises to refuse one."""

    read: Callable[[str], Any]
    refusal: type[Exception]

    def prove(
        self, loop: asyncio.AbstractEventLoop, name: str, good: Mapping[str, object], bad: Mapping[str, str]
    ) -> None:
        """Check that it reads every good token and refuses every bad one; end the run otherwise.

        Args:
            loop: Runs a coroutine function.
            name: The contender's name.
            good: The expected claims or session, by token.
            bad: Tokens by their defect.
        """
        for token, expected in good.items():
            try:
                found = self._once(loop, token)
            except self.refusal as refused:
                raise SystemExit(f"{name} refused a good token: {refused!r}") from None
            if getattr(found, "claims", found) != expected:
                raise SystemExit(f"{name} read something else of a good token")
        for wrong, token in bad.items():
            try:
                self._once(loop, token)
            except self.refusal:
                continue
            raise SystemExit(f"{name} accepted a token that is {wrong}")

    def accepting(self, loop: asyncio.AbstractEventLoop, tokens: Sequence[str]) -> Timed:
        """Time good tokens, in turn; a refusal ends the run."""
        return _timed(loop, self.read, tokens)

    def refusing(self, loop: asyncio.AbstractEventLoop, token: str) -> Timed:
        """Time a bad token; if it is accepted, the run ends."""
        return _timed(loop, self._refuses_async if inspect.iscoroutinefunction(self.read) else self._refuses, [token])

    def _once(self, loop: asyncio.AbstractEventLoop, token: str) -> Any:
        found = self.read(token)
        return loop.run_until_complete(found) if inspect.isawaitable(found) else found

    def _refuses(self, token: str) -> None:
        try:
            self.read(token)
        except self.refusal:
            return
        raise SystemExit("a bad token was accepted")

    async def _refuses_async(self, token: str) -> None:
        try:
            await self.read(token)
        except self.refusal:
            return
        raise SystemExit("a bad token was accepted")


def token_step(authority: SessionAuthority[Any]) -> Reader:
    """Ours, limited to what ``jwt.decode`` does: signature and registered claims; no digest, cache or session."""
    tokens = authority.parts.authenticator.tokens
    came = RawToken(b"", Carrier.COOKIE)
    return Reader(read=lambda token: tokens.check(tokens.open(token.encode()), came), refusal=Refusal)


def verifying(authority: SessionAuthority[Any]) -> Reader:
    """Ours as an app calls it: digest, cache lookup, token step and payload version."""
    return Reader(read=authority.verify, refusal=Refusal)


def authenticating(authority: SessionAuthority[Any]) -> Reader:
    """The whole path from a header to the session; a cached token ends the run."""

    async def read(token: str) -> Any:
        outcome = await authority.authenticate([(b"authorization", b"Bearer " + token.encode())])
        if outcome.session is None:
            raise Refusal(outcome.reason or Reason.TOKEN_MISSING)
        if outcome.key_id is None:
            raise SystemExit("no key was needed: the token was cached")
        return outcome.session

    return Reader(read=read, refusal=Refusal)


def decoding(key: Any = SECRET, alg: str = "HS256", required: Sequence[str] = REQUIRED) -> Reader:
    """``jwt.decode`` with lists that are built once."""
    algorithms = [alg]
    options: Any = {"require": list(required)}
    return Reader(
        read=lambda token: jwt.decode(token, key, algorithms=algorithms, leeway=LEEWAY, options=options),
        refusal=jwt.PyJWTError,
    )


def by_pyjwt(token: str) -> Callable[[], object]:
    """``jwt.decode`` of a good HS256 token."""
    return partial(decoding().read, token)


def _timed(loop: asyncio.AbstractEventLoop, read: Callable[[str], Any], tokens: Sequence[str]) -> Timed:
    each = map(read, cycle(tokens)).__next__
    return awaited(loop, each) if inspect.iscoroutinefunction(read) else repeated(each)
