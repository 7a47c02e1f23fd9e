"""One request in process: the cost of each contender over the bare app of its framework."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import jwt
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from jwt_middleware import JWTSessionMiddleware, SessionAuthority, SessionStatus

from . import world
from .apps import always, at_random, bare, body_of, requests
from .measure import FULL, Effort, Line, Rounds, Section, Table, Timed, in_turns, median, over, ratio_over
from .peers import REVOKED_SESSIONS, Carried, Peer, bad, everyone, on_fastapi, prove, shown
from .tokens import emails, old_request, remember, signed, unseen

NUMBER = 150
ROUNDS = {"Starlette": 100, "FastAPI": 60, "Litestar": 60}
"""Rounds by framework; its bare app has the same name. The budget is for the first."""
SESSIONS = 50_000
"""Enough that the processor's caches rarely hold the session of the next request."""
PEER = "AuthenticationMiddleware + PyJWT"
Peers = Callable[[str], dict[str, Peer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """The package, a token of a session that its store knows, and a request whose token lacks a claim."""

    authority: SessionAuthority[Any]
    token: str
    old: world.Headers


class Store(world.Everyone):
    """Every session is active, except those that are revoked for the peers too."""

    async def statuses(self, keys: Collection[Any]) -> Any:
        return {key: SessionStatus(known=True, active=key.session_id not in REVOKED_SESSIONS) for key in keys}


def hit_on(framework: str) -> str:
    return f"ours on {framework}: cache hit"


def run(effort: Effort = FULL, peers: Peers = everyone) -> Section:
    world.quiet()
    table = Table(
        title="One request in process",
        note="Microseconds over the bare app of the same framework, and how many times our cache hit on it that is, "
        "in the same rounds. Requests carry a browser's 16 headers and three cookies; by default it is "
        "one token again and again. Every handler reads the session; the bare app's finds none. What the store "
        "answered holds for the run: asking it is in the next table.",
    )
    with asyncio.Runner() as runner:
        ours = runner.run(_ours())
        theirs = peers(ours.token)
        proved = {**theirs, **_on_their_frameworks(ours, theirs)}
        for name, peer in proved.items():
            runner.run(prove(name, peer))
        found: dict[str, Rounds] = {}
        for framework in (name for name in ROUNDS if name in proved):
            group = _group(runner.get_loop(), framework, ours, proved)
            found[framework] = _turns(group, framework, effort)
            table.rows += _rows(framework, found[framework], proved)
        sessions = effort.of(SESSIONS)
        among = f"{sessions:,} sessions at random"
        many = _turns(_among(runner, sessions, ours, proved), "Starlette", effort)
        table.rows += _rows("Starlette", many, proved, f", {among}")
    return Section(tables=[table], lines=[_line(found["Starlette"], many, among)])


async def _ours() -> Ours:
    authority = world.authority(store=Store(), sources=[emails])
    token = (await authority.issue(world.user())).token
    return Ours(authority=authority, token=token, old=await old_request(authority))


def _on_their_frameworks(ours: Ours, theirs: dict[str, Peer]) -> dict[str, Peer]:
    """Our package as ``docs/frameworks.md`` says; proved like every peer."""
    authority = ours.authority
    settings: dict[str, Any] = {"authority": authority, "public": ["/login", "/static/*"]}
    middleware = Middleware(JWTSessionMiddleware, **settings)
    app, hit = bare(middleware), hit_on("Starlette")

    async def reading(request: Request) -> PlainTextResponse:
        return PlainTextResponse(body_of(authority.session(request)))

    made = {
        hit: _peer(ours, "Starlette", app),
        f"{hit}, read by `authority.session`": _peer(ours, "Starlette", bare(middleware, handler=reading)),
        f"{hit}, by Bearer": _peer(ours, "Starlette", app, carried=world.bearer),
        "ours on Starlette: fallback from the cache": _peer(ours, "Starlette", app, ours.old),
        hit_on("FastAPI"): _peer(ours, "FastAPI", on_fastapi.depending(authority.dependency, middleware)),
        f"{hit_on('FastAPI')}, read without `Depends`": _peer(ours, "FastAPI", on_fastapi.bare(middleware)),
    }
    if "Litestar" in theirs:
        made[hit_on("Litestar")] = _peer(ours, "Litestar", JWTSessionMiddleware(theirs["Litestar"].app, **settings))
    return made


def _peer(ours: Ours, framework: str, app: Any, *first: world.Headers, carried: Carried = world.cookie) -> Peer:
    claims = jwt.decode(ours.token, options={"verify_signature": False})
    good = [*first, carried(ours.token), shown(claims, carried)]
    return Peer(app=app, framework=framework, good=good, bad=bad(claims, carried), checks="all of it, strictly")


def _group(loop: asyncio.AbstractEventLoop, framework: str, ours: Ours, proved: dict[str, Peer]) -> dict[str, Timed]:
    """The contenders of one framework, apart from others: the interpreter specializes shared code for its last user."""
    group = {
        name: requests(loop, peer.app, always(peer.good[0]))
        for name, peer in proved.items()
        if peer.framework == framework
    }
    if framework == "Starlette":
        app = proved[hit_on(framework)].app
        group |= {
            "ours on Starlette: cache miss": requests(loop, app, unseen(ours.authority, ours.token)),
            "ours on Starlette: refused, no token": requests(loop, app, always(world.headers())),
            "ours on Starlette: refused, forged": requests(loop, app, always(world.cookie(world.forged()))),
        }
    return group


def _among(runner: asyncio.Runner, sessions: int, ours: Ours, proved: dict[str, Peer]) -> dict[str, Timed]:
    """The same apps, with requests of random sessions that are all cached."""
    tokens = signed(ours.authority, sessions)
    runner.run(remember(ours.authority, tokens))
    return {
        name: requests(runner.get_loop(), proved[name].app, at_random(tokens))
        for name in ("Starlette", hit_on("Starlette"), PEER)
    }


def _turns(group: dict[str, Timed], framework: str, effort: Effort) -> Rounds:
    return in_turns(group, rounds=effort.of(ROUNDS[framework]), number=effort.of(NUMBER))


def _rows(framework: str, found: Rounds, proved: dict[str, Peer], among: str = "") -> list[dict[str, Any]]:
    """The bare app first, then the others by cost."""
    rows: list[dict[str, Any]] = []
    for name in found:
        if name != framework:
            cost = over(found, name, framework)
            rows.append(
                {
                    "on": framework + among,
                    "contender": name,
                    "µs over bare": round(cost, 2),
                    "middle half": cost.half(),
                    "× our cache hit": round(ratio_over(found, name, hit_on(framework), framework), 2),
                    "checks": proved[name].checks if name in proved else "",
                }
            )
    rows.sort(key=lambda row: row["µs over bare"])
    whole = median(found, framework)
    bare_app = {"on": framework + among, "contender": "bare app, whole request", "µs over bare": round(whole, 2)}
    return [{**bare_app, "middle half": whole.half()}, *rows]


def _line(found: Rounds, many: Rounds, among: str) -> Line:
    times, cold = (ratio_over(rounds, PEER, hit_on("Starlette"), "Starlette") for rounds in (found, many))
    return Line(
        what="cache hit of one token again and again, revocation and metrics on, against AuthenticationMiddleware + "
        "`jwt.decode`",
        budget="≤ 1/12",
        measured=f"1/{times:.1f}; 1/{cold:.1f} over {among}",
        met=times >= 12,
        spread=times.under_one(),
    )
