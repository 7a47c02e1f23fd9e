"""Names that look like secrets: what a token carries, its bearer can read (RFC 7519 section 12)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

SECRET_CLAIMS: Final = ("password", "passwd", "secret", "api key", "private key", "card", "ssn")
"""The deny-list: words as they stand in a name, whatever its spelling (``apiKey``, ``api_key``, ``API-KEY``)."""

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


class SecretClaims:
    """Finds claims, at any depth, whose name says that they must not be in a token."""

    def __init__(self, denied: Iterable[str]) -> None:
        self._denied: Final = tuple(tuple(phrase.lower().split()) for phrase in denied)

    def named(self, name: str) -> bool:
        """The name contains a denied phrase as whole words or written together (``apikey``), or its plural."""
        words = [word.lower() for word in _WORD.findall(name)]
        return any(_contains(words, phrase) for phrase in self._denied if phrase)

    def within(self, value: object) -> Iterator[str]:
        """The denied names among the keys of nested JSON objects."""
        if isinstance(value, dict):
            for name, inner in value.items():
                if self.named(str(name)):
                    yield str(name)
                yield from self.within(inner)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                yield from self.within(inner)


def _contains(words: Sequence[str], phrase: Sequence[str]) -> bool:
    """``phrase`` stands somewhere in ``words``; the last word of it may have an ``s``."""
    together = "".join(phrase)
    if together in words or f"{together}s" in words:
        return True
    for at in range(len(words) - len(phrase) + 1):
        *start, last = words[at : at + len(phrase)]
        if start == list(phrase[:-1]) and last in (phrase[-1], f"{phrase[-1]}s"):
            return True
    return False
