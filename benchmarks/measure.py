"""Timing in rounds, medians with their spread, and the tables of the report."""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from time import process_time
from typing import Any

Timed = Callable[[int], float]
"""Does something a number of times and returns its CPU seconds: other processes do not count."""
Rounds = dict[str, list[float]]
"""Microseconds for one repetition, by contender; one figure for each round."""


@dataclass(slots=True, kw_only=True)
class Table:
    """A table of results; a row maps columns to figures."""

    title: str
    note: str
    rows: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Line:
    """One line of the performance budget."""

    what: str
    budget: str
    measured: str
    met: bool
    spread: str = ""
    """The middle half of the rounds."""


@dataclass(slots=True, kw_only=True)
class Section:
    """The results of one section."""

    tables: list[Table] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """The share of a full run; tests run a small one."""

    share: float = 1.0

    def of(self, count: int) -> int:
        return max(1, round(count * self.share))


FULL = Effort()


class Spread(float):
    """A median with its quartiles."""

    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        ordered = sorted(values)
        spread = cls(statistics.median(ordered))
        spread.low, spread.high = percentile(ordered, 0.25), percentile(ordered, 0.75)
        return spread

    def half(self, digits: int = 2) -> str:
        """The middle half, for a table."""
        return f"{self.low:.{digits}f}–{self.high:.{digits}f}"

    def under_one(self) -> str:
        """The middle half of a ratio, as fractions of 1."""
        return f"1/{self.high:.1f}–1/{self.low:.1f}"


def in_turns(contenders: Mapping[str, Timed], *, rounds: int, number: int) -> Rounds:
    """Time each contender ``number`` times a round; each round has another order."""
    for timed in contenders.values():
        timed(max(1, number // 10))
    names: list[str] = list(contenders)
    found: Rounds = {name: [] for name in contenders}
    order = random.Random(7)
    gc.collect()
    gc.freeze()  # existing objects do not slow the collections of a contender
    for _ in range(rounds):
        for name in order.sample(names, len(names)):
            found[name].append(contenders[name](number) / number * 1e6)
    gc.unfreeze()
    return found


def over(found: Rounds, name: str, base: str) -> Spread:
    """The cost over the base: the median over the rounds."""
    return Spread.of(mine - bare for mine, bare in zip(found[name], found[base], strict=True))


def ratio(found: Rounds, name: str, of: str) -> Spread:
    """The ratio to another contender: the median over the rounds."""
    return Spread.of(mine / other for mine, other in zip(found[name], found[of], strict=True))


def ratio_over(found: Rounds, name: str, of: str, base: str, of_base: str | None = None) -> Spread:
    """The ratio to another contender, each over its own base."""
    pairs = zip(found[name], found[base], found[of], found[of_base or base], strict=True)
    return Spread.of((mine - bare) / max(other - his, 1e-9) for mine, bare, other, his in pairs)


def median(found: Rounds, name: str) -> Spread:
    return Spread.of(found[name])


def repeated(call: Callable[[], object]) -> Timed:
    """A plain function as a contender."""

    def timed(number: int) -> float:
        turns = range(number)
        started = process_time()
        for _ in turns:
            call()
        return process_time() - started

    return timed


def awaited(loop: asyncio.AbstractEventLoop, call: Callable[[], Awaitable[object]]) -> Timed:
    """A coroutine function as a contender."""

    async def many(number: int) -> float:
        turns = range(number)
        started = process_time()
        for _ in turns:
            await call()
        return process_time() - started

    return lambda number: loop.run_until_complete(many(number))


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
