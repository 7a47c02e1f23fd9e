"""What is forgiven to tokens of before, and to which of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from jwt_middleware import Adoption, ConfigError
from jwt_middleware.tokens.jwt import is_session


@pytest.mark.parametrize(
    ("claims", "session"),
    [
        ({}, True),
        ({"type": "access", "token_type": "session", "token_use": "access"}, True),
        ({"type": "refresh"}, False),
        ({"token_type": "reset"}, False),
        ({"token_use": "id"}, False),
        ({"type": None}, False),
        ({"type": ["access"]}, False),
        ({"purpose": "session"}, False),
        ({"nonce": "x"}, False),
    ],
)
def test_other_tokens_of_the_same_secret_are_no_sessions(claims: dict[str, Any], session: bool) -> None:
    assert is_session(claims) is session


@pytest.mark.parametrize(
    ("settings", "mend"),
    [
        ({"accepted_lifetime": timedelta(0)}, "timedelta"),
        ({"sessions": "ignore"}, "refuse"),
        ({"recognise": "type"}, "function"),
    ],
)
def test_an_adoption_that_cannot_work_fails_at_once(settings: dict[str, Any], mend: str) -> None:
    with pytest.raises(ConfigError, match=mend):
        Adoption(**settings)
