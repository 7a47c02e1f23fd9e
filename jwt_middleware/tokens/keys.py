"""All keys of one authority. The first signs, all verify, the token's ``kid`` chooses."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import inf
from pathlib import Path
from typing import Any, Final, TypedDict, Unpack

from ..errors import ConfigError, Reason, Refusal
from .jws import is_kid
from .key_material import Material, from_jwk, from_pem, from_secret, quietly


class KeyOptions(TypedDict, total=False):
    """Keyword arguments that every constructor of a :class:`Key` takes; :meth:`Key.hmac` explains them."""

    alg: str | None
    kid: str | None
    verify_only: bool
    allow_short: bool
    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Key:
    """A key of one algorithm. Use :meth:`hmac`, :meth:`pem`, :meth:`jwk`, :meth:`from_env` or :meth:`from_file`."""

    id: str
    """Its name in metrics and logs: the ``kid``, or its place in the ring."""
    kid: str | None
    until: float | None
    """The end of verification with it, seconds since the epoch."""
    can_sign: bool
    adopted: bool
    """Kept for older tokens: ``allow_short``, or only verifying and with an end."""
    short: bool
    """Allowed to be shorter than its hash: nothing it signed is reissued."""
    _material: Material

    @classmethod
    def hmac(
        cls,
        secret: str | bytes,
        *,
        alg: str | None = "HS256",
        kid: str | None = None,
        verify_only: bool = False,
        allow_short: bool = False,
        until: datetime | None = None,
    ) -> Key:
        """A shared secret.

        Args:
            secret: At least as many bytes as the hash has (RFC 7518 section 3.2); a ``str`` is encoded in UTF-8.
            alg: HS256, HS384 or HS512.
            kid: Written into what it signs; a token that names a ``kid`` is verified by that key alone.
            verify_only: It never signs: it is being retired.
            allow_short: Accept an old secret shorter than the hash; needs ``until``.
            until: From then on it verifies nothing; an aware datetime.

        Raises:
            ConfigError: The message says how to mend it.
        """
        material = from_secret(secret, alg="HS256" if alg is None else alg, allow_short=allow_short)
        return cls._made(material, kid=kid, verify_only=verify_only, allow_short=allow_short, until=until)

    @classmethod
    def pem(
        cls,
        pem: str | bytes,
        *,
        alg: str | None = None,
        kid: str | None = None,
        verify_only: bool = False,
        until: datetime | None = None,
        password: str | bytes | None = None,
    ) -> Key:
        """The text of a PEM file: a private key signs and verifies, a public key verifies.

        Args:
            pem: PKCS#8, PKCS#1 or SEC 1.
            alg: RS256 to PS512 for RSA, Ed448 for Ed448; of other keys it is known.
            kid: As for :meth:`hmac`.
            verify_only: As for :meth:`hmac`.
            until: As for :meth:`hmac`.
            password: Of an encrypted private key.

        Raises:
            ConfigError: The message says how to mend it.
        """
        material = from_pem(pem, alg=alg, password=password)
        return cls._made(material, kid=kid, verify_only=verify_only, until=until)

    @classmethod
    def jwk(cls, jwk: Mapping[str, Any], **options: Unpack[KeyOptions]) -> Key:
        """A JSON Web Key (RFC 7517); what it says of ``alg``, ``kid``, ``use`` and ``key_ops`` holds.

        Raises:
            ConfigError: The message says how to mend it.
        """
        if not isinstance(jwk, Mapping):
            raise ConfigError("a JWK is an object: use json.loads(…) for its text")
        alg, kid = _agreed(jwk, "alg", options.get("alg")), _agreed(jwk, "kid", options.get("kid"))
        allow_short = options.get("allow_short", False)
        return cls._made(
            from_jwk(jwk, alg=alg, allow_short=allow_short),
            kid=kid,
            verify_only=options.get("verify_only", False),
            allow_short=allow_short,
            until=options.get("until"),
        )

    @classmethod
    def from_env(cls, name: str, **options: Unpack[KeyOptions]) -> Key:
        """The key in an environment variable: a PEM, the JSON of a JWK, or else an HMAC secret.

        Raises:
            ConfigError: The message says how to mend it.
        """
        text = os.environ.get(name)
        if not text:
            raise ConfigError(f"the environment variable {name} is not set: put a secret, a PEM or a JWK into it")
        return cls._of(os.fsencode(text), options)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **options: Unpack[KeyOptions]) -> Key:
        """The key in a file, as for :meth:`from_env`; line breaks at its end are no part of a secret.

        Raises:
            ConfigError: The message says how to mend it.
        """
        octets = quietly(lambda: Path(path).read_bytes())
        if octets is None:
            raise ConfigError(f"the key file {os.fspath(path)} cannot be read: check its path and its permissions")
        return cls._of(octets.rstrip(b"\r\n"), options)

    @classmethod
    def _of(cls, octets: bytes, options: KeyOptions) -> Key:
        text = octets.strip()
        if text.startswith(b"-----BEGIN"):
            if options.get("allow_short"):
                raise ConfigError("allow_short is for HMAC secrets: leave it out")
            named = ("alg", "kid", "verify_only", "until")
            return cls.pem(text, **{name: options[name] for name in named if name in options})  # type: ignore[literal-required]  # the names are keys of KeyOptions
        if text.startswith(b"{") and isinstance(jwk := quietly(lambda: json.loads(text)), dict):
            return cls.jwk(jwk, **options)
        return cls.hmac(octets, **options)

    @classmethod
    def _made(
        cls,
        material: Material,
        *,
        kid: str | None = None,
        verify_only: bool = False,
        allow_short: bool = False,
        until: datetime | None = None,
    ) -> Key:
        if kid is not None and not is_kid(kid):
            raise ConfigError("a kid has 1 to 128 characters out of A-Z a-z 0-9 . _ ~ : / + = @ -: choose another one")
        if until is not None and (not isinstance(until, datetime) or until.tzinfo is None):
            raise ConfigError("until is a moment and needs a time zone: use datetime(…, tzinfo=UTC)")
        if allow_short and until is None:
            raise ConfigError("allow_short needs until=: the moment from which no honest token of that secret is alive")
        can_sign = material.signing is not None and not verify_only
        return cls(
            id=kid or "key",
            kid=kid,
            until=None if until is None else until.timestamp(),
            can_sign=can_sign,
            adopted=allow_short or (not can_sign and until is not None),
            short=allow_short,
            _material=material,
        )

    @property
    def alg(self) -> str:
        """What it writes into the header of what it signs."""
        return self._material.alg

    @property
    def names(self) -> tuple[str, ...]:
        """The values of the header ``alg`` it answers to."""
        return self._material.names

    @property
    def symmetric(self) -> bool:
        return isinstance(self._material.verifying, bytes)

    def verify(self, signing_input: bytes, signature: bytes) -> bool:
        """Whether the signature is this key's (RFC 7515 section 5.2)."""
        material = self._material
        return material.algorithm.verify(signing_input, material.verifying, signature)

    def sign(self, signing_input: bytes) -> bytes:
        """The signature (RFC 7515 section 5.1).

        Raises:
            ConfigError: The key only verifies.
        """
        if not self.can_sign:
            raise ConfigError("this key only verifies: sign with one that has a private part and no verify_only")
        return self._material.algorithm.sign(signing_input, self._material.signing)

    def __repr__(self) -> str:
        return f"Key(id={self.id!r}, alg={self.alg!r}, can_sign={self.can_sign})"


def _agreed(jwk: Mapping[str, Any], name: str, said: str | None) -> str | None:
    """What the JWK says, else what the caller does."""
    found: str | None = jwk.get(name, said)
    if said is not None and found != said:
        raise ConfigError(f"{name}= contradicts the JWK: leave it out")
    return found


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
