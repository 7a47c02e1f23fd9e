"""Tokens that were accepted before: a bounded table from a digest of the token to what was made of it.

An entry is a tuple of bytes, numbers and a value that refers to no container, so that 100,000 of them add nothing to a
pause of the garbage collector.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from .bounded import make_room
from .types import TokenInfo

Entry = tuple[bytes, TokenInfo | None, float, int, float, float | None]
"""What the session is built from; the facts of its token; the monotonic moment until which both hold; the cell of the
tallies that a plain hit raises; the moment until which they would hold if only the session were known to be active; the
token's ``auth_time``. Without the facts the bytes are the verified token, and no plain hit comes of it."""

LONGEST: Final = 60.0
"""Seconds an entry holds at most: then the wall clock is read again, whatever happened to it meanwhile."""


EMPTY: Final = sha256().copy
"""An empty SHA-256. Copied and not made: OpenSSL would look for the algorithm each time, which costs a server 1 µs."""


def digest(token: bytes) -> bytes:
    """A cryptographic digest of the whole token, 256 bit."""
    sha = EMPTY()
    sha.update(token)
    return sha.digest()


class Seen:
    """The table; the oldest entries leave first when it is full."""

    __slots__ = ("__weakref__", "_entries", "_limit", "get")

    def __init__(self, limit: int) -> None:
        self._entries: Final[dict[bytes, Entry]] = {}
        self._limit: Final = limit
        self.get: Final = self._entries.get
        """The bound method of the dictionary: the hot path asks once a request."""

    def put(self, key: bytes, entry: Entry) -> None:
        self._entries.pop(key, None)
        make_room(self._entries, self._limit)
        self._entries[key] = entry

    def drop(self, key: bytes) -> None:
        self._entries.pop(key, None)

    def clear(self) -> None:
        self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)
