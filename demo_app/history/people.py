"""When people come: most in office hours of working days, some rarely, each for a few pages."""

from __future__ import annotations

from itertools import accumulate
from random import Random
from typing import Final

from .scenarios import DAY

_BY_HOUR: Final = list(accumulate((2, 1, 1, 1, 2, 4, 8, 14, 22, 26, 25, 21, 17, 19, 23, 23, 20, 15, 11, 9, 8, 7, 5, 3)))
_WEEKEND: Final = (5, 6)
_AT_WEEKENDS: Final = 0.4
_REGULAR: Final = 0.7
"""Share of those who come more than once a working day; the others come on one day of three."""


def visits(random: Random, people: int, days: float) -> list[tuple[float, int]]:
    """Hours since the beginning, and who comes; in the order of time."""
    often = [1.4 if random.random() < _REGULAR else 0.3 for _ in range(people)]
    found = [
        (day * DAY + _hour(random), person)
        for day in range(int(days) + 1)
        for person, mean in enumerate(often)
        for _ in range(_times(random, mean * (_AT_WEEKENDS if day % 7 in _WEEKEND else 1)))
    ]
    return sorted(visit for visit in found if visit[0] < days * DAY)


def _times(random: Random, mean: float) -> int:
    return int(mean) + (random.random() < mean % 1)


def _hour(random: Random) -> float:
    [hour] = random.choices(range(24), cum_weights=_BY_HOUR)
    return hour + random.random()
