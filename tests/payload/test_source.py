"""Any async function is a claims source."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest

from jwt_middleware import source
from jwt_middleware.errors import ConfigError


async def fetch(keys: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
    return {key: {"email": f"{key}@x.y"} for key in keys}


async def test_an_async_function_is_a_source() -> None:
    made = source("email", "plan")(fetch)
    assert made.claims == {"email", "plan"}
    assert made.by is None
    assert not made.require_row
    keyed = source("plan", by="companyId", require_row=True)(fetch)
    assert (keyed.by, keyed.require_row) == ("companyId", True)
    assert await made.fetch(["7"]) == {"7": {"email": "7@x.y"}}


async def test_an_object_whose_call_is_asynchronous_is_a_source() -> None:
    class Directory:
        async def __call__(self, keys: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
            return await fetch(keys)

    assert await source("email")(Directory()).fetch(["1"]) == {"1": {"email": "1@x.y"}}


def test_each_source_has_slots_of_its_own() -> None:
    first, second = source("email")(fetch), source("plan")(fetch)
    assert first.resource is not second.resource


def test_an_invalid_source_is_found_at_construction() -> None:
    invalid: list[tuple[list[str], Any, str]] = [
        ([], fetch, "must name the claims"),
        (["email", "email"], fetch, "twice"),
        (["email"], lambda keys: {}, "async def"),
        (["email"], "fetch", "async def"),
    ]
    for claims, function, message in invalid:
        with pytest.raises(ConfigError, match=message):
            source(*claims)(function)
