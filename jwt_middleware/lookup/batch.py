"""Keys that wait become a query: who asks for what is being asked for already joins that.

Self-clocked, per event loop: a batch leaves a few turns of the loop after its first key where nothing is in flight,
and else collects until something returns; a second query at once only when many wait or the first is slow. Each
waiter has a future of its own, so that cancelling one harms none, and every future resolves.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Literal, TypeVar

from ..errors import ConfigError, class_of
from ..types import FillOutcome
from .lanes import Lane

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Origin = Literal["database", "cache", "coalesced"]
Ended = Literal["ok", "error", "timeout"]
MAX_KEYS: Final = 1_000
TURNS: Final = 3
"""Turns of the loop that a first key waits for company."""
MANY: Final = 100
"""Waiting keys that ask for the second place."""
PATIENCE: Final = 2.0
"""Time-outs that keys wait for a place before they are told that none comes."""
SLOW: Final = 0.025
"""Seconds after which a query is slow, and what waits behind it asks for the second place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found(Generic[V]):
    """The answer for one key; None where there is no row."""

    value: V | None = field(repr=False)
    origin: Origin
    handle: object = None
    """ObserverFanout' handle of the query."""
    sent_at: float = 0.0
    """The monotonic moment at which the query left: the answer is that old."""


class LookupFailed(Exception):
    """No answer: ``shed``, ``breaker_open``, ``timeout`` or ``error``."""

    def __init__(self, outcome: FillOutcome, handle: object = None) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome
        self.handle = handle


@dataclass(slots=True)
class _Waiter(Generic[V]):
    future: asyncio.Future[Found[V]]
    handle: object
    origin: Origin


class Batch(Generic[K, V]):
    """One query: its keys, and who waits for each of them. Resolved once, whatever happens twice."""

    def __init__(self, waiters: dict[K, list[_Waiter[V]]], sent_at: float) -> None:
        self.keys: Final = list(waiters)
        self.handle: object = None
        self.sent_at: Final = sent_at
        self.ended: Ended | None = None
        self.probe = False
        """Whether it is what an open breaker let through to see."""
        self.waited = 0
        """How many requests it was sent for."""
        self.error_type: str | None = None
        """The class of what the query raised."""
        self._waiters: Final = waiters

    def join(self, key: K, waiter: _Waiter[V]) -> None:
        self._waiters[key].append(waiter)

    def living(self) -> list[_Waiter[V]]:
        """Those that were not cancelled meanwhile."""
        return [waiter for each in self._waiters.values() for waiter in each if not waiter.future.done()]

    def answer(self, rows: Mapping[K, V]) -> None:
        for key, waiters in self._waiters.items():
            for waiter in waiters:
                if not waiter.future.done():
                    waiter.future.set_result(
                        Found(value=rows.get(key), origin=waiter.origin, handle=self.handle, sent_at=self.sent_at)
                    )

    def fail(self, outcome: FillOutcome, mistake: ConfigError | None = None) -> None:
        """No answer; a mistake of configuration is told to who can mend it, instead of looking like an outage."""
        for waiter in self.living():
            waiter.future.set_exception(mistake or LookupFailed(outcome, self.handle))


class Batcher(Generic[K, V]):
    """What one lookup has waiting and in flight in one event loop.

    Args:
        lane: The places of the database.
        admit: Whether a batch may be sent now; asked once for each.
        query: Sends a batch. It may not raise.
        ended: Told how each batch ended, before its waiters are; with the rows where it is ``ok``.
        timeout: Seconds until the waiters are told, whatever the query does. Keys that get no place for a multiple of
            it (a query that was given up, but does not end, keeps its place) are told too.
    """

    def __init__(
        self,
        *,
        lane: Lane,
        admit: Callable[[Batch[K, V]], bool],
        query: Callable[[Batch[K, V]], Coroutine[Any, Any, Mapping[K, V]]],
        ended: Callable[[Batch[K, V], Ended, Mapping[K, V]], None],
        monotonic: Callable[[], float],
        timeout: float,
    ) -> None:
        self._lane: Final = lane
        self._admit: Final = admit
        self._query: Final = query
        self._ended: Final = ended
        self._monotonic: Final = monotonic
        self._timeout: Final = timeout
        self._waiting: dict[K, list[_Waiter[V]]] = {}
        self._flying: Final[dict[K, Batch[K, V]]] = {}
        self._places = 0
        """Places of the lane that are taken or asked for."""
        self._patience: asyncio.TimerHandle | None = None

    def join(self, key: K, handle: object, *, fresh: bool) -> asyncio.Future[Found[V]]:
        """A future of the caller's own; ``fresh`` joins no query that left already."""
        future: asyncio.Future[Found[V]] = asyncio.get_running_loop().create_future()
        if not fresh and key in self._flying:
            self._flying[key].join(key, _Waiter(future, handle, "coalesced"))
        elif key in self._waiting:
            self._waiting[key].append(_Waiter(future, handle, "coalesced"))
        else:
            self._waiting[key] = [_Waiter(future, handle, "database")]
            if len(self._waiting) == 1:
                self._wait()
            if self._places == 0:
                self._places = 1
                self._after(TURNS)
            elif self._places == 1 and self._flying and len(self._waiting) >= MANY:
                self._ask()
        return future

    def _after(self, turns: int) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(self._after, turns - 1)
        else:
            self._lane.ask(self._send)

    def _wait(self) -> None:
        """From now on: a place must come for what waits."""
        if self._patience is not None:
            self._patience.cancel()
        seconds = PATIENCE * self._timeout
        self._patience = asyncio.get_running_loop().call_later(seconds, self._give_up) if self._waiting else None

    def _give_up(self) -> None:
        Batch(self._waiting, self._monotonic()).fail(FillOutcome.TIMEOUT)
        self._waiting = {}

    def _ask(self) -> None:
        """One more place, for what waits."""
        if self._waiting and self._places < 2:
            self._places += 1
            self._lane.ask(self._send)

    def _send(self) -> None:
        """A place is free. It is given back when the query has really ended, which may be long after its time-out."""
        batch = Batch(self._take(), self._monotonic())
        if not batch.keys or not self._admit(batch):
            batch.fail(FillOutcome.BREAKER_OPEN)
            self._leave()
            return
        self._flying.update(dict.fromkeys(batch.keys, batch))
        # a context of its own: the query belongs to all who wait for it, and to no one's trace
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._run(batch), context=contextvars.Context())
        timers = (
            loop.call_later(self._timeout, self._time_out, batch, task),
            loop.call_later(SLOW, self._ask),
        )

        def over(task: asyncio.Task[None]) -> None:
            for timer in timers:
                timer.cancel()
            self._settle(batch, "error", {})  # cancelled from outside, or before it began
            self._leave()

        task.add_done_callback(over)

    def _take(self) -> dict[K, list[_Waiter[V]]]:
        """The oldest keys that somebody still waits for."""
        taken: dict[K, list[_Waiter[V]]] = {}
        for key in list(self._waiting):
            if len(taken) >= MAX_KEYS:
                break
            waiters = self._waiting.pop(key)
            if not all(waiter.future.done() for waiter in waiters):
                taken[key] = waiters
        self._wait()
        return taken

    async def _run(self, batch: Batch[K, V]) -> None:
        try:
            rows = await self._query(batch)
            found = {key: rows[key] for key in batch.keys if key in rows}
        except Exception as error:  # whatever it raises means that it could not answer; its text goes nowhere
            batch.error_type = class_of(error)
            self._settle(batch, "error", {}, error if isinstance(error, ConfigError) else None)
        else:
            self._settle(batch, "ok", found)

    def _time_out(self, batch: Batch[K, V], task: asyncio.Task[None]) -> None:
        self._settle(batch, "timeout", {})
        task.cancel()

    def _settle(
        self, batch: Batch[K, V], ended: Ended, rows: Mapping[K, V], mistake: ConfigError | None = None
    ) -> None:
        if batch.ended is not None:
            return
        batch.ended = ended
        for key in batch.keys:
            if self._flying.get(key) is batch:
                del self._flying[key]
        self._ended(batch, ended, rows)
        if ended == "ok":
            batch.answer(rows)
        else:
            batch.fail(FillOutcome.TIMEOUT if ended == "timeout" else FillOutcome.ERROR, mistake)

    def _leave(self) -> None:
        self._places -= 1
        self._lane.leave()
        self._ask()
