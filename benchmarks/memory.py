"""The memory of a cached session, and what it adds to a pause of the garbage collector.

Without a store only the token is cached. With a store also the session's status (5 s by default), and its activity
until it is written, within a minute: that memory depends on the number of sessions in use at the same time.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from time import process_time
from typing import Any

from jwt_middleware import Revocation, SessionAuthority, SessionStore

from . import world
from .measure import FULL, Effort, Line, Section, Table
from .tokens import AT_ONCE, remember, signed

SESSIONS = 50_000
ALONE, SPREAD, AT_ONCE_ALL = "without a store", "revocation on", "revocation on, all in use at once"
STEPS, MINUTES = 50, 5
"""The requests of the sessions are spread over five minutes, in this many steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """What the sessions add to a process."""

    sessions: int
    bytes_each: float
    objects: int
    """Objects that the garbage collector tracks."""
    pause: float
    """Milliseconds of a full collection before."""
    added: float
    """Milliseconds that the sessions add to it."""

    def collected(self) -> str:
        return f"{self.objects} in all, {self.added:.1f} ms added to a pause of {self.pause:.1f}"


def run(effort: Effort = FULL) -> Section:
    world.quiet()
    tokens = signed(world.authority(), effort.of(SESSIONS) + AT_ONCE)
    weights = {
        ALONE: asyncio.run(_weigh(None, tokens, MINUTES)),
        SPREAD: asyncio.run(_weigh(world.Everyone(), tokens, MINUTES)),
        AT_ONCE_ALL: asyncio.run(_weigh(world.Everyone(), tokens, 0)),
    }
    return Section(tables=[_table(weights)], lines=_lines(weights))


async def _weigh(store: SessionStore | None, tokens: list[bytes], minutes: float) -> Weight:
    """Measure bytes and pause in separate runs: ``tracemalloc`` allocates memory of its own."""
    authority, clock, coming = await _warm(store, tokens)
    pause = _pause()
    gc.freeze()  # the pause of existing objects varies more than the difference
    objects = len(gc.get_objects())
    await _within(minutes, authority, clock, coming)
    added, followed = _pause(), len(gc.get_objects()) - objects
    gc.unfreeze()
    authority, clock, coming = await _warm(store, tokens)
    tracemalloc.start()
    traced = tracemalloc.get_traced_memory()[0]
    await _within(minutes, authority, clock, coming)
    gc.collect()
    weight = (tracemalloc.get_traced_memory()[0] - traced) / len(coming)
    tracemalloc.stop()
    return Weight(sessions=len(coming), bytes_each=weight, objects=followed, pause=pause, added=added)


async def _warm(
    store: SessionStore | None, tokens: list[bytes]
) -> tuple[SessionAuthority[Any], world.Ahead, list[bytes]]:
    """A warm authority, and the tokens that are not cached yet."""
    clock, bound = world.Ahead(), Revocation(max_staleness=timedelta(seconds=5))
    authority = world.authority(store=store, cache_entries=len(tokens) * 2, clock=clock, revocation=bound)
    await remember(authority, tokens[:AT_ONCE])
    return authority, clock, tokens[AT_ONCE:]


async def _within(minutes: float, authority: SessionAuthority[Any], clock: world.Ahead, coming: list[bytes]) -> None:
    """Send each token once, in steps over a number of minutes; write activity each minute, as its timer does."""
    size = -(-len(coming) // STEPS)
    for step in range(STEPS):
        await remember(authority, coming[step * size : (step + 1) * size])
        clock.skipped += minutes * 60 / STEPS
        if minutes and step % (STEPS // MINUTES) == 0 and authority.parts.activity is not None:
            await authority.parts.activity.aclose()


def _pause() -> float:
    """Milliseconds of a full collection: the median of seven."""
    pauses = []
    for _ in range(7):
        started = process_time()
        gc.collect()
        pauses.append((process_time() - started) * 1e3)
    return statistics.median(pauses)


def _table(weights: Mapping[str, Weight]) -> Table:
    sessions = weights[SPREAD].sessions
    table = Table(
        title=f"{sessions:,} cached sessions",
        note="Memory of the package, measured by `tracemalloc`; the store keeps no rows in the process.",
    )
    figures: dict[str, Callable[[Weight], float]] = {
        "bytes for each": lambda weight: round(weight.bytes_each),
        "objects the garbage collector follows, added": lambda weight: weight.objects,
        "pause of a full collection before, ms": lambda weight: round(weight.pause, 1),
        "added to that pause, ms": lambda weight: round(weight.added, 1),
    }
    for what, figure in figures.items():
        table.rows.append({"what": what, **{name: figure(weight) for name, weight in weights.items()}})
    return table


def _lines(weights: Mapping[str, Weight]) -> list[Line]:
    alone, whole, most = weights[ALONE], weights[SPREAD], weights[AT_ONCE_ALL]
    return [
        Line(
            what=f"memory for each cached session, revocation on, {whole.sessions:,} within {MINUTES} minutes",
            budget="≤ 700 bytes",
            measured=f"{whole.bytes_each:.0f} bytes; {ALONE} {alone.bytes_each:.0f}, all in use at once "
            f"{most.bytes_each:.0f}",
            met=whole.bytes_each <= 700,
        ),
        Line(
            what=f"objects that {whole.sessions:,} cached sessions add to what the garbage collector follows, "
            "revocation on",
            budget="none for each",
            measured=f"{whole.collected()}; {ALONE} {alone.collected()}",
            met=whole.objects < whole.sessions / 100,
        ),
    ]
