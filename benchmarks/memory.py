"""What a remembered session weighs, and what it adds to a pause of the garbage collector.

Twice: without a store, where the token alone is remembered, and with revocation on, where the store's answer is too.
The budget is about the second, which is what everybody has who uses a store.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import process_time
from typing import Any

from jwt_middleware import SessionAuthority, SessionStore

from . import world
from .measure import FULL, Effort, Line, Section, Table
from .tokens import AT_ONCE, remember, signed

SESSIONS = 50_000
ALONE, REVOCATION = "without a store", "revocation on"


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
        ALONE: asyncio.run(_weigh(None, tokens)),
        REVOCATION: asyncio.run(_weigh(world.Everyone(), tokens)),
    }
    return Section(tables=[_table(weights)], lines=_lines(weights))


async def _weigh(store: SessionStore | None, tokens: list[bytes]) -> Weight:
    """The bytes apart from the pause: what ``tracemalloc`` keeps for itself would be in it."""
    authority, coming = await _warm(store, tokens)
    pause = _pause()
    gc.freeze()  # what stood before swings by more than what is looked for
    objects = len(gc.get_objects())
    await remember(authority, coming)
    added, followed = _pause(), len(gc.get_objects()) - objects
    gc.unfreeze()
    authority, coming = await _warm(store, tokens)
    tracemalloc.start()
    traced = tracemalloc.get_traced_memory()[0]
    await remember(authority, coming)
    gc.collect()
    weight = (tracemalloc.get_traced_memory()[0] - traced) / len(coming)
    tracemalloc.stop()
    return Weight(sessions=len(coming), bytes_each=weight, objects=followed, pause=pause, added=added)


async def _warm(store: SessionStore | None, tokens: list[bytes]) -> tuple[SessionAuthority[Any], list[bytes]]:
    """An authority that has answered before, and the tokens it has not seen."""
    authority = world.authority(store=store, cache_entries=len(tokens) * 2)
    await remember(authority, tokens[:AT_ONCE])
    return authority, tokens[AT_ONCE:]


def _pause() -> float:
    """Milliseconds of a full collection: the median of seven."""
    pauses = []
    for _ in range(7):
        started = process_time()
        gc.collect()
        pauses.append((process_time() - started) * 1e3)
    return statistics.median(pauses)


def _table(weights: Mapping[str, Weight]) -> Table:
    sessions = weights[REVOCATION].sessions
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
    alone, whole = weights[ALONE], weights[REVOCATION]
    return [
        Line(
            what="memory for each cached session, revocation on",
            budget="≤ 700 bytes",
            measured=f"{whole.bytes_each:.0f} bytes; {ALONE} {alone.bytes_each:.0f}",
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
