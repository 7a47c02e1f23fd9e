"""A token alone: verified for the first time, by algorithm; and what hostile ones cost, by kind and size."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import warnings
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc import jwk
from joserfc import jwt as joserfc

from jwt_middleware import Key, KeyRing, Refusal, SessionAuthority

from . import world
from .measure import Line, Section, Table, Timed, awaited, in_turns, median, ratio, repeated
from .world import LEEWAY, REQUIRED, SECRET

OPTIONS: Any = {"require": REQUIRED}
FORGED_CLAIMS = {"permissions": [f"documents:read:{n:04d}" for n in range(220)]}


def run() -> Section:
    world.quiet()
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        section = Section()
        _by_algorithm(loop, section)
        _hostile(loop, section)
    return section


def _by_algorithm(loop: asyncio.AbstractEventLoop, section: Section) -> None:
    table = Table(
        title="A token verified for the first time",
        note="Microseconds. Everybody checks the signature, `exp` and `iat`, and that the claims are there.",
    )
    for alg, private in _keys().items():
        ours, token = _ours(loop, alg, private)
        contenders: dict[str, Timed] = {**ours, **_theirs(alg, private, token)}
        found = in_turns(contenders, rounds=30, number=100 if alg == "HS256" else 40)
        table.rows += [
            {
                "algorithm": alg,
                "contender": name,
                "µs": round(median(found, name), 2),
                "× ours": round(ratio(found, name, "ours"), 2),
            }
            for name in contenders
        ]
        if alg == "HS256":
            share = ratio(found, "ours", "PyJWT")
            section.lines.append(
                Line(
                    what="first sight of an HS256 token, against `jwt.decode`",
                    budget="≤ 0.25",
                    measured=f"{share:.2f}",
                    met=share <= 0.25,
                )
            )
    section.tables.append(table)


def _keys() -> dict[str, Any]:
    made = {
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
        "ours": repeated(_step(authority, token)),
        "ours, by `await authority.verify`": awaited(loop, lambda: authority.verify(token)),
    }
    return contenders, token


def _step(authority: SessionAuthority[Any], token: str) -> Callable[[], object]:
    """The token step alone, as ``jwt.decode`` is called alone; a refusal ends it."""
    tokens, octets = authority.parts.pipeline._tokens, token.encode()

    def call() -> object:
        try:
            return tokens.check(tokens.open(octets), payload_version=2)
        except Refusal:
            return None

    return call


def _theirs(alg: str, private: bytes, token: str) -> dict[str, Timed]:
    key = private if alg == "HS256" else serialization.load_pem_public_key(_public(private))
    contenders = {
        "PyJWT": lambda: jwt.decode(token, key, algorithms=[alg], leeway=LEEWAY, options=OPTIONS),
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

    def call() -> object:
        found = joserfc.decode(token, key, algorithms=[alg])
        registry.validate(found.claims)
        return found.claims

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of EdDSA's old name
        call()
    warnings.simplefilter("ignore")
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
    found: Any = call()
    if found["userId"] != "42":
        raise SystemExit(f"{name} read something else")


def _hostile(loop: asyncio.AbstractEventLoop, section: Section) -> None:
    authority = world.authority()
    honest = jwt.encode(world.claims(), SECRET, algorithm="HS256")
    forged = world.forged(**FORGED_CLAIMS)

    def ours(token: str) -> Timed:
        async def refused() -> None:
            try:
                await authority.verify(token)
            except Refusal:
                return

        return awaited(loop, refused)

    def theirs(token: str) -> Timed:
        def refused() -> None:
            try:
                jwt.decode(token, SECRET, algorithms=["HS256"], leeway=LEEWAY, options=OPTIONS)
            except jwt.PyJWTError:
                return

        return repeated(refused)

    tokens = {f"forged, {len(forged)} bytes": forged, **_attacks()}
    contenders = {
        "honest": ours(honest),
        "honest, PyJWT": theirs(honest),
        "forged, PyJWT": theirs(forged),
        "forged, the token step alone": repeated(_step(authority, forged)),
    }
    found = in_turns({**contenders, **{name: ours(token) for name, token in tokens.items()}}, rounds=30, number=60)
    table = Table(
        title="Hostile tokens",
        note="Microseconds until it is refused, and how many times an honest token's first sight that is.",
    )
    table.rows = [
        {"token": name, "µs": round(median(found, name), 2), "× honest": round(ratio(found, name, "honest"), 2)}
        for name in found
    ]
    section.tables.append(table)
    share = ratio(found, "forged, the token step alone", "forged, PyJWT")
    worst = max(tokens, key=lambda name: ratio(found, name, "honest"))
    most = ratio(found, worst, "honest")
    section.lines += [
        Line(
            what="refusing a forged 7 kB token, against `jwt.decode` of it",
            budget="≤ 1/20",
            measured=f"1/{1 / share:.1f}",
            met=share <= 1 / 20,
        ),
        Line(
            what="the costliest hostile token of any size, against an honest one",
            budget="≤ 3",
            measured=f"{most:.2f} ({worst})",
            met=most <= 3,
        ),
    ]


def _attacks() -> dict[str, str]:
    """By kind and size; those of the last group are signed by us, by an issuer that was taken over."""

    def b64(octets: bytes) -> str:
        return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()

    def token(header: bytes, payload: bytes, secret: bytes = b"x" * 32) -> str:
        signing_input = f"{b64(header)}.{b64(payload)}"
        return f"{signing_input}.{b64(hmac.digest(secret, signing_input.encode(), sha256))}"

    plain = json.dumps(world.claims()).encode()
    ok = b'{"alg":"HS256","typ":"JWT"}'
    return {
        "8 kB, header of small members": token(
            b'{"alg":"HS256",' + b",".join(b'"%d":1' % n for n in range(640)) + b"}", plain[:100]
        ),
        "8 kB, header nested deep": token(b'{"alg":"HS256","x":' + b"[" * 2500 + b"]" * 2500 + b"}", plain[:100]),
        "8 kB, header one long string": token(b'{"alg":"HS256","x":"' + b"a" * 5500 + b'"}', plain[:100]),
        "8 kB, header one string of - and _": token(b'{"alg":"HS256","x":"' + b"?>~" * 1833 + b'"}', plain[:100]),
        "8 kB, header one string beyond ASCII": token(
            b'{"alg":"HS256","x":"' + "\xff".encode() * 2750 + b'"}', plain[:100]
        ),
        "8 kB, dots": "." * 8000,
        "8 kB, no base64url in its last byte": "a" * 4000 + "." + "b" * 4000 + ".*",
        "64 kB": token(ok, b"x" * 48_000),
        "1 MiB": "a." * (1 << 19),
    }
