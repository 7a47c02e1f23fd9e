"""How costs grow: of a cache hit, a cache miss and a cached fallback, with sessions, claims and versions."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import make_dataclass
from datetime import timedelta
from typing import Annotated, Any

import jwt
from starlette.middleware import Middleware

from jwt_middleware import (
    Claim,
    JWTSessionMiddleware,
    Key,
    KeyRing,
    LookupLimits,
    SessionAuthority,
    SessionSchema,
    source,
)
from jwt_middleware.names import FALLBACK_CLAIMS, SOURCE, VERIFICATIONS
from jwt_middleware.testing import old_token

from . import world
from .apps import Coming, always, bare, requests
from .crowd import SHOWN, Token, anyone, cache_claims, crowd, digests, numbered, user
from .measure import FULL, Effort, Rounds, Section, Table, in_turns, median, over, ratio
from .tokens import OLD, emails, remember, unseen

SESSIONS = (1_000, 100_000, 1_000_000)
CLAIMS = (5, 20, 60)
VERSIONS = (2, 10)
HIT, FIRST, FALLBACK = "cache hit", "cache miss", "fallback from the cache"
Contender = tuple[SessionAuthority[Any], Mapping[str, Coming]]
"""An authority, and requests by the path that they take through it."""
Rows = dict[str, dict[str, str]]


def run(effort: Effort = FULL) -> Section:
    world.quiet()
    table = Table(
        title="Growth",
        note="Microseconds of a whole request on Starlette; in brackets the ratio to the first line, and "
        "the difference, with its middle half. Sessions: as many are cached (old ones for the fallback), "
        "and each request is of a random one of them; a cache miss is of another. Claims and versions: one "
        "request repeated. Without a store.",
    )
    sessions: Rows = {f"{count:,} sessions": {} for count in SESSIONS}
    claims: Rows = {f"{count} claims": {} for count in CLAIMS}
    versions: Rows = {f"{count} versions": {} for count in VERSIONS}
    with asyncio.Runner() as runner:
        _fill(runner, effort, sessions, _today(runner, effort))
        _fill(runner, effort, sessions, _old(runner, effort))  # after the others are freed: either is a gigabyte
        _fill(runner, effort, claims, [_of(runner, claims=count, versions=2) for count in CLAIMS])
        _fill(runner, effort, versions, [_of(runner, claims=20, versions=count) for count in VERSIONS])
    table.rows = [{"with": what, **row} for what, row in {**sessions, **claims, **versions}.items()]
    return Section(tables=[table])


def _fill(runner: asyncio.Runner, effort: Effort, rows: Rows, asked: list[Contender]) -> None:
    """Add a column for each path; its contenders take turns."""
    apps = [bare(Middleware(JWTSessionMiddleware, authority=authority)) for authority, _ in asked]
    for kind in asked[0][1]:
        timed = {
            what: requests(runner.get_loop(), app, coming[kind])
            for what, app, (_, coming) in zip(rows, apps, asked, strict=True)
        }
        runner.run(prove(kind, asked))
        found = in_turns(timed, rounds=effort.of(40), number=effort.of(200 if kind == HIT else 50))
        runner.run(prove(kind, asked))  # again: no entry expired meanwhile
        for what, row in rows.items():
            row[kind] = _cell(found, what, next(iter(rows)))


async def prove(kind: str, asked: list[Contender]) -> None:
    """Check that the requests are accepted on the path they are named for; end the run otherwise."""
    for authority, coming in asked:
        for request in coming[kind](10):
            before = _counted(authority)
            outcome = await authority.authenticate(request)
            raised = _counted(authority) - before
            by = FIRST if raised[VERIFICATIONS.name] else FALLBACK if raised["cache"] else HIT
            if outcome.session is None or by != kind:
                raise SystemExit(f"{kind}: {by} {outcome.reason}")


def _counted(authority: SessionAuthority[Any]) -> Counter[str]:
    """The counters of an authority, by metric; filled claims by their source."""
    counts: Counter[str] = Counter()
    for metric, attributes, count in authority.parts.counters.series():
        counts[dict(attributes)[SOURCE] if metric is FALLBACK_CLAIMS else metric.name] += count
    return counts


def _cell(found: Rounds, what: str, first: str) -> str:
    if what == first:
        return f"{median(found, what):.1f}"
    more = over(found, what, first)
    return f"{median(found, what):.1f} ({ratio(found, what, first):.2f} ×, {more:+.1f}: {more.half(1)})"


def _today(runner: asyncio.Runner, effort: Effort) -> list[Contender]:
    """Cached sessions of today's payload."""
    token = numbered(_claims())
    return [
        (authority, {HIT: anyone(token, count), FIRST: unseen(authority, token(0).decode())})
        for authority, count in _crowds(runner, effort, token)
    ]


def _old(runner: asyncio.Runner, effort: Effort) -> list[Contender]:
    """Cached sessions of an old payload, with their users' claims in the cache."""
    token = numbered({name: _claims()[name] for name in (*OLD, "iat", "exp", "auth_time", "sid")})
    made = _crowds(runner, effort, token)
    for authority, count in made:
        runner.run(cache_claims(authority, count))
    return [(authority, {FALLBACK: anyone(token, count)}) for authority, count in made]


def _claims() -> dict[str, Any]:
    me = user(SHOWN)
    return world.claims(userId=me, sid=f"0af76519-16cd-43dd-8448-{me}", email=f"user{me}@example.com")


def _crowds(runner: asyncio.Runner, effort: Effort, token: Token) -> list[tuple[SessionAuthority[Any], int]]:
    counts = [effort.of(count) for count in SESSIONS]
    keys, made = digests(token, max(counts)), []
    for count in counts:
        authority = world.authority(
            store=None, cache_entries=2_000_000, sources=[emails], lookups=LookupLimits(ttl=timedelta(hours=1))
        )
        runner.run(crowd(authority, token, keys[:count]))
        made.append((authority, count))
    return made


def _of(runner: asyncio.Runner, *, claims: int, versions: int) -> Contender:
    """A session class with a number of claims, spread over versions; the last claim has a source."""
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
    token = jwt.encode(payload, world.SECRET, algorithm="HS256", headers=world.OWN)
    old = old_token(authority, {"userId": "42", **dict.fromkeys(names[:-1], "some value")}, version=versions - 1)
    runner.run(remember(authority, [token.encode(), old.encode()]))
    return authority, {
        HIT: always(world.cookie(token)),
        FIRST: unseen(authority, token),
        FALLBACK: always(world.cookie(old)),
    }
