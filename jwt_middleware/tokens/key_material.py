"""From a secret, a PEM or a JWK to a key of PyJWT and cryptography; weak keys and keys for other uses are refused.

The only module that imports those two packages. No error quotes a key: an exception of a vendor may (a
``UnicodeDecodeError`` carries all the bytes it could not decode), so it is never the context of ours.
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
_DIGEST_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}
_ED25519: Final = ("EdDSA", "Ed25519")
"""Two names of one algorithm (RFC 8037, RFC 9864). PyJWT supports only the first, and accepts an Ed448 key for it."""
_OKP: Final = (*_ED25519, "Ed448")
_INFERRED: Final = frozenset({"ES256", "ES384", "ES512", "EdDSA"})
"""The algorithms that need no ``alg``: RSA and HMAC keys have several each, and Ed448 must be named."""
_SMALL_PRIMES: Final = tuple(n for n in range(3, 170, 2) if all(n % divisor for divisor in range(3, n, 2)))
_PRIVATE: Final = (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)
_FAMILIES: Final[dict[str, Any]] = {"oct": HMACAlgorithm, "RSA": RSAAlgorithm, "EC": ECAlgorithm, "OKP": OKPAlgorithm}
_OCTETS: Final = ("k", "n", "e", "d", "p", "q", "dp", "dq", "qi", "x", "y")
_LOADING_ERRORS: Final = (ValueError, TypeError, KeyError, AttributeError, OSError, UnsupportedAlgorithm, PyJWTError)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Material:
    """A key that passed the checks, for one algorithm."""

    alg: str
    names: tuple[str, ...]
    """The values of ``alg`` in the headers of tokens it verifies."""
    algorithm: Algorithm
    verifying: Any
    signing: Any
    """None if it can only verify."""


def from_secret(secret: str | bytes, *, alg: str, allow_short: bool) -> Material:
    """An HMAC secret.

    Raises:
        ConfigError: It is shorter than the hash (RFC 7518 section 3.2), or it is the text of another kind of key.
    """
    if not isinstance(secret, (str, bytes)):
        raise ConfigError(f"the secret must be str or bytes, got {type(secret).__name__}; is its variable set?")
    octets = attempt(lambda: secret if isinstance(secret, bytes) else secret.encode("utf-8", "surrogateescape"))
    return _material(octets, alg, allow_short=allow_short)


def from_pem(pem: str | bytes, *, alg: str | None, password: str | bytes | None) -> Material:
    """A private or public key.

    Raises:
        ConfigError: It cannot be read, is too weak, or is not for ``alg``.
    """

    def load() -> object:
        text = pem.encode() if isinstance(pem, str) else pem
        phrase = password.encode() if isinstance(password, str) else password
        return load_pem_private_key(text, phrase) if b"PRIVATE KEY-----" in text else load_pem_public_key(text)

    loaded = attempt(load)
    if loaded is None:
        raise ConfigError("this PEM cannot be read; use the text of a key and its password (for a file: Key.from_file)")
    return _material(loaded, alg)


def from_jwk(jwk: Mapping[str, Any], *, alg: str | None, allow_short: bool) -> Material:
    """A JSON Web Key (RFC 7517). Without ``sign`` in its ``key_ops`` it only verifies.

    Raises:
        ConfigError: It cannot be read, is too weak, is not for ``alg``, or its ``use`` or ``key_ops`` forbid it.
    """
    members = dict(jwk)

    def load() -> object:
        if not all(is_base64url(members[name].encode("ascii")) for name in _OCTETS if name in members):
            return None
        key = _FAMILIES[members["kty"]].from_jwk(members)
        if isinstance(key, (ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)):  # PyJWT does not compare x with d
            public = to_base64url(key.public_key().public_bytes_raw())
            return key if members["x"].encode("ascii") == public else None
        return key

    loaded = attempt(load)
    if loaded is None:
        raise ConfigError("this JWK cannot be read; use kty oct, RSA, EC or OKP, with members in unpadded base64url")
    operations = attempt(lambda: frozenset(members.get("key_ops", ("sign", "verify"))))
    if members.get("use", "sig") != "sig" or not operations or not operations <= {"sign", "verify"}:
        raise ConfigError("this JWK is not for signatures; use one with use sig, and key_ops sign or verify")
    if "verify" not in operations and not isinstance(loaded, _PRIVATE):
        raise ConfigError("the key_ops of this JWK do not include verify; add it")
    return _material(loaded, alg, allow_short=allow_short, may_sign="sign" in operations)


def attempt(load: Callable[[], T]) -> T | None:
    """Return what ``load`` returns, or None if it cannot load a key. Its exception is dropped: it may quote the key."""
    try:
        return load()
    except _LOADING_ERRORS:
        return None


def _material(loaded: object, alg: str | None, *, allow_short: bool = False, may_sign: bool = True) -> Material:
    supported = _algorithms_of(loaded)
    if alg is None and supported and supported[0] in _INFERRED:
        alg = supported[0]  # the only one that a key of this kind can mean
    if alg is None or alg not in supported:
        problem = "this key needs alg=" if alg is None and supported else "this key does not support that alg"
        choices = "alg=" + " or ".join(map(repr, supported))
        raise ConfigError(f"{problem}; use {choices if supported else 'an HMAC, RSA, EC P-256/384/521 or Ed key'}")
    _refuse_weak(loaded, alg, allow_short=allow_short)
    algorithm = OKPAlgorithm() if alg in _OKP else get_default_algorithms()[alg]  # PyJWT registers EdDSA alone
    prepared = attempt(lambda: algorithm.prepare_key(loaded))
    if prepared is None:
        raise ConfigError("this secret is the text of another kind of key; use Key.pem or Key.jwk")
    private = isinstance(prepared, _PRIVATE)
    return Material(
        alg=alg,
        names=_ED25519 if alg in _ED25519 else (alg,),
        algorithm=algorithm,
        verifying=prepared.public_key() if private else prepared,
        signing=prepared if may_sign and (private or isinstance(prepared, bytes)) else None,
    )


def _algorithms_of(loaded: object) -> tuple[str, ...]:
    """The algorithms that a key supports."""
    if isinstance(loaded, bytes):
        return tuple(_DIGEST_BYTES)
    if isinstance(loaded, (rsa.RSAPrivateKey, rsa.RSAPublicKey)):
        return _RSA
    if isinstance(loaded, (ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey)):
        return _CURVES.get(loaded.curve.name, ())
    if isinstance(loaded, (ed25519.Ed25519PrivateKey, ed25519.Ed25519PublicKey)):
        return _ED25519
    return ("Ed448",) if isinstance(loaded, (ed448.Ed448PrivateKey, ed448.Ed448PublicKey)) else ()


def _refuse_weak(loaded: object, alg: str, *, allow_short: bool) -> None:
    if allow_short and not isinstance(loaded, bytes):
        raise ConfigError("allow_short is for HMAC secrets only; remove it")
    if isinstance(loaded, bytes) and len(loaded) < (1 if allow_short else _DIGEST_BYTES[alg]):
        raise ConfigError(
            f"a secret for {alg} needs at least {_DIGEST_BYTES[alg]} bytes (RFC 7518 section 3.2); use "
            f"secrets.token_bytes({_DIGEST_BYTES[alg]}), or keep an older one with allow_short=True, until=…"
        )
    if isinstance(loaded, rsa.RSAPrivateKey):
        loaded = loaded.public_key()
    if isinstance(loaded, rsa.RSAPublicKey) and (loaded.key_size < 2048 or loaded.public_numbers().e < 65537):
        raise ConfigError(
            "an RSA key needs 2048 bits and an exponent from 65537 (RFC 7518 section 3.3); make a new one"
        )
    if isinstance(loaded, rsa.RSAPublicKey) and _has_roca_fingerprint(loaded.public_numbers().n):
        raise ConfigError("this RSA key is of a flawed chip and can be factored (CVE-2017-15361); make a new one")


def _has_roca_fingerprint(modulus: int) -> bool:
    """True for the flawed generator: modulo every small prime, it is a power of 65537 (Nemec et al., 2017)."""
    return all(modulus % prime in {pow(65537, power, prime) for power in range(prime)} for prime in _SMALL_PRIMES)
