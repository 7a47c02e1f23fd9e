"""The base of the frequent values."""

from __future__ import annotations

import gc
from datetime import timedelta
from typing import Any

import pytest

from jwt_middleware import ConfigError, Retention
from jwt_middleware.sessions.token_cache import Hit
from jwt_middleware.tokens.rules import RegisteredClaims
from jwt_middleware.types import FOREVER, Fallback, FilledClaim, FillOutcome, SignedClaims, moment
from jwt_middleware.types import TokenInfo as Info


class TestTypes:
    def test_a_value_cannot_be_changed(self) -> None:
        with pytest.raises(AttributeError):
            SignedClaims(claims={}, key_id="k", typ="", own=True).key_id = "other"  # type: ignore[misc]  # that is the point

    def test_a_repr_shows_nothing_that_a_token_contains(self) -> None:
        info = Info(version=2, iat=None, exp=0.0, session_id="5e551011")

        assert "5e551011" not in repr(info)
        assert "version=2" in repr(info)
        shown = ("version", "iat", "exp", "own", "envelope", "auth_time", "filled")
        assert info.__rich_repr__() == [(name, getattr(info, name)) for name in shown]
        assert "canary" not in repr(SignedClaims(claims={"email": "canary"}, key_id="k", typ="", own=True))
        registered = RegisteredClaims(exp=1.0, sub="canary", sid="canary", jti="canary")
        assert "canary" not in repr(registered)
        hit = Hit("canary", info)
        assert (repr(hit), hit.__rich_repr__()) == ("Hit(…)", [])

    def test_the_times_of_a_token_are_aware_datetimes(self) -> None:
        info = Info(version=2, iat=0.5, exp=60.0)

        assert (info.issued_at, info.expires_at) == (moment(0.5), moment(60.0))
        assert Info(version=2, iat=None, exp=60.0).issued_at is None

    def test_a_repr_shows_the_facts_of_a_fallback(self) -> None:
        filled = FilledClaim(claim="email", source="cache", outcome=FillOutcome.RESOLVED)
        fallback = Fallback(claims=(filled,), outcome=FillOutcome.RESOLVED, started_at=1, ended_at=2)

        assert "claim='email', source='cache'" in repr(fallback)

    def test_the_garbage_collector_does_not_track_a_value(self) -> None:
        assert not gc.is_tracked(Info(version=1, iat=None, exp=0.0))

    def test_an_impossible_retention_is_refused(self, subtests: pytest.Subtests) -> None:
        cases: list[dict[str, Any]] = [
            {"expired": -timedelta(days=1)},
            {"longest_token": -timedelta(days=1)},
            {"expired": FOREVER + timedelta(days=1)},
            {"longest_token": timedelta.max},
            {"chunk": 0},
            {"chunk": 10_001},
        ]
        for settings in cases:
            with subtests.test(settings=settings), pytest.raises(ConfigError, match="Retention"):
                Retention(**settings)
