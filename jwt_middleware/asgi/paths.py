"""Which paths need no session, and which requests another site may have forged. Pure functions of the ASGI scope."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from ..errors import ConfigError

_ENCODED: Final = re.compile("%(?:2e|2f|5c)|\ufffd", re.IGNORECASE)
"""A dot, a slash or a backslash that the server left encoded: whoever decodes it once more sees another path.

The replacement character stands for bytes that the server could not decode, and somebody else might.
"""


class PublicPaths:
    """Paths by whole segments: ``/login`` is itself, ``/static/*`` everything below ``/static/``.

    Raises:
        ConfigError: A pattern that can match nothing.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        _refuse_unless_listed(patterns, "paths are a list of strings: ['/login', '/static/*']")
        for pattern in patterns:
            below = pattern.removesuffix("/*")
            if (
                not pattern.startswith("/")
                or "*" in below
                or "?" in pattern
                or not (below in ("", "/") or _plain(below))
            ):
                raise ConfigError(f"{pattern!r} is no path: write /login for one, /static/* for all below it")
        self.exact: Final = frozenset(pattern for pattern in patterns if not pattern.endswith("/*"))
        self.below: Final = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("/*"))

    def match(self, scope: Mapping[str, Any]) -> bool:
        """Whether ``scope["path"]`` less ``root_path`` is one of them; never a path that some router may rewrite."""
        path: str = scope["path"]
        if root := scope.get("root_path"):
            path = _below(path, root.rstrip("/"))
        return (path in self.exact or path.startswith(self.below)) and _plain(path)


def _refuse_unless_listed(given: object, mend: str) -> None:
    if isinstance(given, str) or not isinstance(given, Collection) or not all(isinstance(each, str) for each in given):
        raise ConfigError(f"{mend}, and not {given!r}")


def _below(path: str, root: str) -> str:
    """The path as the app mounted at ``root`` sees it."""
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        return path[len(root) :] or "/"
    return path


def _plain(path: str) -> bool:
    """No empty or dot segment (a trailing slash is none), no backslash, no control character, nothing encoded twice."""
    segments = path.split("/")[1:]
    if segments and segments[-1] == "":
        segments.pop()
    return (
        path.isprintable()
        and "\\" not in path
        and _ENCODED.search(path) is None
        and not any(segment in ("", ".", "..") for segment in segments)
    )
