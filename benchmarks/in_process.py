"""One request in process: what each contender costs over the bare app of its own framework."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

import jwt
from starlette.middleware import Middleware

from jwt_middleware import JWTSessionMiddleware, SessionAuthority, source
from jwt_middleware.testing import old_token

from . import peers, world
from .measure import Line, Rounds, Section, Table, Timed, in_turns, median, over, ratio_over
from .peers import Peer
from .world import Headers

ROUNDS, NUMBER = 40, 300
OURS = "ours: plain hit"
PEER = "AuthenticationMiddleware + PyJWT"


def run() -> Section:
    world.quiet()
    with asyncio.Runner() as runner:
        groups, checks = runner.run(_contenders(runner.get_loop()))
        rounds: Rounds = {}
        for contenders in groups:  # apart: the interpreter adapts shared code to whoever ran it last
            rounds |= in_turns(contenders, rounds=ROUNDS, number=NUMBER)
    return Section(tables=[_table(rounds, checks)], lines=_lines(rounds))


async def _contenders(loop: asyncio.AbstractEventLoop) -> tuple[list[dict[str, Timed]], dict[str, Peer]]:
    authority = world.authority(sources=[_emails])
    token = (await authority.issue(world.user())).token
    ours = peers.bare(Middleware(JWTSessionMiddleware, authority=authority, public=["/login", "/static/*"]))
    on_fastapi = peers.bare_fastapi(Middleware(JWTSessionMiddleware, authority=authority, public=["/login"]))
    good, bad = world.cookie(token), world.cookie(world.forged())
    checked = {
        OURS: Peer(app=ours, good=good, bad=bad, base="Starlette", checks="all of it, strictly"),
        "ours: plain hit by Bearer": Peer(
            app=ours, good=world.bearer(token), bad=world.bearer(world.forged()), base="Starlette", checks="the same"
        ),
        "ours: plain hit on FastAPI": Peer(app=on_fastapi, good=good, bad=bad, base="FastAPI", checks="the same"),
        **peers.starlettes(token),
        **peers.fastapi(token),
    }
    litestar = peers.litestar(token)
    checked["Litestar JWTCookieAuth"] = litestar["Litestar JWTCookieAuth"]
    for name, peer in checked.items():
        await peers.prove(name, peer)
    old = world.cookie(old_token(authority, {"userId": "42", "companyId": "acme"}, sid=await _sid(authority)))
    starlette = {
        "Starlette": _requests(loop, peers.bare(), good),
        "empty pass-through": _requests(loop, peers.bare(Middleware(peers.PassThrough)), good),
        "ours: first sight": await _first_sight(loop, authority, ours),
        "ours: refused, no token": _requests(loop, ours, world.headers()),
        "ours: refused, forged": _requests(loop, ours, bad),
        "ours: fallback from the cache": _requests(loop, ours, old),
    }
    others = {
        "FastAPI": {"FastAPI": _requests(loop, peers.bare_fastapi(), good)},
        "Litestar": {"Litestar": _requests(loop, litestar["Litestar"].app, good)},
    }
    for name, peer in checked.items():
        others.get(peer.base, starlette)[name] = _requests(loop, peer.app, peer.good)
    return [starlette, *others.values()], checked


@source("email")
async def _emails(keys: Any) -> dict[str, dict[str, str]]:
    return {key: {"email": f"user{key}@example.com"} for key in keys}


async def _sid(authority: SessionAuthority[Any]) -> str:
    return (await authority.issue(world.user())).session_id


def _requests(loop: asyncio.AbstractEventLoop, app: Any, given: Headers) -> Timed:
    async def many(number: int) -> float:
        turns = range(number)
        started = perf_counter()
        for _ in turns:
            await app(world.scope(given), world.receive, world.send)
        return perf_counter() - started

    return lambda number: loop.run_until_complete(many(number))


async def _first_sight(loop: asyncio.AbstractEventLoop, authority: SessionAuthority[Any], app: Any) -> Timed:
    """Tokens that nobody saw, of a session whose status is known: verified, upgraded, built, remembered."""
    issued = await authority.issue(world.user())
    claims = jwt.decode(issued.token, options={"verify_signature": False})
    signer = authority.parts.pipeline._tokens
    tokens = [world.cookie(signer.sign({**claims, "jti": f"{n:08d}"})) for n in range(NUMBER)]

    async def many(number: int) -> float:
        authority.parts.pipeline.seen.clear()
        turns = range(number)
        started = perf_counter()
        for n in turns:
            await app(world.scope(tokens[n % len(tokens)]), world.receive, world.send)
        return perf_counter() - started

    return lambda number: loop.run_until_complete(many(number))


def _table(rounds: Rounds, checks: dict[str, Peer]) -> Table:
    table = Table(
        title="One request in process",
        note="Microseconds over the bare app of the same framework, and how many times our plain hit that is. "
        "Requests carry a browser's 16 headers and three cookies.",
    )
    bases = {"Starlette", "FastAPI", "Litestar"}
    for name in rounds:
        if name in bases:
            continue
        base = checks[name].base if name in checks else "Starlette"
        table.rows.append(
            {
                "contender": name,
                "over": base,
                "µs over bare": round(over(rounds, name, base), 2),
                "× our plain hit": round(ratio_over(rounds, name, OURS, base, "Starlette"), 2),
                "checks": checks[name].checks if name in checks else "",
            }
        )
    table.rows.sort(key=lambda row: row["µs over bare"])
    for base in sorted(bases):
        table.rows.append({"contender": f"bare {base}, whole request", "µs over bare": round(median(rounds, base), 2)})
    return table


def _lines(rounds: Rounds) -> list[Line]:
    times = ratio_over(rounds, PEER, OURS, "Starlette")
    return [
        Line(
            what="plain hit, revocation and metrics on, against AuthenticationMiddleware + `jwt.decode`",
            budget="≤ 1/12",
            measured=f"1/{times:.1f}",
            met=times >= 12,
        ),
    ]
