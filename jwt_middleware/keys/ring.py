"""All keys of one authority. The first signs, all verify, the token's ``kid`` chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Final

from ..errors import ConfigError, Reason, Refusal
from .key import Key


class KeyRing:
    """Keys that stand in the configuration. Rotate by putting the new one first and ``verify_only`` on the old one.

    A token with a ``kid`` is verified by the key of that name alone, one without tries only keys without.

    Raises:
        ConfigError: The keys do not go together; the message says how to mend it.
    """

    def __init__(self, keys: Sequence[Key]) -> None:
        if not isinstance(keys, Sequence) or not keys or not all(isinstance(key, Key) for key in keys):
            raise ConfigError("a key ring needs at least one key, in a list: KeyRing([Key.hmac(…)])")
        self.keys: Final = tuple(
            key if key.kid else replace(key, id=f"key-{place}") for place, key in enumerate(keys, start=1)
        )
        self._refuse_confusion()
        self.signing: Final = next((key for key in self.keys if key.can_sign), None)
        """The first key; None where no key of the ring can sign."""
        self.usable_until: Final = inf
        self._kids: Final = frozenset(key.kid for key in self.keys)
        self._found: Final = {
            (kid, alg): tuple(key for key in self.keys if key.kid == kid and alg in key.names)
            for kid, alg in {(key.kid, alg) for key in self.keys for alg in key.names}
        }

    def find(self, kid: str | None, alg: str) -> Sequence[Key]:
        """The keys that may have signed a token with this header.

        Raises:
            Refusal: ``key_unknown``, or ``algorithm_mismatch`` where the token names another algorithm than the key.
        """
        found = self._found.get((kid, alg))
        if found is None:
            raise Refusal(Reason.ALGORITHM_MISMATCH if kid in self._kids else Reason.KEY_UNKNOWN)
        return found

    async def refresh(self, kid: str | None) -> bool:
        """Nothing to fetch: a restart brings new keys."""
        return False

    def _refuse_confusion(self) -> None:
        ids = [key.id for key in self.keys]
        if doubled := next((name for name in ids if ids.count(name) > 1), None):
            raise ConfigError(f"two keys have the kid {doubled!r}: give each its own")
        if len({key.symmetric for key in self.keys if key.kid is None}) > 1:
            raise ConfigError("without a kid, secrets and key pairs cannot stand side by side: give them a kid each")
        first = self.keys[0]
        if not first.can_sign and any(key.can_sign for key in self.keys):
            raise ConfigError("the first key signs, and this one only verifies: put the one that signs first")
        if first.can_sign and first.until is not None:
            raise ConfigError("the first key signs, so it has no end: put its successor first, or leave out until=")

    def __repr__(self) -> str:
        return f"KeyRing({list(self.keys)!r})"
