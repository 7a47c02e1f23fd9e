"""What a remembered session weighs, and what it adds to a pause of the garbage collector.

Without a store the token alone is remembered. With one also the store's answer for as long as it is of use, 5 s by
default, and the session's activity until it is written, which is within a minute: how much that weighs depends on how
many sessions are in use at the same time.
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
"""The sessions come within five minutes, in so many steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """What so many sessions add to a process."""

    sessions: int
    bytes_each: float
    objects: int
    """That the garbage collector follows."""
    pause: float
    """Milliseconds of a full collection, of the process before."""
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
    """The bytes apart from the pause: what ``tracemalloc`` keeps for itself would be in it."""
    authority, clock, coming = await _warm(store, tokens)
    pause = _pause()
    gc.freeze()  # what stood before swings by more than what is looked for
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
    """An authority that has answered before, and the tokens it has not seen."""
    clock, bound = world.Ahead(), Revocation(max_staleness=timedelta(seconds=5))
    authority = world.authority(store=store, cache_entries=len(tokens) * 2, clock=clock, revocation=bound)
    await remember(authority, tokens[:AT_ONCE])
    return authority, clock, tokens[AT_ONCE:]


async def _within(minutes: float, authority: SessionAuthority[Any], clock: world.Ahead, coming: list[bytes]) -> None:
    """Each comes once, in steps over so many minutes; activity is written each minute, as its timer would."""
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
        title=f"{sessions:,} remembered sessions",
        note="What the package keeps for them, as `tracemalloc` weighs it; the store keeps no rows in the process.",
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
