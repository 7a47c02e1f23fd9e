"""Single steps as contenders: the token alone, ours and PyJWT's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jwt

from jwt_middleware import Refusal, SessionAuthority

from .world import LEEWAY, REQUIRED, SECRET

OPTIONS: Any = {"require": REQUIRED}


def token_step(authority: SessionAuthority[Any], token: str) -> Callable[[], object]:
    """The token step alone, as ``jwt.decode`` is called alone; a refusal ends it."""
    tokens, octets = authority.parts.pipeline._tokens, token.encode()

    def call() -> object:
        try:
            return tokens.check(tokens.open(octets), payload_version=2)
        except Refusal:
            return None

    return call


def by_pyjwt(token: str, key: Any = SECRET, alg: str = "HS256") -> Callable[[], object]:
    """``jwt.decode`` with the same checks; a refusal ends it."""

    def call() -> object:
        try:
            return jwt.decode(token, key, algorithms=[alg], leeway=LEEWAY, options=OPTIONS)
        except jwt.PyJWTError:
            return None

    return call
