"""From a secret, a PEM or a JWK to something that verifies: what is too weak or meant for something else ends here.

Nothing here quotes a key. Vendors' exceptions may (a ``UnicodeDecodeError`` carries all it could not decode), so they
are swallowed where they arise and never become the context of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from jwt import PyJWTError
from jwt.algorithms import Algorithm, ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm, get_default_algorithms

from ..errors import ConfigError
from .jws import is_base64url, to_base64url

T = TypeVar("T")
DIGEST_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}
_ED25519: Final = ("EdDSA", "Ed25519")
"""Two names of one algorithm (RFC 8037, RFC 9864). PyJWT knows the first, and would take an Ed448 key for it."""
_OKP: Final = (*_ED25519, "Ed448")
_INFERRED: Final = frozenset({"ES256", "ES384", "ES512", "EdDSA"})
"""Algorithms a key can only mean; RSA and HMAC have several each, and Ed448 has to be asked for."""
_SMALL_PRIMES: Final = tuple(n for n in range(3, 170, 2) if all(n % divisor for divisor in range(3, n, 2)))
_PRIVATE: Final = (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)
_FAMILIES: Final[dict[str, Any]] = {"oct": HMACAlgorithm, "RSA": RSAAlgorithm, "EC": ECAlgorithm, "OKP": OKPAlgorithm}
_OCTETS: Final = ("k", "n", "e", "d", "p", "q", "dp", "dq", "qi", "x", "y")
_TROUBLE: Final = (ValueError, TypeError, KeyError, AttributeError, OSError, UnsupportedAlgorithm, PyJWTError)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Material:
    """A key that may be used, for one algorithm."""

    alg: str
    names: tuple[str, ...]
    """The values of the header ``alg`` it answers to."""
    algorithm: Algorithm
    verifying: Any
    signing: Any
    """None where it can only verify."""


def from_secret(secret: str | bytes, *, alg: str, allow_short: bool) -> Material:
    """An HMAC secret.

    Raises:
        ConfigError: It is shorter than the hash (RFC 7518 section 3.2), or is a key of another kind.
    """
    if not isinstance(secret, (str, bytes)):
        raise ConfigError(f"the secret is {type(secret).__name__}, no text: is the variable it comes from set?")
    octets = quietly(lambda: secret if isinstance(secret, bytes) else secret.encode("utf-8", "surrogateescape"))
    return _checked(octets, alg, allow_short=allow_short)


def from_pem(pem: str | bytes, *, alg: str | None, password: str | bytes | None) -> Material:
    """A private or public key.

    Raises:
        ConfigError: It cannot be read, is too weak, or is not for ``alg``.
    """

    def load() -> object:
        text, phrase = (part.encode() if isinstance(part, str) else part for part in (pem, password))
        if b"PRIVATE KEY-----" in (text or b""):
            return load_pem_private_key(text or b"", phrase)
        return load_pem_public_key(text or b"")

    loaded = quietly(load)
    if loaded is None:
        raise ConfigError(
            "this PEM cannot be read: use the text of a private or a public key (of a file: Key.from_file), no "
            "certificate, and its password"
        )
    return _checked(loaded, alg)


def from_jwk(jwk: Mapping[str, Any], *, alg: str | None, allow_short: bool) -> Material:
    """A JSON Web Key (RFC 7517); ``key_ops`` may take signing from it.

    Raises:
        ConfigError: It cannot be read, is too weak, is not for ``alg``, or its ``use`` or ``key_ops`` forbid it.
    """
    members = dict(jwk)

    def load() -> object:
        if not all(is_base64url(members[name].encode("ascii")) for name in _OCTETS if name in members):
            return None
        key = _FAMILIES[members["kty"]].from_jwk(members)
        if isinstance(key, (ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)):  # RFC 8037 section 2: x is of that d
            public = to_base64url(key.public_key().public_bytes_raw())
            return key if members["x"].encode("ascii") == public else None
        return key

    loaded = quietly(load)
    if loaded is None:
        raise ConfigError("this JWK cannot be read: use kty oct, RSA, EC or OKP, its members in unpadded base64url")
    operations = quietly(lambda: frozenset(members.get("key_ops", ("sign", "verify"))))
    if members.get("use", "sig") != "sig" or not operations or not operations <= {"sign", "verify"}:
        raise ConfigError("this JWK is meant for something else: use one whose use is sig and key_ops sign or verify")
    if "verify" not in operations and not isinstance(loaded, _PRIVATE):
        raise ConfigError("the key_ops of this JWK forbid to verify: add verify to them")
    return _checked(loaded, alg, allow_short=allow_short, may_sign="sign" in operations)


def quietly(load: Callable[[], T]) -> T | None:
    """What ``load`` returns; None stands for its complaint."""
    try:
        return load()
    except _TROUBLE:
        return None


def _checked(loaded: object, alg: str | None, *, allow_short: bool = False, may_sign: bool = True) -> Material:
    suits = _suits(loaded)
    if alg is None and suits and suits[0] in _INFERRED:
        alg = suits[0]
    if alg is None or alg not in suits:
        named = " or ".join(map(repr, suits))
        wanted = f"use alg={named}" if suits else "use an HMAC, RSA, EC P-256/384/521 or Ed key"
        raise ConfigError(f"this key is not for {'any algorithm' if alg is None else 'that alg'}: {wanted}")
    _refuse_weak(loaded, alg, allow_short=allow_short)
    algorithm = OKPAlgorithm() if alg in _OKP else get_default_algorithms()[alg]
    prepared = quietly(lambda: algorithm.prepare_key(loaded))
    if prepared is None:
        raise ConfigError("this secret is the text of another kind of key: use Key.pem or Key.jwk for it")
    private = isinstance(prepared, _PRIVATE)
    return Material(
        alg=alg,
        names=_ED25519 if alg in _ED25519 else (alg,),
        algorithm=algorithm,
        verifying=prepared.public_key() if private else prepared,
        signing=prepared if may_sign and (private or isinstance(prepared, bytes)) else None,
    )


def _suits(loaded: object) -> tuple[str, ...]:
    """The algorithms a key can be used for."""
    if isinstance(loaded, bytes):
        return tuple(DIGEST_BYTES)
    if isinstance(loaded, (rsa.RSAPrivateKey, rsa.RSAPublicKey)):
        return _RSA
    if isinstance(loaded, (ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey)):
        return _CURVES.get(loaded.curve.name, ())
    if isinstance(loaded, (ed25519.Ed25519PrivateKey, ed25519.Ed25519PublicKey)):
        return _ED25519
    return ("Ed448",) if isinstance(loaded, (ed448.Ed448PrivateKey, ed448.Ed448PublicKey)) else ()


def _refuse_weak(loaded: object, alg: str, *, allow_short: bool) -> None:
    if allow_short and not isinstance(loaded, bytes):
        raise ConfigError("allow_short is for HMAC secrets: leave it out")
    if isinstance(loaded, bytes) and len(loaded) < (1 if allow_short else DIGEST_BYTES[alg]):
        raise ConfigError(
            f"a secret for {alg} has at least {DIGEST_BYTES[alg]} bytes (RFC 7518 section 3.2): make one with "
            f"secrets.token_bytes({DIGEST_BYTES[alg]}), or keep an old one with allow_short=True, until=…"
        )
    if isinstance(loaded, rsa.RSAPrivateKey):
        loaded = loaded.public_key()
    if isinstance(loaded, rsa.RSAPublicKey) and (loaded.key_size < 2048 or loaded.public_numbers().e < 65537):
        raise ConfigError(
            "an RSA key has at least 2048 bits and the exponent 65537 (RFC 7518 section 3.3): make a new one"
        )
    if isinstance(loaded, rsa.RSAPublicKey) and _is_of_roca(loaded.public_numbers().n):
        raise ConfigError("this RSA key comes from a chip whose keys can be factored (CVE-2017-15361): make a new one")


def _is_of_roca(modulus: int) -> bool:
    """The fingerprint of the flawed generator: modulo every small prime it is a power of 65537 (Nemec et al., 2017)."""
    return all(modulus % prime in {pow(65537, power, prime) for power in range(prime)} for prime in _SMALL_PRIMES)
