"""The cost of a request by the pause of its session before it, as users pause between clicks.

A cache hit needs a session status that is at most half of ``max_staleness`` old (2.5 s by default). Up to
``max_staleness`` the store is queried in the background, after it before the request; a minute after its verification,
the token is verified again.
"""

from __future__ import annotations

import asyncio
from statistics import fmean
from time import process_time
from typing import Any

from starlette.middleware import Middleware

from jwt_middleware import JWTSessionMiddleware, MemorySessionStore, Revocation

from . import world
from .apps import bare
from .measure import FULL, Effort, Rounds, Section, Table, Timed, in_turns, over, ratio_over
from .peers.on_starlette import peers

ROUNDS, SESSIONS = 42, 200
PEER = "AuthenticationMiddleware + PyJWT"
AT_ONCE = 64
SHORT, CYCLE = "ours, 1 s after its last", 3
"""For every third request the status is older than 2.5 s."""
PAUSES: dict[str, float] = {
    "1 s": 1.0,
    "3 s": 3.0,
    "6 s": 6.0,
    "61 s": 61.0,
}


def run(effort: Effort = FULL) -> Section:
    world.quiet()
    with asyncio.Runner() as runner:
        loop, sessions = runner.get_loop(), effort.of(SESSIONS)
        made = {
            f"ours, {name} after its last": runner.run(_ours(loop, pause, sessions)) for name, pause in PAUSES.items()
        }
        together = {
            f"ours, {name} after its last, {AT_ONCE} users at once": runner.run(_ours(loop, pause, sessions, AT_ONCE))
            for name, pause in PAUSES.items()
            if pause > 5
        }
        given = [world.cookie(world.today())] * sessions
        apps = {"bare": bare(), PEER: peers("")[PEER].app}
        base = {name: _timed(loop, app, given) for name, app in apps.items()}
        found = in_turns({**base, **made, **together}, rounds=effort.of(ROUNDS), number=sessions)
    table = Table(
        title="A request after a pause of its session",
        note=f"Microseconds of CPU over the bare app, by default 5 s `max_staleness`; {sessions} sessions "
        "in turn, a store in memory that answers at once. The query is in it: one alone, or one for many at once.",
    )
    found[SHORT] = _cycles(found, SHORT)
    for name in (PEER, *made, *together):
        cost = over(found, name, "bare")
        times = round(ratio_over(found, name, PEER, "bare"), 2)
        table.rows.append(
            {"contender": name, "µs over bare": round(cost, 1), "middle half": cost.half(1), "× the peer": times}
        )
    return Section(tables=[table])


def _cycles(found: Rounds, name: str) -> list[float]:
    """Average costs over whole cycles: a median would be the cost of the middle request."""
    costs = [mine - bare for mine, bare in zip(found[name], found["bare"], strict=True)]
    means = [fmean(costs[place - place % CYCLE :][:CYCLE]) for place in range(len(costs))]
    return [bare + mean for bare, mean in zip(found["bare"], means, strict=True)]


async def _ours(loop: asyncio.AbstractEventLoop, pause: float, sessions: int, at_once: int = 1) -> Timed:
    clock = world.Ahead()
    authority = world.authority(store=MemorySessionStore(), revocation=Revocation(), clock=clock)
    given = [world.cookie((await authority.issue(world.user(n))).token) for n in range(sessions)]
    app = bare(Middleware(JWTSessionMiddleware, authority=authority, public=["/login", "/static/*"]))
    for headers in given:
        if await world.answer(app, headers) != (200, b"ok"):
            raise SystemExit("refused")
    timed = _timed(loop, app, given, at_once)

    def after(number: int) -> float:
        clock.skipped += pause
        return timed(number)

    return after


def _timed(loop: asyncio.AbstractEventLoop, app: Any, given: list[world.Headers], at_once: int = 1) -> Timed:
    """One request of each, ``at_once`` at a time, with the work in the background."""

    async def client(coming: Any) -> None:
        for headers in coming:
            await app(world.scope(headers), world.receive, world.send)

    async def all_of_them(number: int) -> float:
        coming = iter(given[:number])
        started = process_time()
        await asyncio.gather(*(client(coming) for _ in range(at_once)))
        for _ in range(10):  # background work finishes
            await asyncio.sleep(0)
        return process_time() - started

    return lambda number: loop.run_until_complete(all_of_them(number))
