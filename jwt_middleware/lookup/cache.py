"""What was found, for a while: bounded, the oldest leaves first."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import islice
from typing import Final, Generic, TypeVar


def make_room(table: dict[K, V], limit: int) -> list[V]:
    """Where so many are in it, the oldest leave: one in 64, since to find the first walks over all that left before it.

    Returns:
        What left, the oldest first.
    """
    if len(table) < limit:
        return []
    leaving = [table.pop(key, None) for key in list(islice(table, 1 + limit // 64))]
    return [value for value in leaving if value is not None]  # None: another thread was first


K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Values, and the absence of values, each with the monotonic moment until which it holds."""

    def __init__(self, *, ttl: float, negative_ttl: float, limit: int) -> None:
        self._ttl: Final = ttl
        self._negative_ttl: Final = negative_ttl
        self._limit: Final = limit
        self._entries: Final[dict[K, tuple[V | None, float]]] = {}

    def get(self, key: K, now: float) -> tuple[V | None] | None:
        """The value in a tuple, which may hold None for "there is none"; None where nothing is known."""
        entry = self._entries.get(key)
        if entry is None or entry[1] <= now:
            return None
        return (entry[0],)

    def put(self, key: K, value: V | None, now: float) -> None:
        ttl = self._negative_ttl if value is None else self._ttl
        if ttl <= 0:
            return
        self._entries.pop(key, None)
        make_room(self._entries, self._limit)
        self._entries[key] = (value, now + ttl)

    def drop(self, key: K) -> None:
        self._entries.pop(key, None)

    def clear(self) -> None:
        self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)
