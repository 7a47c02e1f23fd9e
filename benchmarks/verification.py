"""A token alone: verified for the first time, by algorithm, against the libraries."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc import jwk
from joserfc import jwt as joserfc

from jwt_middleware import Key, KeyRing

from . import world
from .measure import FULL, Effort, Line, Section, Table, Timed, awaited, in_turns, median, ratio, repeated
from .steps import by_pyjwt, token_step
from .world import LEEWAY, REQUIRED, SECRET


def run(effort: Effort = FULL) -> Section:
    world.quiet()
    section = Section()
    table = Table(
        title="A token verified for the first time",
        note="Microseconds. Everybody checks the signature, `exp` and `iat`, and that the claims are there.",
    )
    with asyncio.Runner() as runner:
        for alg, private in _keys().items():
            _by_algorithm(runner.get_loop(), effort, alg, private, table, section)
    section.tables.append(table)
    return section


def _by_algorithm(
    loop: asyncio.AbstractEventLoop, effort: Effort, alg: str, private: bytes, table: Table, section: Section
) -> None:
    ours, token = _ours(loop, alg, private)
    contenders: dict[str, Timed] = {**ours, **_theirs(alg, private, token)}
    hashed = alg == "HS256"
    found = in_turns(contenders, rounds=effort.of(120 if hashed else 40), number=effort.of(100 if hashed else 40))
    for name in contenders:
        took = median(found, name)
        table.rows.append(
            {
                "algorithm": alg,
                "contender": name,
                "µs": round(took, 2),
                "middle half": took.half(),
                "× ours": round(ratio(found, name, "ours"), 2),
            }
        )
    if hashed:
        share = ratio(found, "ours", "PyJWT")
        section.lines.append(
            Line(
                what="first sight of an HS256 token, against `jwt.decode`",
                budget="≤ 0.25",
                measured=f"{share:.3f}",
                met=share <= 0.25,
                spread=share.half(3),
            )
        )


def _keys() -> dict[str, bytes]:
    made: dict[str, Any] = {
        "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {"HS256": SECRET.encode(), **{alg: key.private_bytes(*pem) for alg, key in made.items()}}


def _public(private: bytes) -> bytes:
    key = serialization.load_pem_private_key(private, password=None)
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _ours(loop: asyncio.AbstractEventLoop, alg: str, private: bytes) -> tuple[dict[str, Timed], str]:
    key = Key.hmac(private) if alg == "HS256" else Key.pem(private, alg=alg if alg == "RS256" else None)
    authority = world.authority(keys=KeyRing([key]))
    token = jwt.encode(world.claims(), private, algorithm=alg)
    contenders = {
        "ours": repeated(token_step(authority, token)),
        "ours, by `await authority.verify`": awaited(loop, lambda: authority.verify(token)),
    }
    return contenders, token


def _theirs(alg: str, private: bytes, token: str) -> dict[str, Timed]:
    """Their keys are built once; PyJWT's HS256 secret is a string, as its documentation has it."""
    key: Any = SECRET if alg == "HS256" else serialization.load_pem_public_key(_public(private))
    contenders = {
        "PyJWT": by_pyjwt(token, key, alg),
        "joserfc": _joserfc(alg, private, token),
        "authlib": _authlib(alg, private, token),
    }
    for name, call in contenders.items():
        _prove(name, call)
    return {name: repeated(call) for name, call in contenders.items()}


def _joserfc(alg: str, private: bytes, token: str) -> Callable[[], object]:
    key: Any
    if alg == "HS256":
        key = jwk.OctKey.import_key(private)
    else:
        kinds: dict[str, Any] = {"RS256": jwk.RSAKey, "ES256": jwk.ECKey, "EdDSA": jwk.OKPKey}
        key = kinds[alg].import_key(_public(private))
    essential: Any = {name: {"essential": True} for name in REQUIRED}
    registry = joserfc.JWTClaimsRegistry(leeway=LEEWAY, **essential)
    warnings.simplefilter("ignore")  # it warns of EdDSA's old name, each time

    def call() -> object:
        found = joserfc.decode(token, key, algorithms=[alg])
        registry.validate(found.claims)
        return found.claims

    return call


def _authlib(alg: str, private: bytes, token: str) -> Callable[[], object]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it announces joserfc as its successor
        from authlib.jose import JsonWebKey, JsonWebToken

    key = JsonWebKey.import_key(private, {"kty": "oct"}) if alg == "HS256" else JsonWebKey.import_key(_public(private))
    decoder, essential = JsonWebToken([alg]), {name: {"essential": True} for name in REQUIRED}

    def call() -> object:
        claims = decoder.decode(token, key, claims_options=essential)
        claims.validate(leeway=LEEWAY)
        return claims

    return call


def _prove(name: str, call: Callable[[], object]) -> None:
    """He reads the good token; that another one is refused is seen where tokens are forged."""
    found: Any = call()
    if found["userId"] != "42":
        raise SystemExit(f"{name} read something else")
