"""The states of the keys that one lookup fetches: which keys wait, which are in flight, and the future of each waiter.

Each waiter has a future of its own, so that cancelling one does not harm the others; every future resolves.
Nothing here runs a query: :class:`~jwt_middleware.lookup.lookup.Lookup` makes the moves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Generic, Literal, TypeVar

from ..errors import ConfigError
from ..types import FillOutcome, Value
from .lanes import WIDTH, Lane

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Slot = asyncio.Task[Any]
"""A slot of the lane: the task that requests it, sends one query and releases it."""
MAX_KEYS: Final = 1_000
"""Keys of one query."""
MANY: Final = 100
"""Waiting keys that need a second slot."""


class Found(Value, Generic[V], frozen=True, kw_only=True, gc=False):
    """The result for one key."""

    value: V | None
    """None where there is no row."""
    origin: Literal["database", "cache", "coalesced"]
    handle: object = None
    """The observer's handle of the query."""
    sent_at: float = 0.0
    """The monotonic moment at which the query was sent: the value may be as old as that."""


class LookupFailed(Exception):
    """There is no result; ``outcome`` is ``shed``, ``breaker_open``, ``timeout`` or ``error``."""

    def __init__(self, outcome: FillOutcome, handle: object = None) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome
        self.handle = handle


@dataclass(slots=True)
class Waiter(Generic[V]):
    """A request that waits for one key."""

    future: asyncio.Future[Found[V]]
    handle: object
    """The observer's handle of the request."""
    origin: Literal["database", "coalesced"]

    def fail(self, error: Exception) -> None:
        self.future.set_exception(error)
        self.future.exception()  # else asyncio logs it, if the request is cancelled in the same turn of the loop


@dataclass(slots=True, eq=False)
class Batch(Generic[K, V]):
    """The keys of one query, and the waiters of each."""

    waiters: dict[K, list[Waiter[V]]]
    slot: Slot
    sent_at: float
    """The monotonic moment at which the query was sent."""
    requests: int = 0
    """Requests that waited for it at that moment."""
    handle: object = None
    """The observer's handle of the query."""
    is_probe: bool = False
    """An open breaker let the query through."""
    settled: bool = False
    timer: asyncio.TimerHandle = field(init=False)

    def resolve(self, rows: Mapping[K, V]) -> None:
        """Give each waiter the row of its key."""
        for key, waiters in self.waiters.items():
            row = rows.get(key)
            for waiter in living([waiters]):
                found = Found(value=row, origin=waiter.origin, handle=self.handle, sent_at=self.sent_at)
                waiter.future.set_result(found)

    def fail(self, outcome: FillOutcome, error: Exception | None = None) -> None:
        """Raise in each waiter: a mistake of configuration as such, so that it does not look like an outage."""
        for waiter in living(self.waiters.values()):
            mistake = error if isinstance(error, ConfigError) else None
            waiter.fail(mistake or LookupFailed(outcome, self.handle))


class Batcher(Generic[K, V]):
    """The keys of one lookup in one event loop, and its slots::

        a key:    join ──▶ waiting ──flush──▶ in flight ──settle──▶ settled
                              └──── no slot within the patience ───────▲

        a slot:   request_slot ──▶ requested ──flush──▶ in use ──release_slot──▶ free

    A query that times out is settled at once; its slot stays in use until the query has really ended.

    Args:
        lane: The slots of the database in this loop, which other lookups share.
        patience: Seconds that keys wait for a slot before they fail with ``timeout``.
    """

    def __init__(self, lane: Lane, patience: float) -> None:
        self.lane: Final = lane
        self._patience: Final = patience
        self._waiting: dict[K, list[Waiter[V]]] = {}
        self._patient_until = 0.0
        """Until this moment of the loop's clock, what waits now may wait for a slot."""
        self._patience_runs = False  # and not the timer: it holds the loop, which holds this object weakly
        self._in_flight: Final[dict[K, Batch[K, V]]] = {}
        self._slots: Final[set[Slot]] = set()
        self._slow: Final[set[Slot]] = set()
        """Slots that a slow query uses."""

    def join(self, key: K, handle: object, *, fresh: bool) -> asyncio.Future[Found[V]]:
        """Wait for a key: for the query in flight that has it, else for the next query; ``fresh``: for the next one."""
        future: asyncio.Future[Found[V]] = asyncio.get_running_loop().create_future()
        if not fresh and key in self._in_flight:
            self._in_flight[key].waiters[key].append(Waiter(future, handle, "coalesced"))
        elif key in self._waiting:
            self._waiting[key].append(Waiter(future, handle, "coalesced"))
        else:
            self._waiting[key] = [Waiter(future, handle, "database")]
            if len(self._waiting) == 1:
                self._restart_patience()
        return future

    @property
    def needs_slot(self) -> bool:
        """Keys wait for a first slot, or for a second one because many wait or the first query is slow."""
        if not self._waiting or len(self._slots) == WIDTH:
            return False
        return not self._slots or bool(self._slow) or (len(self._waiting) >= MANY and bool(self._in_flight))

    @property
    def has_waiters(self) -> bool:
        """A request, and not only a cancelled one, waits for a key that is not in flight."""
        return any(living([waiters]) for waiters in self._waiting.values())

    def request_slot(self, slot: Slot) -> None:
        self._slots.add(slot)

    def flush(self, slot: Slot, now: float) -> Batch[K, V] | None:
        """Put the oldest keys in flight, without those whose waiters were all cancelled; None if no key is left."""
        oldest = {key: self._waiting.pop(key) for key in list(islice(self._waiting, MAX_KEYS))}
        batch = Batch({key: waiters for key, waiters in oldest.items() if living([waiters])}, slot, now)
        self._in_flight.update(dict.fromkeys(batch.waiters, batch))
        if self._waiting:
            self._restart_patience()
        return batch if batch.waiters else None

    def mark_slow(self, batch: Batch[K, V]) -> None:
        """The query is slow: keys that wait behind it may have the second slot."""
        self._slow.add(batch.slot)

    def settle(self, batch: Batch[K, V]) -> bool:
        """Take the keys out of flight, before their waiters get a result; False if the batch was settled before."""
        if batch.settled:
            return False
        batch.settled = True
        for key in batch.waiters:
            if self._in_flight.get(key) is batch:  # else a fresh query for the key is in flight
                del self._in_flight[key]
        return True

    def release_slot(self, slot: Slot) -> None:
        self._slots.discard(slot)
        self._slow.discard(slot)

    def _restart_patience(self) -> None:
        """One timer restarts itself: to cancel one for each query costs more."""
        loop = asyncio.get_running_loop()
        self._patient_until = loop.time() + self._patience
        if not self._patience_runs:
            self._patience_runs = True
            loop.call_at(self._patient_until, self._lose_patience)

    def _lose_patience(self) -> None:
        loop = asyncio.get_running_loop()
        self._patience_runs = bool(self._waiting) and loop.time() < self._patient_until
        if self._patience_runs:
            loop.call_at(self._patient_until, self._lose_patience)
            return
        waiting, self._waiting = self._waiting, {}
        for waiter in living(waiting.values()):
            waiter.fail(LookupFailed(FillOutcome.TIMEOUT))


def living(waiters: Iterable[list[Waiter[V]]]) -> list[Waiter[V]]:
    """The waiters that were not cancelled."""
    return [waiter for some in waiters for waiter in some if not waiter.future.done()]
