"""What a remembered session weighs, what it adds to a pause of the garbage collector, and what grows with what."""

from __future__ import annotations

import asyncio
import gc
import statistics
import tracemalloc
from dataclasses import make_dataclass
from time import perf_counter
from typing import Annotated, Any

import jwt
from starlette.middleware import Middleware

from jwt_middleware import Claim, JWTSessionMiddleware, SessionAuthority, SessionSchema

from . import peers, world
from .measure import Line, Section, Table, in_turns, median

SESSIONS = 100_000


def run() -> Section:
    world.quiet()
    section = Section()
    with asyncio.Runner() as runner:
        runner.run(_weight(section))
        _growth(runner.get_loop(), section)
    return section


def _tokens(authority: SessionAuthority[Any], count: int) -> list[bytes]:
    signer = authority.parts.pipeline._tokens
    return [
        signer.sign(
            world.claims(userId=str(n), email=f"user{n}@example.com", sid=f"0af76519-16cd-43dd-8448-{n:012x}")
        ).encode()
        for n in range(count)
    ]


async def _remember(authority: SessionAuthority[Any], tokens: list[bytes]) -> None:
    for token in tokens:
        outcome = await authority.authenticate([(b"cookie", b"__Host-session=" + token)])
        if outcome.session is None:
            raise SystemExit(f"refused: {outcome.reason}")


def _pause() -> float:
    """Milliseconds of a full collection: the median of seven."""
    pauses = []
    for _ in range(7):
        started = perf_counter()
        gc.collect()
        pauses.append((perf_counter() - started) * 1e3)
    return statistics.median(pauses)


async def _weight(section: Section) -> None:
    authority = world.authority(store=None, cache_entries=SESSIONS * 2)
    tokens = _tokens(authority, SESSIONS)
    await _remember(authority, tokens[:10])
    before_pause, before_objects = _pause(), len(gc.get_objects())
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    await _remember(authority, tokens)
    gc.collect()
    weight = (tracemalloc.get_traced_memory()[0] - before) / SESSIONS
    tracemalloc.stop()
    added, pause = len(gc.get_objects()) - before_objects, _pause()
    table = Table(title=f"{SESSIONS:,} remembered sessions", note="The token cache alone, as `tracemalloc` weighs it.")
    table.rows = [
        {"what": "bytes for each", "figure": round(weight)},
        {"what": "objects the garbage collector follows, added", "figure": added},
        {"what": "pause of a full collection before, ms", "figure": round(before_pause, 2)},
        {"what": "pause of a full collection after, ms", "figure": round(pause, 2)},
    ]
    section.tables.append(table)
    section.lines += [
        Line(
            what="memory for each cached session",
            budget="≤ 700 bytes",
            measured=f"{weight:.0f} bytes",
            met=weight <= 700,
        ),
        Line(
            what=f"objects that {SESSIONS:,} cached sessions add to what the garbage collector follows",
            budget="none for each",
            measured=f"{added} in all; pause {before_pause:.1f} → {pause:.1f} ms",
            met=added < SESSIONS / 100,
        ),
    ]


def _growth(loop: asyncio.AbstractEventLoop, section: Section) -> None:
    """A plain hit by how many sessions are remembered, how many claims it has, how many versions there were."""
    table = Table(title="Growth of a plain hit", note="Microseconds of a whole request; flat but for the claims.")
    by_sessions = {f"{count:,} sessions": _hit_among(loop, count) for count in (1_000, 100_000, 1_000_000)}
    by_claims = {f"{count} claims": _hit_of(loop, claims=count, versions=2) for count in (5, 20, 60)}
    by_versions = {f"{count} versions": _hit_of(loop, claims=20, versions=count) for count in (2, 10)}
    found = in_turns({**by_sessions, **by_claims, **by_versions}, rounds=20, number=200)
    table.rows = [{"with": name, "µs": round(median(found, name), 2)} for name in found]
    section.tables.append(table)


def _timed(loop: asyncio.AbstractEventLoop, authority: SessionAuthority[Any], given: list[Any]) -> Any:
    app = peers.bare(Middleware(JWTSessionMiddleware, authority=authority))

    async def many(number: int) -> float:
        turns = range(number)
        started = perf_counter()
        for n in turns:
            await app(world.scope(given[n % len(given)]), world.receive, world.send)
        return perf_counter() - started

    return lambda number: loop.run_until_complete(many(number))


def _hit_among(loop: asyncio.AbstractEventLoop, count: int) -> Any:
    """A million entries of other sessions are put into the table itself: each holds what a real one holds."""
    authority = world.authority(store=None, cache_entries=2_000_000)
    tokens = _tokens(authority, 100)
    loop.run_until_complete(_remember(authority, tokens))
    seen = authority.parts.pipeline.seen
    entry = next(iter(seen._entries.values()))
    for n in range(count - len(tokens)):
        seen.put(n.to_bytes(32, "big"), entry)
    return _timed(loop, authority, [world.cookie(token.decode()) for token in tokens])


def _hit_of(loop: asyncio.AbstractEventLoop, *, claims: int, versions: int) -> Any:
    fields: list[Any] = [("user_id", Annotated[str, Claim("userId")])]
    fields += [
        (f"claim_{n}", Annotated[str, Claim(since=2 + n % (versions - 1))], "a value") for n in range(claims - 1)
    ]
    cls = make_dataclass("Session", fields, frozen=True, slots=True, kw_only=True)
    schema = SessionSchema(cls, version=versions, subject="userId")
    base = world.authority(store=None)
    authority = SessionAuthority(schema, keys=base._settings.keys, telemetry=world.telemetry())
    payload = world.claims(version=versions, **{f"claim_{n}": "some value" for n in range(claims - 1)})
    token = jwt.encode(payload, world.SECRET, algorithm="HS256")
    loop.run_until_complete(_remember(authority, [token.encode()]))
    return _timed(loop, authority, [world.cookie(token)])
