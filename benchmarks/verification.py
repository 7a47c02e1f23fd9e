"""A token that is not cached, by algorithm: verified, and read to its session, against the libraries."""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from authlib.deprecate import AuthlibDeprecationWarning
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc import jwk, jws
from joserfc import jwt as joserfc
from joserfc.errors import JoseError, SecurityWarning

from jwt_middleware import Key, KeyRing, SessionAuthority

from . import world
from .measure import FULL, Effort, Line, Rounds, Section, Spread, Table, in_turns, median, ratio
from .peers import ANOTHER_SECRET
from .steps import REQUIRED, Reader, authenticating, decoding, token_step, verifying
from .world import LEEWAY, OWN, SECRET, WINDOW, Session

STEP, VERIFY, WHOLE = "ours, the token step", "ours, `await authority.verify`", "ours, `await authority.authenticate`"
PYJWT = "PyJWT"
OF_SESSION = ("exp", "iat", "userId", "companyId")
"""The claims that ours requires for a session without a store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """One algorithm, a private key, and another key that no contender has."""

    alg: str
    private: bytes
    another: bytes

    def sign(self, claims: Mapping[str, Any]) -> str:
        return jwt.encode(dict(claims), self.private, algorithm=self.alg, headers=OWN)

    def bad(self, required: Sequence[str], *, lifetime: bool) -> dict[str, str]:
        """Tokens by their only defect; ``lifetime`` adds one that lives too long."""
        claims, now = world.claims(), int(time.time())
        wrong = {
            "expired": {"iat": now - 7200, "auth_time": now - 7200, "exp": now - 3600},
            "of the future": {"iat": now + 3600, "exp": now + 7200},
        }
        if lifetime:
            wrong["longer than the window"] = {"exp": now + 2 * WINDOW}
        return {
            "forged": jwt.encode(claims, self.another, algorithm=self.alg, headers=OWN),
            **{f"without {name}": self.sign({n: claims[n] for n in claims if n != name}) for name in required},
            **{name: self.sign({**claims, **spoiled}) for name, spoiled in wrong.items()},
        }

    @property
    def public(self) -> bytes:
        key = serialization.load_pem_private_key(self.private, password=None)
        kind = serialization.PublicFormat.SubjectPublicKeyInfo
        return key.public_key().public_bytes(serialization.Encoding.PEM, kind)

    def authority(self, **settings: Any) -> SessionAuthority[Session]:
        alg = "RS256" if self.alg == "RS256" else None  # the other kinds of keys have one algorithm
        key = Key.hmac(self.private) if self.alg == "HS256" else Key.pem(self.private, alg=alg)
        return world.authority(keys=KeyRing([key]), **settings)


def run(effort: Effort = FULL) -> Section:
    world.quiet()
    section = Section(tables=[_verified(), _read()])
    others = _keys(ANOTHER_SECRET)
    with asyncio.Runner() as runner, warnings.catch_warnings():
        warnings.simplefilter("ignore", AuthlibDeprecationWarning)  # it recommends joserfc
        warnings.simplefilter("ignore", SecurityWarning)  # EdDSA is renamed
        for alg, private in _keys(SECRET).items():
            signing = Signing(alg=alg, private=private, another=others[alg])
            _by_algorithm(runner.get_loop(), effort, signing, section)
    return section


def _verified() -> Table:
    return Table(
        title="A token verified for the first time",
        note="Microseconds. All check the signature, `exp` and `iat`, and require the claims "
        f"{_listed(REQUIRED)}. Only ours refuses a life longer than the window, an `auth_time` after `iat`, and a "
        "duplicate member; it caches parsed headers. "
        "`await authority.verify` adds the digest, a cache lookup, and the payload version.",
    )


def _read() -> Table:
    return Table(
        title="From a token to its session, for the first time",
        note="Microseconds. All check the signature, `exp`, `iat` and a life of at most the window, and require "
        f"the claims {_listed(OF_SESSION)}; all make the same session, the libraries by hand. Ours has "
        "no store; it takes the token from an Authorization header, counts it and caches it: its cache has room for "
        "one token and gets two in turn, so that each is a miss.",
    )


def _by_algorithm(loop: asyncio.AbstractEventLoop, effort: Effort, signing: Signing, section: Section) -> None:
    verified, read = section.tables
    both = [world.claims(jti=jti) for jti in ("one", "two")]
    tokens = {signing.sign(claims): claims for claims in both}
    readers, bad = _verifying(signing), signing.bad(REQUIRED, lifetime=False)
    alone = _turns(loop, effort, signing.alg, verified, readers, tokens, bad)
    sessions = dict.fromkeys(tokens, world.user())
    readers, bad = _making_sessions(signing), signing.bad(OF_SESSION, lifetime=True)
    whole = _turns(loop, effort, signing.alg, read, readers, sessions, bad)
    if signing.alg == "HS256":
        by = ratio(alone, STEP, PYJWT), ratio(alone, VERIFY, PYJWT), ratio(whole, WHOLE, PYJWT)
        section.lines.append(_line(*by))


def _turns(
    loop: asyncio.AbstractEventLoop,
    effort: Effort,
    alg: str,
    table: Table,
    readers: Mapping[str, Reader],
    good: Mapping[str, object],
    bad: Mapping[str, str],
) -> Rounds:
    """Prove each reader, then time them in turns; the first is ours."""
    for name, reader in readers.items():
        reader.prove(loop, f"{name} ({alg})", good, bad)
    contenders = {name: reader.accepting(loop, list(good)) for name, reader in readers.items()}
    hashed = alg == "HS256"
    found = in_turns(contenders, rounds=effort.of(100 if hashed else 30), number=effort.of(60 if hashed else 30))
    for name in found:
        took = median(found, name)
        table.rows.append(
            {
                "algorithm": alg,
                "contender": name,
                "µs": round(took, 2),
                "middle half": took.half(),
                "× ours": round(ratio(found, name, next(iter(found))), 2),
                "× PyJWT": round(ratio(found, name, PYJWT), 2),
            }
        )
    return found


def _line(step: Spread, verify: Spread, whole: Spread) -> Line:
    return Line(
        what="cache miss of an HS256 token, the token step alone (signature and registered claims), against "
        "`jwt.decode` requiring the same claims",
        budget="≤ 0.25",
        measured=f"{step:.3f}; {verify:.2f} by `await authority.verify`; {whole:.2f} from the token to its session, by "
        "`await authority.authenticate` against `jwt.decode` and the session by hand",
        met=step <= 0.25,
        spread=f"{step.half(3)}; {verify.half()}; {whole.half()}",
    )


def _keys(secret: str) -> dict[str, bytes]:
    made: dict[str, Any] = {
        "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {"HS256": secret.encode(), **{alg: key.private_bytes(*pem) for alg, key in made.items()}}


def _verifying(signing: Signing) -> dict[str, Reader]:
    authority = signing.authority()
    return {STEP: token_step(authority), VERIFY: verifying(authority), **_libraries(signing, REQUIRED)}


def _making_sessions(signing: Signing) -> dict[str, Reader]:
    ours = authenticating(signing.authority(store=None, cache_entries=1))
    libraries = _libraries(signing, OF_SESSION)
    return {WHOLE: ours, **{name: _by_hand(reader) for name, reader in libraries.items()}}


def _by_hand(reader: Reader) -> Reader:
    """What an app writes behind its library."""

    def read(token: str) -> Session:
        claims = reader.read(token)
        if claims["exp"] - claims["iat"] > WINDOW + LEEWAY:
            raise reader.refusal
        return Session(
            user_id=claims["userId"],
            company_id=claims["companyId"],
            role=claims["role"],
            email=claims["email"],
            environment=claims["environment"],
        )

    return Reader(read=read, refusal=reader.refusal)


def _libraries(signing: Signing, required: Sequence[str]) -> dict[str, Reader]:
    """What can be built once is built once; PyJWT's HS256 secret is a string, as its documentation has it."""
    key: Any = SECRET if signing.alg == "HS256" else serialization.load_pem_public_key(signing.public)
    return {
        PYJWT: decoding(key, signing.alg, required),
        "joserfc": _joserfc(signing, required),
        "authlib": _authlib(signing, required),
    }


def _joserfc(signing: Signing, required: Sequence[str]) -> Reader:
    key: Any
    if signing.alg == "HS256":
        key = jwk.OctKey.import_key(signing.private)
    else:
        kinds: dict[str, Any] = {"RS256": jwk.RSAKey, "ES256": jwk.ECKey, "EdDSA": jwk.OKPKey}
        key = kinds[signing.alg].import_key(signing.public)
    essential: Any = {name: {"essential": True} for name in required}
    algorithms, registry = (
        jws.JWSRegistry(algorithms=[signing.alg]),
        joserfc.JWTClaimsRegistry(leeway=LEEWAY, **essential),
    )

    def read(token: str) -> Any:
        found = joserfc.decode(token, key, registry=algorithms)
        registry.validate(found.claims)
        return found.claims

    return Reader(read=read, refusal=JoseError)


def _authlib(signing: Signing, required: Sequence[str]) -> Reader:
    from authlib.jose import JsonWebKey, JsonWebToken
    from authlib.jose.errors import JoseError as AuthlibError

    hashed = signing.alg == "HS256"
    key = JsonWebKey.import_key(signing.private, {"kty": "oct"}) if hashed else JsonWebKey.import_key(signing.public)
    decoder, essential = JsonWebToken([signing.alg]), {name: {"essential": True} for name in required}

    def read(token: str) -> Any:
        claims = decoder.decode(token, key, claims_options=essential)
        claims.validate(leeway=LEEWAY)
        return claims

    return Reader(read=read, refusal=AuthlibError)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
