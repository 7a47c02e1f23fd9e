"""Tables that are bounded: a full one makes room for many at once."""

from __future__ import annotations

from itertools import islice
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def make_room(table: dict[K, V], limit: int) -> list[V]:
    """Where so many are in it, the oldest leave: one in 64, since to find the first walks over all that left before it.

    Returns:
        What left, the oldest first.
    """
    if len(table) < limit:
        return []
    leaving = [table.pop(key, None) for key in list(islice(table, 1 + limit // 64))]
    return [value for value in leaving if value is not None]  # None: another thread was first
