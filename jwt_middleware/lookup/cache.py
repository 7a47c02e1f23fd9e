"""A bounded cache whose entries expire; when it is full, the oldest are evicted."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import islice
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def make_room(table: dict[K, V], limit: int) -> list[V]:
    """Evict the oldest entries of a table that holds ``limit``: one, and another for every 64.

    Several at once, because a dictionary finds its first entry by walking over all that were deleted before it.

    Returns:
        The evicted values, the oldest first.
    """
    if len(table) < limit:
        return []
    evicted = [table.pop(key, None) for key in list(islice(table, 1 + limit // 64))]
    return [value for value in evicted if value is not None]  # None: another thread took it first


class Cache(Generic[K, V]):
    """Values by key, each until a monotonic moment."""

    def __init__(self, limit: int) -> None:
        self._limit: Final = limit
        self._entries: Final[dict[K, tuple[V, float]]] = {}

    def get(self, key: K, now: float) -> V | None:
        """The value; None where there is none, or it has expired."""
        entry = self._entries.get(key)
        return None if entry is None or entry[1] <= now else entry[0]

    def put(self, key: K, value: V, *, until: float) -> None:
        """Keep a value, as the newest."""
        self._entries.pop(key, None)
        make_room(self._entries, self._limit)
        self._entries[key] = (value, until)

    def __len__(self) -> int:
        return len(self._entries)
