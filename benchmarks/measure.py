"""Rounds in turns, medians, and the tables that come of them."""

from __future__ import annotations

import asyncio
import gc
import statistics
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

Timed = Callable[[int], float]
"""Does a thing so many times and returns the seconds it took."""
Rounds = dict[str, list[float]]
"""Microseconds for one time, by contender: one figure a round."""


@dataclass(slots=True, kw_only=True)
class Table:
    """What one section found; a row is a name and its figures by column."""

    title: str
    note: str
    rows: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Line:
    """One line of the budget (DESIGN section 7)."""

    what: str
    budget: str
    measured: str
    met: bool


@dataclass(slots=True, kw_only=True)
class Section:
    """Everything one section says."""

    tables: list[Table] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)


def in_turns(contenders: Mapping[str, Timed], *, rounds: int, number: int) -> Rounds:
    """Each contender does his thing ``number`` times a round; the order turns from round to round."""
    for timed in contenders.values():
        timed(max(1, number // 10))
    names, found = list(contenders), {name: [] for name in contenders}
    gc.collect()
    gc.freeze()
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(contenders[name](number) / number * 1e6)
    return found


def over(found: Rounds, name: str, base: str) -> float:
    """What it costs over the base: the median over the rounds."""
    return statistics.median(mine - bare for mine, bare in zip(found[name], found[base], strict=True))


def ratio(found: Rounds, name: str, of: str) -> float:
    """How many times the other's: the median over the rounds."""
    return statistics.median(mine / other for mine, other in zip(found[name], found[of], strict=True))


def ratio_over(found: Rounds, name: str, of: str, base: str, of_base: str | None = None) -> float:
    """How many times what another one costs, each over his own base."""
    pairs = zip(found[name], found[base], found[of], found[of_base or base], strict=True)
    return statistics.median((mine - bare) / max(other - his, 1e-9) for mine, bare, other, his in pairs)


def median(found: Rounds, name: str) -> float:
    return statistics.median(found[name])


def repeated(call: Callable[[], object]) -> Timed:
    """A plain function as a contender."""

    def timed(number: int) -> float:
        turns = range(number)
        started = perf_counter()
        for _ in turns:
            call()
        return perf_counter() - started

    return timed


def awaited(loop: asyncio.AbstractEventLoop, call: Callable[[], Awaitable[object]]) -> Timed:
    """A coroutine function as a contender."""

    async def many(number: int) -> float:
        turns = range(number)
        started = perf_counter()
        for _ in turns:
            await call()
        return perf_counter() - started

    return lambda number: loop.run_until_complete(many(number))


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
