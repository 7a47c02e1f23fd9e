"""What grows with what: a plain hit, a first sight and a fallback from the cache, by sessions, claims and versions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import make_dataclass
from typing import Annotated, Any

import jwt
from starlette.middleware import Middleware

from jwt_middleware import Claim, JWTSessionMiddleware, Key, KeyRing, SessionAuthority, SessionSchema, source
from jwt_middleware.testing import old_token

from . import world
from .apps import Coming, always, around, bare, requests
from .measure import FULL, Effort, Rounds, Section, Table, Timed, in_turns, median, ratio
from .tokens import emails, remember, signed, unseen

SESSIONS = (1_000, 100_000, 1_000_000)
CLAIMS = (5, 20, 60)
VERSIONS = (2, 10)
TURNED = 1_000
"""Sessions that take turns, so that each look into the table goes somewhere else."""
Three = dict[str, Coming]
"""Requests by the kind of answer they get."""


def run(effort: Effort = FULL) -> Section:
    world.quiet()
    table = Table(
        title="Growth", note="Microseconds of a whole request on Starlette, and how many times the first line."
    )
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        given = {
            "sessions": {f"{count:,}": _among(runner, effort.of(count), effort.of(TURNED)) for count in SESSIONS},
            "claims": {f"{count}": _of(runner, claims=count, versions=2) for count in CLAIMS},
            "versions": {f"{count}": _of(runner, claims=20, versions=count) for count in VERSIONS},
        }
        for what, by_count in given.items():
            rows = [{"with": f"{count} {what}"} for count in by_count]
            for kind in ("plain hit", "first sight", "fallback from the cache"):
                timed = {count: _timed(loop, *made, kind) for count, made in by_count.items()}
                number = effort.of(200 if kind == "plain hit" else 50)
                _fill(rows, kind, in_turns(timed, rounds=effort.of(40), number=number))
            table.rows += rows
    return Section(tables=[table])


def _timed(loop: asyncio.AbstractEventLoop, authority: SessionAuthority[Any], three: Three, kind: str) -> Timed:
    return requests(loop, bare(Middleware(JWTSessionMiddleware, authority=authority)), three[kind])


def _fill(rows: list[dict[str, str]], kind: str, found: Rounds) -> None:
    first = next(iter(found))
    for row, count in zip(rows, found, strict=True):
        row[kind] = f"{median(found, count):.1f} ({ratio(found, count, first):.2f} ×)"


def _among(runner: asyncio.Runner, count: int, turned: int) -> tuple[SessionAuthority[Any], Three]:
    """The other sessions are put into the tables themselves: each entry holds what a real one holds."""
    authority = world.authority(store=None, cache_entries=2_000_000, sources=[emails])
    tokens = signed(authority, min(turned, count))
    olds = [old_token(authority, {"userId": str(n), "companyId": "acme"}) for n in range(len(tokens))]
    known = authority.parts.known
    runner.run(remember(authority, tokens[:1]))
    entry = next(iter(known.seen._entries.values()))
    for n in range(count - 2 * len(tokens)):
        known.seen.put(n.to_bytes(32, "big"), entry)
    runner.run(remember(authority, [*tokens, *(old.encode() for old in olds)]))
    return authority, {
        "plain hit": around([world.cookie(token.decode()) for token in tokens]),
        "first sight": unseen(authority, tokens[0].decode()),
        "fallback from the cache": around([world.cookie(old) for old in olds]),
    }


def _of(runner: asyncio.Runner, *, claims: int, versions: int) -> tuple[SessionAuthority[Any], Three]:
    """A session class of so many claims, which came by so many versions; the last one has a source."""
    names = [f"claim_{n}" for n in range(claims - 1)]
    fields: list[Any] = [("user_id", Annotated[str, Claim("userId")])]
    fields += [(name, Annotated[str, Claim(since=2 + n % (versions - 1))], "a value") for n, name in enumerate(names)]
    cls = make_dataclass("Session", fields, frozen=True, slots=True, kw_only=True)
    schema: SessionSchema[Any] = SessionSchema(cls, version=versions, subject="userId")

    @source(names[-1])
    async def values(keys: Iterable[str]) -> dict[str, dict[str, str]]:
        return {key: {names[-1]: "some value"} for key in keys}

    authority = SessionAuthority(
        schema, keys=KeyRing([Key.hmac(world.SECRET)]), telemetry=world.telemetry(), sources=[values]
    )
    payload = world.claims(version=versions, **dict.fromkeys(names, "some value"))
    token = jwt.encode(payload, world.SECRET, algorithm="HS256")
    old = old_token(authority, {"userId": "42", **dict.fromkeys(names[:-1], "some value")}, version=versions - 1)
    runner.run(remember(authority, [token.encode(), old.encode()]))
    return authority, {
        "plain hit": always(world.cookie(token)),
        "first sight": unseen(authority, token),
        "fallback from the cache": always(world.cookie(old)),
    }
