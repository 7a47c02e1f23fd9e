"""Which responses may carry a reissued cookie: none that anybody else may be given, and none that says it otherwise.

Where the app says nothing about caching, ``Cache-Control: no-store`` is added; where it says that a shared cache may
keep the response, or nothing that forbids it, the cookie waits for another response (RFC 9111 section 5.2.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

Headers = Sequence[tuple[bytes, bytes]]

_FOR_SHARED_CACHES: Final = frozenset({b"cdn-cache-control", b"surrogate-control", b"x-accel-expires"})
"""RFC 9213 and its forerunners: caches obey them before Cache-Control."""
_SHARED: Final = frozenset({b"public", b"s-maxage"})
_PRIVATE: Final = frozenset({b"no-store", b"private"})
_QUOTED: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')


class CookieCarrying:
    """Judges the start of a response, and puts a cookie on it; ``names`` are those of the session's cookies."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names: Final = frozenset(name.encode("ascii") for name in names)

    def allows(self, status: int, headers: Headers) -> bool:
        """Whether a response may carry the cookie."""
        cache_control = []
        for raw_name, value in headers:
            name = raw_name.lower()
            if name == b"set-cookie" and value.partition(b"=")[0].strip() in self._names:
                return False  # a log-in or a log-out: the app's word counts
            if name in _FOR_SHARED_CACHES or name.endswith(b"-cdn-cache-control") or name == b"clear-site-data":
                return False
            if name == b"cache-control":
                cache_control.append(value)
        return status != 304 and (not cache_control or _is_private(b",".join(cache_control)))

    def put(self, headers: Headers, set_cookie: str) -> list[tuple[bytes, bytes]]:
        """The headers with the cookie; only where :meth:`allows` says so."""
        silent = all(name.lower() != b"cache-control" for name, _ in headers)
        added = [(b"cache-control", b"no-store")] if silent else []
        return [*headers, (b"set-cookie", set_cookie.encode("latin-1")), *added]


def _is_private(cache_control: bytes) -> bool:
    """It keeps the whole response from shared caches; ``private="a-field"`` keeps only that field."""
    value = _QUOTED.sub(b"", cache_control)
    said = [directive.strip().lower() for directive in value.split(b",")]
    return b'"' not in value and _any(said, _PRIVATE) and not _any((each.partition(b"=")[0] for each in said), _SHARED)


def _any(directives: Iterable[bytes], wanted: frozenset[bytes]) -> bool:
    return not wanted.isdisjoint(directives)
