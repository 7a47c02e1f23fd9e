"""Any async function as a claims source."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final

from ..errors import ConfigError

Fetch = Callable[[Collection[str]], Awaitable[Mapping[str, Mapping[str, Any]]]]


class FunctionSource:
    """A ``ClaimsSource`` over an async function; made by :func:`source`."""

    def __init__(self, fetch: Fetch, claims: tuple[str, ...], *, by: str | None, require_row: bool) -> None:
        if not inspect.iscoroutinefunction(fetch) and not inspect.iscoroutinefunction(getattr(fetch, "__call__", None)):  # noqa: B004 - asks whether calling it is asynchronous
            raise ConfigError("a source is an async function of a collection of keys: write `async def`")
        if not claims:
            raise ConfigError('name the claims a source knows: @source("email")')
        if len(set(claims)) != len(claims):
            raise ConfigError("a source names a claim twice")
        self._fetch: Final = fetch
        self.claims: Final = frozenset(claims)
        self.by: Final = by
        self.require_row: Final = require_row
        self.resource: Final[object] = self

    async def fetch(self, keys: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
        """Rows (wire name to value) by key; a key without row is left out."""
        return await self._fetch(keys)


def source(*claims: str, by: str | None = None, require_row: bool = False) -> Callable[[Fetch], FunctionSource]:
    """Make an async function a claims source: ``@source("email")`` over ``async def fetch(subjects)``.

    Args:
        claims: Wire names of the claims it knows.
        by: Wire name of the claim whose value is the key; None means the subject.
        require_row: Refuse a key without row, whatever defaults its claims have.

    Raises:
        ConfigError: No claims, or no async function.
    """

    def decorate(fetch: Fetch) -> FunctionSource:
        return FunctionSource(fetch, claims, by=by, require_row=require_row)

    return decorate
