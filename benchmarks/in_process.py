"""One request in process: what each contender costs over the bare app of its own framework."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt
from starlette.middleware import Middleware

from jwt_middleware import JWTSessionMiddleware, SessionAuthority

from . import world
from .apps import PassThrough, always, bare, bare_fastapi, requests
from .measure import FULL, Effort, Line, Rounds, Section, Table, Timed, in_turns, median, over, ratio_over
from .peers import Peer, bad, everyone, prove
from .tokens import emails, old_request, unseen

ROUNDS, NUMBER = 100, 150
OURS = "ours: plain hit"
PEER = "AuthenticationMiddleware + PyJWT"
Peers = Callable[[str], dict[str, Peer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """The package before the bare app, and a token of a session that its store knows."""

    authority: SessionAuthority[Any]
    app: Any
    on_fastapi: Any
    token: str
    revoked: str


def run(effort: Effort = FULL, peers: Peers = everyone) -> Section:
    world.quiet()
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        ours = runner.run(_ours())
        checked = {**_checked(ours), **peers(ours.token)}
        for name, peer in checked.items():
            runner.run(prove(name, peer))
        rounds: Rounds = {}
        for contenders in _groups(loop, ours, runner.run(old_request(ours.authority)), checked):
            rounds |= in_turns(contenders, rounds=effort.of(ROUNDS), number=effort.of(NUMBER))
    return Section(tables=[_table(rounds, checked)], lines=_lines(rounds))


async def _ours() -> Ours:
    authority = world.authority(sources=[emails])
    revoked = await authority.issue(world.user())
    await authority.revoke(revoked.session_id)
    middleware = Middleware(JWTSessionMiddleware, authority=authority, public=["/login", "/static/*"])
    return Ours(
        authority=authority,
        app=bare(middleware),
        on_fastapi=bare_fastapi(middleware),
        token=(await authority.issue(world.user())).token,
        revoked=revoked.token,
    )


def _checked(ours: Ours) -> dict[str, Peer]:
    """Those of ours that are proved as every peer is."""
    claims = jwt.decode(ours.token, options={"verify_signature": False})
    good, wrong = world.cookie(ours.token), {**bad(claims), "revoked": world.cookie(ours.revoked)}
    bearers = {"forged": world.bearer(world.forged()), "revoked": world.bearer(ours.revoked)}
    by_bearer = world.bearer(ours.token)
    return {
        OURS: Peer(app=ours.app, good=good, bad=wrong, base="Starlette", checks="all of it, strictly"),
        f"{OURS} by Bearer": Peer(app=ours.app, good=by_bearer, bad=bearers, base="Starlette", checks="the same"),
        f"{OURS} on FastAPI": Peer(app=ours.on_fastapi, good=good, bad=wrong, base="FastAPI", checks="the same"),
    }


def _groups(
    loop: asyncio.AbstractEventLoop, ours: Ours, old: world.Headers, checked: dict[str, Peer]
) -> list[dict[str, Timed]]:
    """By framework, each apart: the interpreter adapts shared code to whoever ran it last."""
    good = always(world.cookie(ours.token))
    groups: dict[str, dict[str, Timed]] = {
        "Starlette": {
            "Starlette": requests(loop, bare(), good),
            "empty pass-through": requests(loop, bare(Middleware(PassThrough)), good),
            "ours: first sight": requests(loop, ours.app, unseen(ours.authority, ours.token)),
            "ours: refused, no token": requests(loop, ours.app, always(world.headers())),
            "ours: refused, forged": requests(loop, ours.app, always(world.cookie(world.forged()))),
            "ours: fallback from the cache": requests(loop, ours.app, always(old)),
        },
        "FastAPI": {"FastAPI": requests(loop, bare_fastapi(), good)},
        "Litestar": {},
    }
    for name, peer in checked.items():
        groups[peer.base or name][name] = requests(loop, peer.app, always(peer.good))
    return [group for group in groups.values() if group]


def _table(rounds: Rounds, checked: dict[str, Peer]) -> Table:
    table = Table(
        title="One request in process",
        note="Microseconds over the bare app of the same framework, and how many times our plain hit that is. "
        "Requests carry a browser's 16 headers and three cookies.",
    )
    bases = [name for name in ("Starlette", "FastAPI", "Litestar") if name in rounds]
    for name in rounds:
        if name in bases:
            continue
        base = checked[name].base if name in checked else "Starlette"
        cost = over(rounds, name, base)
        table.rows.append(
            {
                "contender": name,
                "over": base,
                "µs over bare": round(cost, 2),
                "middle half": cost.half(),
                "× our plain hit": round(ratio_over(rounds, name, OURS, base, "Starlette"), 2),
                "checks": checked[name].checks if name in checked else "",
            }
        )
    table.rows.sort(key=lambda row: row["µs over bare"])
    for base in bases:
        whole = median(rounds, base)
        table.rows.append(
            {"contender": f"bare {base}, whole request", "µs over bare": round(whole, 2), "middle half": whole.half()}
        )
    return table


def _lines(rounds: Rounds) -> list[Line]:
    times = ratio_over(rounds, PEER, OURS, "Starlette")
    return [
        Line(
            what="plain hit, revocation and metrics on, against AuthenticationMiddleware + `jwt.decode`",
            budget="≤ 1/12",
            measured=f"1/{times:.1f}",
            met=times >= 12,
            spread=times.under_one(),
        ),
    ]
