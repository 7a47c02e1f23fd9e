"""At most two queries at once for one resource, in the order of asking."""

from __future__ import annotations

import asyncio

from jwt_middleware.lookup import Lanes
from jwt_middleware.lookup.lanes import Lane


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
