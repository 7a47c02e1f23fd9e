"""Makes any async function a claims source."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, Final

from ..errors import ConfigError

Fetch = Callable[[Collection[str]], Coroutine[Any, Any, Mapping[str, Mapping[str, Any]]]]


class FunctionSource:
    """A ``ClaimsSource`` over an async function; made by :func:`source`."""

    def __init__(self, fetch: Fetch, claims: tuple[str, ...], *, by: str | None, require_row: bool) -> None:
        if not inspect.iscoroutinefunction(fetch) and not inspect.iscoroutinefunction(getattr(fetch, "__call__", None)):  # noqa: B004 - is its call asynchronous?
            raise ConfigError(f"a source must be an async function of keys, got {fetch!r}: use `async def`")
        if not claims:
            raise ConfigError('a source must name the claims it provides: @source("email")')
        if len(set(claims)) != len(claims):
            raise ConfigError(f"a source names a claim twice: {claims}")
        self.fetch: Final = fetch
        """Returns rows (wire name to value) by key, without the keys that have no row."""
        self.claims: Final = frozenset(claims)
        self.by: Final = by
        self.require_row: Final = require_row
        self.resource: Final[object] = self


def source(*claims: str, by: str | None = None, require_row: bool = False) -> Callable[[Fetch], FunctionSource]:
    """Make an async function a claims source: ``@source("email")`` over ``async def fetch(subjects)``.

    Args:
        claims: Wire names of the claims it provides.
        by: Wire name of the claim whose value is the key; None means the subject.
        require_row: Refuse a request whose key has no row, even if its claims have defaults.

    Raises:
        ConfigError: There are no claims, or the function is not async.
    """

    def decorate(fetch: Fetch) -> FunctionSource:
        return FunctionSource(fetch, claims, by=by, require_row=require_row)

    return decorate
