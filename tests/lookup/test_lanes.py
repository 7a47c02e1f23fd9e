"""At most two queries at once for one resource, in the order of asking."""

from __future__ import annotations

import asyncio

import pytest

from jwt_middleware.lookup import lanes
from jwt_middleware.lookup.lanes import Lane, Lanes
from tests.support.lookups import turns


def test_two_go_and_the_others_follow_in_their_order() -> None:
    lane, gone = Lane(), list[int]()
    for number in range(5):
        lane.ask(lambda number=number: gone.append(number))  # type: ignore[misc] # a default binds the loop's variable
    assert gone == [0, 1]
    assert lane.busy == 2
    lane.leave()
    assert gone == [0, 1, 2]
    for _ in range(2):
        lane.leave()
    assert gone == [0, 1, 2, 3, 4]
    for _ in range(2):
        lane.leave()
    assert lane.busy == 0


def test_a_resource_has_one_lane_in_each_loop() -> None:
    lanes, first, second = Lanes(), object(), object()

    async def of(resource: object) -> Lane:
        assert lanes.of(resource) is lanes.of(resource)
        return lanes.of(resource)

    async def both() -> bool:
        return lanes.of(first) is lanes.of(second)

    assert not asyncio.run(both())
    assert asyncio.run(of(first)) is not asyncio.run(of(first))


async def test_draining_waits_until_no_place_of_this_loop_is_taken() -> None:
    lanes, gone = Lanes(), list[int]()
    await lanes.drain()  # nothing was ever asked for
    busy, idle = lanes.of(busy_one := object()), lanes.of(object())
    for number in range(3):
        busy.ask(lambda number=number: gone.append(number))  # type: ignore[misc] # a default binds the variable
    draining = asyncio.create_task(lanes.drain())
    for left in (2, 2, 1):
        await turns()
        assert busy.busy == left
        assert not draining.done()
        busy.leave()
    await draining
    assert gone == [0, 1, 2]
    assert (busy.busy, idle.busy) == (0, 0)
    assert lanes.of(busy_one) is busy


def test_draining_waits_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        several = Lanes()
        several.of("a query that never ends").ask(lambda: None)
        await several.drain()
        assert several.of("a query that never ends").busy == 1

    monkeypatch.setattr(lanes, "DRAIN", 0.0)
    asyncio.run(main())
