"""What a newcomer mixes up is said when the authority is made, with its mend."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jwt_middleware import ConfigError, MemorySessionStore, SilentObserver
from tests.support.world import Session, authority_of


@pytest.mark.parametrize(
    ("settings", "mend"),
    [
        ({"cookie": "session"}, r"SessionCookie\("),
        ({"adoption": {"iat_required": False}}, r"Adoption\("),
        ({"revocation": timedelta(seconds=5)}, r"Revocation\(max_staleness="),
        ({"lookups": {"timeout": 1}}, r"LookupLimits\(timeout="),
        ({"telemetry": None}, r"Telemetry\("),
        ({"reissue": timedelta(days=1)}, "reissue is True or False"),
        ({"cache_entries": "10"}, "cache_entries is a whole number"),
        ({"secret_claims": "password"}, "secret_claims is a list of words"),
        ({"observers": SilentObserver()}, r"\[MyObserver\(\)\]"),
        ({"observers": [SilentObserver]}, "objects and no classes"),
        ({"effective_at": datetime(2026, 12, 1, tzinfo=UTC)}, r"\{2: datetime"),
        ({"issuer": ["https://issuer.example"]}, "issuer is one name"),
        ({"audience": 7}, "audience is a name, or a list"),
        ({"store": MemorySessionStore}, r"MemorySessionStore\(\)"),
        ({"store": "sqlite+aiosqlite:///app.db"}, r"SQLAlchemySessionStore\(engine\)"),
    ],
)
def test_a_setting_of_another_type_is_named_with_its_mend(settings: dict[str, Any], mend: str) -> None:
    with pytest.raises(ConfigError, match=mend):
        authority_of(**settings)


def test_tuples_and_sets_are_lists_too() -> None:
    authority = authority_of(observers=(), sources=(), audience=("app",), secret_claims=frozenset({"password"}))
    claims = asyncio.run(authority.verify(asyncio.run(authority.issue(Session(user_id="1"))).token)).claims
    assert claims["aud"] == ["app"]
