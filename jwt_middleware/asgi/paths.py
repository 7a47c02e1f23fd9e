"""Which paths need no session: patterns over the path of the ASGI scope, by whole segments."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from ..errors import ConfigError

_ENCODED: Final = re.compile("%(?:2e|2f|5c)|\ufffd", re.IGNORECASE)
"""A dot, a slash or a backslash that the server left encoded: a router that decodes it again sees another path.

The replacement character stands for bytes that the server could not decode; a router may decode them otherwise.
"""


class PublicPaths:
    """Paths by whole segments: ``/login`` is itself, ``/static/*`` everything below ``/static/``.

    Raises:
        ConfigError: A pattern that can match nothing.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        refuse_unless_strings(patterns, "public, optional and login paths", "['/login', '/static/*']")
        for pattern in patterns:
            below = pattern.removesuffix("/*")
            if (
                not pattern.startswith("/")
                or "*" in below
                or "?" in pattern
                or not (below in ("", "/") or _is_plain(below))
            ):
                raise ConfigError(
                    f"invalid path pattern {pattern!r}: write /login for one path, /static/* for all below it"
                )
        self.exact: Final = frozenset(pattern for pattern in patterns if not pattern.endswith("/*"))
        self.prefixes: Final = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("/*"))

    def match(self, scope: Mapping[str, Any]) -> bool:
        """True if ``scope["path"]`` less ``root_path`` is one of them; never if some router may rewrite the path."""
        path: str = scope["path"]
        if root := scope.get("root_path"):
            path = _without_root(path, root.rstrip("/"))
        return (path in self.exact or path.startswith(self.prefixes)) and _is_plain(path)


def refuse_unless_strings(given: object, what: str, example: str) -> None:
    """Find a bare string, or other things, where a list of strings is wanted.

    Raises:
        ConfigError: It shows an example.
    """
    if isinstance(given, str) or not isinstance(given, Collection) or not all(isinstance(each, str) for each in given):
        raise ConfigError(f"{what} must be a list of strings, got {given!r}; write {example}")


def _without_root(path: str, root: str) -> str:
    """The path as the app mounted at ``root`` sees it."""
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        return path[len(root) :] or "/"
    return path


def _is_plain(path: str) -> bool:
    """No empty or dot segment (a trailing slash makes none), backslash, control character or double encoding."""
    segments = path.split("/")[1:]
    if segments and segments[-1] == "":
        segments.pop()
    return (
        path.isprintable()
        and "\\" not in path
        and _ENCODED.search(path) is None
        and not any(segment in ("", ".", "..") for segment in segments)
    )
