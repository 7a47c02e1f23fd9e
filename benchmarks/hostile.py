"""The cost of refusals: forged tokens by size, and hostile tokens by kind."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

import jwt
from starlette.middleware import Middleware

from jwt_middleware import JWTSessionMiddleware, SessionAuthority

from . import world
from .apps import always, bare, requests
from .measure import FULL, Effort, Line, Rounds, Section, Spread, Table, Timed, in_turns, median, ratio
from .peers import Peer, on_starlette, prove
from .steps import Reader, decoding, token_step, verifying

PERMISSIONS = (0, 60, 220)
"""Permissions in a forged token: 0.4, 2 and 7 kB."""
PAYLOAD = json.dumps(world.claims()).encode()[:100]
STEP, VERIFY, DECODE = "the token step", "`await authority.verify`", "`jwt.decode`"
OURS, THEIRS = "JWTSessionMiddleware", "AuthenticationMiddleware + PyJWT"
PAIRS = ((STEP, DECODE), (VERIFY, DECODE), (OURS, THEIRS))


def run(effort: Effort = FULL) -> Section:
    world.quiet()
    section = Section()
    claims = world.claims()
    valid = {jwt.encode(claims, world.SECRET, algorithm="HS256", headers=world.OWN): claims}
    with asyncio.Runner() as runner:
        _by_size(runner, world.authority(store=world.Everyone()), valid, effort, section)
        _by_kind(runner.get_loop(), verifying(world.authority()), valid, effort, section)
    return section


def _forged(permissions: int) -> str:
    return world.forged(permissions=[f"documents:read:{n:04d}" for n in range(permissions)])


def _by_size(
    runner: asyncio.Runner,
    authority: SessionAuthority[Any],
    valid: Mapping[str, object],
    effort: Effort,
    section: Section,
) -> None:
    """The token step, ``verify`` and whole requests, each against its peer, with valid tokens in between."""
    loop, (token,) = runner.get_loop(), valid
    forged = {len(token): token for token in map(_forged, PERMISSIONS)}
    bad = {f"forged, {size} bytes": token for size, token in forged.items()}
    readers = {STEP: token_step(authority), VERIFY: verifying(authority), DECODE: decoding()}
    for name, reader in readers.items():
        reader.prove(loop, name, valid, bad)
    apps = _apps(runner, authority, token, bad)
    between = {
        **{f"valid, {name}": reader.accepting(loop, [token]) for name, reader in readers.items()},
        **{f"valid, {name}": requests(loop, app, always(world.cookie(token))) for name, app in apps.items()},
    }
    by_size: dict[int, Rounds] = {}
    for size, attack in forged.items():
        refused: dict[str, Timed] = {
            **{name: reader.refusing(loop, attack) for name, reader in readers.items()},
            **{name: requests(loop, app, always(world.cookie(attack))) for name, app in apps.items()},
        }
        by_size[size] = in_turns(refused | between, rounds=effort.of(60), number=effort.of(40))
    section.tables.append(_sizes(by_size))
    largest = by_size[max(by_size)]
    section.lines.append(_line(*(ratio(largest, theirs, ours) for ours, theirs in PAIRS)))


def _sizes(by_size: Mapping[int, Rounds]) -> Table:
    table = Table(
        title="Forged tokens by size",
        note="Microseconds until the refusal, with valid tokens in between. The token step is what `jwt.decode` does; "
        "`await authority.verify` digests the token, too; the middlewares answer whole requests on Starlette with 401.",
    )
    for size, found in by_size.items():
        for ours, theirs in PAIRS:
            times = ratio(found, theirs, ours)
            table.rows.append(
                {
                    "bytes": size,
                    "ours": ours,
                    "µs": round(median(found, ours), 2),
                    "against": theirs,
                    "its µs": round(median(found, theirs), 2),
                    "× ours": round(times, 1),
                    "middle half": times.half(1),
                }
            )
    return table


def _apps(
    runner: asyncio.Runner, authority: SessionAuthority[Any], valid: str, forged: Mapping[str, str]
) -> dict[str, Any]:
    """Ours and the peer, proved; except for revoked tokens, because here every session is active in the store."""
    theirs = on_starlette.peers(valid)[THEIRS]
    bad = {wrong: headers for wrong, headers in theirs.bad.items() if wrong != "revoked"}
    bad |= {wrong: world.cookie(token) for wrong, token in forged.items()}
    ours = bare(Middleware(JWTSessionMiddleware, authority=authority))
    apps: dict[str, Peer] = {
        OURS: replace(theirs, app=ours, bad=bad),
        THEIRS: replace(theirs, bad={**theirs.bad, **bad}),
    }
    for name, peer in apps.items():
        runner.run(prove(name, peer))
    return {name: peer.app for name, peer in apps.items()}


def _line(step: Spread, verify: Spread, request: Spread) -> Line:
    return Line(
        what="refusing a forged 7 kB token, the token step alone, against `jwt.decode` of it",
        budget="≤ 1/20",
        measured=f"1/{step:.1f}; 1/{verify:.1f} by `await authority.verify`; 1/{request:.1f} as a whole request, "
        f"{OURS} against {THEIRS}",
        met=step >= 20,
        spread="; ".join(share.under_one() for share in (step, verify, request)),
    )


def _by_kind(
    loop: asyncio.AbstractEventLoop, ours: Reader, valid: Mapping[str, object], effort: Effort, section: Section
) -> None:
    attacks = _attacks()
    bad = {f"forged, {len(_forged(220))} bytes": _forged(220), **attacks}
    ours.prove(loop, "ours", valid, bad)
    contenders = {"valid": ours.accepting(loop, list(valid))}
    contenders |= {name: ours.refusing(loop, token) for name, token in bad.items()}
    found = in_turns(contenders, rounds=effort.of(60), number=effort.of(60))
    section.tables.append(_table(found))
    worst = max(attacks, key=lambda name: ratio(found, name, "valid"))
    most = ratio(found, worst, "valid")
    section.lines.append(
        Line(
            what="the costliest hostile token of any size, against a valid one, by `await authority.verify`",
            budget="≤ 3",
            measured=f"{most:.2f} ({worst})",
            met=most <= 3,
            spread=most.half(),
        )
    )


def _table(found: Rounds) -> Table:
    table = Table(
        title="Hostile tokens",
        note="Microseconds of `await authority.verify` until the refusal, and how many times a valid token's first "
        "sight that is.",
    )
    for name in found:
        times = ratio(found, name, "valid")
        table.rows.append(
            {
                "token": name,
                "µs": round(median(found, name), 2),
                "× valid": round(times, 2),
                "middle half": times.half(),
            }
        )
    return table


def _attacks() -> dict[str, str]:
    """Hostile tokens by kind and size."""
    return {
        "8 kB, header of small members": _token(b'"%d":1' % n for n in range(640)),
        "8 kB, header nested deep": _token([b'"x":' + b"[" * 2500 + b"]" * 2500]),
        "8 kB, header one long string": _token([b'"x":"' + b"a" * 5500 + b'"']),
        "8 kB, header one string of - and _": _token([b'"x":"' + b"?>~" * 1833 + b'"']),
        "8 kB, header one string beyond ASCII": _token([b'"x":"' + "\xff".encode() * 2750 + b'"']),
        "8 kB, header one string of escapes": _token([b'"x":"' + rb"\/" * 2750 + b'"']),
        "8 kB, header one name of escapes": _token([b'"' + rb"\/" * 2750 + b'":1']),
        "8 kB, header of 250 escapes and a string": _token([b'"x":"' + rb"\/" * 250 + b"?>~" * 1700 + b'"']),
        "8 kB, header of one kid after the other": _token([b'"kid":"a"'] * 250 + [b'"x":"' + b"a" * 3000 + b'"']),
        "8 kB, header of spaces": _token([b" " * 5500 + b'"x":1']),
        "8 kB, header one long number": _token([b'"x":0.' + b"1" * 5500]),
        "8 kB, header of short lists": _token([b'"x":[' + b",".join([b"[]"] * 1800) + b"]"]),
        "8 kB, signature": _token([b'"typ":"JWT"'])[:-43] + "-_" * 3900,
        "8 kB, dots": "." * 8000,
        "8 kB, no base64url in its last byte": "a" * 4000 + "." + "b" * 4000 + ".*",
        "64 kB": _token([b'"typ":"JWT"'], PAYLOAD * 480),
        "1 MiB": "a." * (1 << 19),
    }


def _token(members: Iterable[bytes], payload: bytes = PAYLOAD) -> str:
    """A token whose header has these members beside ``alg``, signed with another key."""
    header = b'{"alg":"HS256",' + b",".join(members) + b"}"
    signing_input = f"{_b64(header)}.{_b64(payload)}"
    return f"{signing_input}.{_b64(hmac.digest(b'x' * 32, signing_input.encode(), sha256))}"


def _b64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
