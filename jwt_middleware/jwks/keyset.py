"""From the bytes of a JSON Web Key Set (RFC 7517 section 5) to a ring of keys that verify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .. import strict
from ..errors import ConfigError, Reason, Refusal
from ..keys import Key, KeyRing
from .endpoint import NoKeySet

MOST_KEYS: Final = 100
_SECRET: Final = frozenset(("k", "d", "p", "q", "dp", "dq", "qi", "oth"))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class KeySet:
    """The usable keys of a set."""

    ring: KeyRing
    members: Sequence[Mapping[str, Any]]
    """As they were written."""

    def keeps(self, earlier: KeySet) -> bool:
        """Whether every key of the earlier set is still here, unchanged."""
        return all(member in self.members for member in earlier.members)


def read(body: bytes, rsa_alg: str) -> KeySet:
    """The keys that can be used; the others are passed over, as is every one after the first of the same ``kid``.

    Raises:
        NoKeySet: It is no strict JSON, has too many keys, or none that can be used.
    """
    try:
        written = strict.parse_object(body, Reason.KEYS_UNAVAILABLE).get("keys")
    except Refusal:
        raise NoKeySet from None
    if not isinstance(written, list) or len(written) > MOST_KEYS:
        raise NoKeySet
    usable: list[tuple[Key, Mapping[str, Any]]] = []
    kids: set[str] = set()
    for member in written:
        key = _key(member, rsa_alg)
        if key is not None and key.kid not in kids:
            usable.append((key, member))
            kids.update(() if key.kid is None else (key.kid,))
    try:
        return KeySet(ring=KeyRing([key for key, _ in usable]), members=[member for _, member in usable])
    except ConfigError:
        raise NoKeySet from None


def _key(member: object, rsa_alg: str) -> Key | None:
    """One key of the set; None where it is a secret, private though published, weak, or not for signatures."""
    if not isinstance(member, dict) or not _SECRET.isdisjoint(member) or member.get("kty") == "oct":
        return None
    alg = {"alg": rsa_alg} if member.get("kty") == "RSA" and "alg" not in member else {}
    try:
        return Key.jwk({**member, **alg}, verify_only=True)
    except ConfigError:
        return None
