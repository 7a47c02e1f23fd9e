"""What a remembered session weighs, and what it adds to a pause of the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import statistics
import tracemalloc
from time import process_time

from . import world
from .measure import FULL, Effort, Line, Section, Table
from .tokens import remember, signed

SESSIONS = 100_000


def run(effort: Effort = FULL) -> Section:
    world.quiet()
    return asyncio.run(_weight(effort.of(SESSIONS)))


def _pause() -> float:
    """Milliseconds of a full collection: the median of seven."""
    pauses = []
    for _ in range(7):
        started = process_time()
        gc.collect()
        pauses.append((process_time() - started) * 1e3)
    return statistics.median(pauses)


async def _weight(sessions: int) -> Section:
    authority = world.authority(store=None, cache_entries=sessions * 2)
    tokens = signed(authority, sessions)
    await remember(authority, tokens[:10])
    before_pause, before_objects = _pause(), len(gc.get_objects())
    await remember(authority, tokens)
    added, pause = len(gc.get_objects()) - before_objects, _pause()
    authority = world.authority(store=None, cache_entries=sessions * 2)
    await remember(authority, tokens[:10])
    tracemalloc.start()  # apart: what it keeps for itself would be in the pause
    before = tracemalloc.get_traced_memory()[0]
    await remember(authority, tokens)
    gc.collect()
    weight = (tracemalloc.get_traced_memory()[0] - before) / sessions
    tracemalloc.stop()
    table = Table(title=f"{sessions:,} remembered sessions", note="The token cache alone, as `tracemalloc` weighs it.")
    table.rows = [
        {"what": "bytes for each", "figure": round(weight)},
        {"what": "objects the garbage collector follows, added", "figure": added},
        {"what": "pause of a full collection before, ms", "figure": round(before_pause, 2)},
        {"what": "pause of a full collection after, ms", "figure": round(pause, 2)},
    ]
    lines = [
        Line(
            what="memory for each cached session",
            budget="≤ 700 bytes",
            measured=f"{weight:.0f} bytes",
            met=weight <= 700,
        ),
        Line(
            what=f"objects that {sessions:,} cached sessions add to what the garbage collector follows",
            budget="none for each",
            measured=f"{added} in all; pause {before_pause:.1f} → {pause:.1f} ms",
            met=added < sessions / 100,
        ),
    ]
    return Section(tables=[table], lines=lines)
