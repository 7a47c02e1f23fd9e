"""The keys of one authority: a key of one algorithm, and a ring of them, of which the first signs and all verify.

A key that cannot work, or that would weaken another one, fails here when it is constructed, and not at the first token.
"""

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
from .key_material import Material, attempt, from_jwk, from_pem, from_secret


class _KeyOptions(TypedDict, total=False):
    """Keyword arguments of :meth:`Key.hmac`, where the kind of key is not known before it is read."""

    alg: str | None
    kid: str | None
    verify_only: bool
    allow_short: bool
    foreign: bool
    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Key:
    """A key of one algorithm. Use :meth:`hmac`, :meth:`pem`, :meth:`jwk`, :meth:`from_env` or :meth:`from_file`."""

    id: str
    """Its name in metrics and logs: the ``kid``, or its place in the ring."""
    kid: str | None
    until: float | None
    """When it stops verifying, in seconds since the epoch."""
    can_sign: bool
    foreign: bool
    """It signed foreign tokens only, of the app's former code or of another issuer; it never signs here."""
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
        foreign: bool = False,
        until: datetime | None = None,
    ) -> Key:
        """A shared secret.

        Args:
            secret: At least as many bytes as the hash has (RFC 7518 section 3.2); a ``str`` is encoded in UTF-8.
            alg: HS256, HS384 or HS512.
            kid: Written into each token it signs. A token that names a ``kid`` is verified by that key alone.
            verify_only: Never sign with it: it is being retired.
            allow_short: Accept an older secret that is shorter than the hash; needs ``until``, and is ``foreign``.
            foreign: It signed foreign tokens only, which a line of ``also_accept`` must admit. It only verifies.
            until: When it stops verifying; an aware datetime.

        Raises:
            ConfigError: The key cannot be used; the message says how to fix it.
        """
        material = from_secret(secret, alg="HS256" if alg is None else alg, allow_short=allow_short)
        return cls._with(
            material, kid=kid, verify_only=verify_only, allow_short=allow_short, foreign=foreign, until=until
        )

    @classmethod
    def pem(
        cls,
        pem: str | bytes,
        *,
        alg: str | None = None,
        kid: str | None = None,
        verify_only: bool = False,
        foreign: bool = False,
        until: datetime | None = None,
        password: str | bytes | None = None,
    ) -> Key:
        """The text of a PEM file: a private key signs and verifies, a public key verifies.

        Args:
            pem: PKCS#8, PKCS#1 or SEC 1.
            alg: RS256 to PS512 for an RSA key, Ed448 for an Ed448 key. Other keys have one algorithm each.
            kid: As for :meth:`hmac`.
            verify_only: As for :meth:`hmac`.
            foreign: As for :meth:`hmac`.
            until: As for :meth:`hmac`.
            password: Of an encrypted private key.

        Raises:
            ConfigError: The key cannot be used; the message says how to fix it.
        """
        material = from_pem(pem, alg=alg, password=password)
        return cls._with(material, kid=kid, verify_only=verify_only, foreign=foreign, until=until)

    @classmethod
    def jwk(
        cls,
        jwk: Mapping[str, Any],
        *,
        alg: str | None = None,
        kid: str | None = None,
        verify_only: bool = False,
        allow_short: bool = False,
        foreign: bool = False,
        until: datetime | None = None,
    ) -> Key:
        """A JSON Web Key (RFC 7517); its ``alg``, ``kid``, ``use`` and ``key_ops`` are binding. Else as :meth:`hmac`.

        Raises:
            ConfigError: The key cannot be used; the message says how to fix it.
        """
        if not isinstance(jwk, Mapping):
            raise ConfigError(f"a JWK must be a mapping, got {type(jwk).__name__}; use json.loads(…) for its text")
        material = from_jwk(jwk, alg=_member(jwk, "alg", alg), allow_short=allow_short)
        kid = _member(jwk, "kid", kid)
        return cls._with(
            material, kid=kid, verify_only=verify_only, allow_short=allow_short, foreign=foreign, until=until
        )

    @classmethod
    def from_env(cls, name: str, **options: Unpack[_KeyOptions]) -> Key:
        """The key in an environment variable: a PEM, the JSON of a JWK, or else an HMAC secret.

        Raises:
            ConfigError: The key cannot be used; the message says how to fix it.
        """
        text = os.environ.get(name)
        if not text:
            raise ConfigError(f"the environment variable {name} is not set; put a secret, a PEM or a JWK into it")
        return cls._from_text(os.fsencode(text), options)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **options: Unpack[_KeyOptions]) -> Key:
        """The key in a file, as for :meth:`from_env`. Line breaks at its end are not part of a secret.

        Raises:
            ConfigError: The key cannot be used; the message says how to fix it.
        """
        octets = attempt(lambda: Path(path).read_bytes())
        if octets is None:
            raise ConfigError(f"the key file {os.fspath(path)} cannot be read; check its path and its permissions")
        return cls._from_text(octets.rstrip(b"\r\n"), options)

    @classmethod
    def _from_text(cls, octets: bytes, options: _KeyOptions) -> Key:
        text = octets.strip()  # to recognise a PEM or JWK: white space may belong to a secret
        if text.startswith(b"-----BEGIN"):
            if options.pop("allow_short", False):
                raise ConfigError("allow_short is for HMAC secrets only; remove it")
            return cls.pem(text, **options)  # type: ignore[misc]  # mypy does not see that allow_short is gone
        if text.startswith(b"{") and isinstance(jwk := attempt(lambda: json.loads(text)), dict):
            return cls.jwk(jwk, **options)
        return cls.hmac(octets, **options)

    @classmethod
    def _with(
        cls,
        material: Material,
        *,
        kid: str | None,
        verify_only: bool,
        foreign: bool,
        until: datetime | None,
        allow_short: bool = False,
    ) -> Key:
        if kid is not None and not is_kid(kid):
            raise ConfigError("a kid must have 1 to 128 characters out of A-Z a-z 0-9 . _ ~ : / + = @ -")
        if until is not None and (not isinstance(until, datetime) or until.tzinfo is None):
            raise ConfigError(f"until must be an aware datetime, got {until!r}; use datetime(…, tzinfo=UTC)")
        if allow_short and until is None:
            raise ConfigError("allow_short needs until=, the moment when the last valid token of that secret expires")
        foreign = foreign or allow_short
        can_sign = material.signing is not None and not verify_only and not foreign
        return cls(
            id=kid or "key",  # the ring replaces it by the key's place
            kid=kid,
            until=None if until is None else until.timestamp(),
            can_sign=can_sign,
            foreign=foreign,
            _material=material,
        )

    @property
    def alg(self) -> str:
        """The ``alg`` of the tokens it signs."""
        return self._material.alg

    @property
    def names(self) -> tuple[str, ...]:
        """The values of ``alg`` in the headers of tokens it verifies."""
        return self._material.names

    @property
    def symmetric(self) -> bool:
        return isinstance(self._material.verifying, bytes)

    def is_twin(self, other: Key) -> bool:
        """True if what one of them signed, the other verifies."""
        return bool(self._material.verifying == other._material.verifying)

    def verify(self, signing_input: bytes, signature: bytes) -> bool:
        """True if the signature is this key's (RFC 7515 section 5.2)."""
        material = self._material
        return material.algorithm.verify(signing_input, material.verifying, signature)

    def sign(self, signing_input: bytes) -> bytes:
        """The signature (RFC 7515 section 5.1).

        Raises:
            ConfigError: The key only verifies.
        """
        if not self.can_sign:
            raise ConfigError("this key only verifies; sign with a secret or a private key without verify_only")
        return self._material.algorithm.sign(signing_input, self._material.signing)

    def __repr__(self) -> str:
        return f"Key(id={self.id!r}, alg={self.alg!r}, can_sign={self.can_sign})"


def _member(jwk: Mapping[str, Any], name: str, argument: str | None) -> str | None:
    """The member of the JWK, else the caller's argument; they must not differ."""
    value: str | None = jwk.get(name, argument)
    if argument is not None and value != argument:
        raise ConfigError(f"{name}= contradicts the JWK; leave it out")
    return value


class KeyRing:
    """The configured keys. To rotate, put the new key first and set ``verify_only`` on the old one.

    A token with a ``kid`` is verified by the key of that name alone, a token without by the keys without.

    Raises:
        ConfigError: The keys do not go together; the message says how to fix it.
    """

    def __init__(self, keys: Sequence[Key]) -> None:
        if not isinstance(keys, Sequence) or not keys or not all(isinstance(key, Key) for key in keys):
            raise ConfigError("KeyRing needs a list of at least one Key; use KeyRing([Key.hmac(…)])")
        self.keys: Final = tuple(
            key if key.kid else replace(key, id=f"key-{place}") for place, key in enumerate(keys, start=1)
        )
        self._refuse_confusion()
        self.signing: Final = next((key for key in self.keys if key.can_sign), None)
        """The first key; None if no key of the ring can sign."""
        self.usable_until: Final = inf
        self._kids: Final = frozenset(key.kid for key in self.keys)
        self._candidates: Final = {
            (kid, alg): tuple(key for key in self.keys if key.kid == kid and alg in key.names)
            for kid, alg in {(key.kid, alg) for key in self.keys for alg in key.names}
        }

    def find(self, kid: str | None, alg: str) -> Sequence[Key]:
        """The keys that may have signed a token with this header.

        Raises:
            Refusal: ``key_unknown``, or ``algorithm_mismatch`` if the key has another algorithm.
        """
        candidates = self._candidates.get((kid, alg))
        if candidates is None:
            raise Refusal(Reason.ALGORITHM_MISMATCH if kid in self._kids else Reason.KEY_UNKNOWN)
        return candidates

    async def refresh(self, kid: str | None) -> bool:
        """False: configured keys change only with a restart."""
        return False

    def _refuse_confusion(self) -> None:
        ids = [key.id for key in self.keys]
        if repeated := next((name for name in ids if ids.count(name) > 1), None):
            raise ConfigError(f"two keys have the kid {repeated!r}; give each its own")
        # An attacker chooses alg: next to a secret, a public key could be passed off as one (RFC 8725 section 2.1).
        if len({key.symmetric for key in self.keys if key.kid is None}) > 1:
            raise ConfigError("secrets and key pairs must not be mixed without a kid; give each a kid")
        first = self.keys[0]
        if not first.can_sign and any(key.can_sign for key in self.keys):
            raise ConfigError("the first key signs, and this one only verifies; put the one that signs first")
        if first.can_sign and first.until is not None:
            raise ConfigError("the first key signs and must not end; put its successor first, or remove until=")

    def __repr__(self) -> str:
        return f"KeyRing({list(self.keys)!r})"
