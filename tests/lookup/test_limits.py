"""Limits that nothing could keep are found at construction."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from jwt_middleware import LookupLimits
from jwt_middleware.errors import ConfigError

BEFORE = timedelta(seconds=-1)


def test_the_defaults_are_those_of_the_contract() -> None:
    limits = LookupLimits()
    assert (limits.timeout, limits.ttl, limits.negative_ttl, limits.max_waiting) == (
        timedelta(milliseconds=250),
        timedelta(seconds=60),
        timedelta(seconds=5),
        10_000,
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"timeout": timedelta(0)}, "timeout"),
        ({"ttl": BEFORE}, "ttl"),
        ({"negative_ttl": BEFORE}, "ttl"),
        ({"max_waiting": 0}, "max_waiting"),
    ],
)
def test_a_limit_that_cannot_be_kept_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LookupLimits(**settings)
