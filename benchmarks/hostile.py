"""What it costs to refuse: forged tokens by size, and hostile ones by kind."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from jwt_middleware import Refusal, SessionAuthority

from . import world
from .measure import FULL, Effort, Line, Rounds, Section, Table, Timed, awaited, in_turns, median, ratio, repeated
from .steps import by_pyjwt, token_step

PERMISSIONS = (0, 60, 220)
"""How many a forged token claims: 0.4, 2 and 7 kB."""
PAYLOAD = json.dumps(world.claims()).encode()[:100]


def run(effort: Effort = FULL) -> Section:
    world.quiet()
    section = Section()
    with asyncio.Runner() as runner:
        authority = world.authority()
        _by_size(authority, effort, section)
        _by_kind(runner.get_loop(), authority, effort, section)
    return section


def _forged(permissions: int) -> str:
    return world.forged(permissions=[f"documents:read:{n:04d}" for n in range(permissions)])


def _by_size(authority: SessionAuthority[Any], effort: Effort, section: Section) -> None:
    """The token step against ``jwt.decode``, which parses before it verifies."""
    table = Table(
        title="Forged tokens by size",
        note="Microseconds until it is refused, the token step alone; honest ones in between, as a server sees them.",
    )
    honest, share = world.today(), None
    between = {"honest": repeated(token_step(authority, honest)), "honest, PyJWT": repeated(by_pyjwt(honest))}
    for permissions in PERMISSIONS:
        token = _forged(permissions)
        ours, theirs = token_step(authority, token), by_pyjwt(token)
        if ours() is not None or theirs() is not None:
            raise SystemExit("a forged token was accepted")
        contenders = {"ours": repeated(ours), "PyJWT": repeated(theirs), **between}
        found = in_turns(contenders, rounds=effort.of(60), number=effort.of(60))
        share = ratio(found, "PyJWT", "ours")
        table.rows.append(
            {
                "bytes": len(token),
                **{f"{name}, µs": round(median(found, name), 2) for name in ("ours", "PyJWT")},
                "PyJWT × ours": round(share, 1),
                "middle half": share.half(1),
            }
        )
    section.tables.append(table)
    if share is not None:
        section.lines.append(
            Line(
                what="refusing a forged 7 kB token, against `jwt.decode` of it",
                budget="≤ 1/20",
                measured=f"1/{share:.1f}",
                met=share >= 20,
                spread=share.under_one(),
            )
        )


def _by_kind(
    loop: asyncio.AbstractEventLoop, authority: SessionAuthority[Any], effort: Effort, section: Section
) -> None:
    honest = world.today()
    tokens = {"honest": honest, f"forged, {len(_forged(220))} bytes": _forged(220), **_attacks()}
    contenders = {name: _verified(loop, authority, token) for name, token in tokens.items()}
    found = in_turns(contenders, rounds=effort.of(60), number=effort.of(60))
    section.tables.append(_table(found))
    worst = max(_attacks(), key=lambda name: ratio(found, name, "honest"))
    most = ratio(found, worst, "honest")
    section.lines.append(
        Line(
            what="the costliest hostile token of any size, against an honest one",
            budget="≤ 3",
            measured=f"{most:.2f} ({worst})",
            met=most <= 3,
            spread=most.half(),
        )
    )


def _table(found: Rounds) -> Table:
    table = Table(
        title="Hostile tokens",
        note="Microseconds of `await authority.verify` until it is refused, and how many times an honest token's first "
        "sight that is.",
    )
    for name in found:
        times = ratio(found, name, "honest")
        table.rows.append(
            {
                "token": name,
                "µs": round(median(found, name), 2),
                "× honest": round(times, 2),
                "middle half": times.half(),
            }
        )
    return table


def _verified(loop: asyncio.AbstractEventLoop, authority: SessionAuthority[Any], token: str) -> Timed:
    async def call() -> None:
        try:
            await authority.verify(token)
        except Refusal:
            return

    return awaited(loop, call)


def _attacks() -> dict[str, str]:
    """By kind and size."""
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
    """A header with these members beside ``alg``, a payload, and a signature of somebody."""
    header = b'{"alg":"HS256",' + b",".join(members) + b"}"
    signing_input = f"{_b64(header)}.{_b64(payload)}"
    return f"{signing_input}.{_b64(hmac.digest(b'x' * 32, signing_input.encode(), sha256))}"


def _b64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
