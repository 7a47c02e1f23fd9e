"""What errors say: how to fix a setting, the class of another package's exception, and nothing of its text."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from jwt_middleware import ConfigError, Envelope, LookupLimits, MemorySessionStore, RemoteKeys, Retention, Revocation
from jwt_middleware.errors import Unavailable, class_of
from tests.support.world import authority_of

JWKS = "https://issuer.example/jwks"
STORE = MemorySessionStore()


def test_a_length_of_time_is_a_timedelta_and_the_error_says_so(subtests: pytest.Subtests) -> None:
    cases: list[tuple[str, Callable[[Any], object]]] = [
        ("window", lambda length: authority_of(window=length)),
        ("leeway", lambda length: authority_of(leeway=length)),
        ("rollout", lambda length: authority_of(rollout=length)),
        ("max_session_age", lambda length: authority_of(max_session_age=length)),
        ("renew_within", lambda length: authority_of(renew_within=length, store=STORE)),
        ("window", lambda length: Envelope.foreign(window=length)),
        ("max_staleness", lambda length: Revocation(max_staleness=length)),
        ("stale_if_error", lambda length: Revocation(stale_if_error=length)),
        ("timeout", lambda length: LookupLimits(timeout=length)),
        ("ttl", lambda length: LookupLimits(ttl=length)),
        ("negative_ttl", lambda length: LookupLimits(negative_ttl=length)),
        ("expired", lambda length: Retention(expired=length)),
        ("longest_token", lambda length: Retention(longest_token=length)),
        ("refresh_every", lambda length: RemoteKeys(JWKS, refresh_every=length)),
        ("usable_for", lambda length: RemoteKeys(JWKS, usable_for=length)),
    ]
    for name, configure in cases:
        with subtests.test(name=name):
            for length in (0, 30, 0.5, "7d"):
                with pytest.raises(ConfigError, match=f"^{name} must be a timedelta"):
                    configure(length)
            assert configure(timedelta(days=6)) is not None


async def test_a_purge_and_a_fetch_take_timedeltas_too() -> None:
    with pytest.raises(ConfigError, match="expired must be a timedelta"):
        await authority_of(store=STORE).purge(expired=30)
    with pytest.raises(ConfigError, match="timeout must be a timedelta"):
        RemoteKeys(JWKS, timeout=5)  # type: ignore[arg-type]  # the mistake is the point


class Theirs(Exception):
    """An exception of another package."""


def test_an_exceptions_class_is_spelled_in_full_and_its_text_left_out() -> None:
    assert class_of(ValueError("canary")) == "ValueError"
    assert class_of(Theirs("canary")) == "tests.test_errors.Theirs"


def test_the_error_in_place_of_a_vendors_keeps_its_class() -> None:
    def translated() -> None:
        try:
            raise Theirs("canary")
        except Theirs:
            raise Unavailable("gone") from None

    with pytest.raises(Unavailable) as raised:
        translated()
    assert class_of(raised.value) == "tests.test_errors.Theirs"
    assert class_of(Unavailable("gone")) == "jwt_middleware.errors.Unavailable"
