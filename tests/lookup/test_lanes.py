"""At most two slots for one resource, granted in the order of the requests."""

from __future__ import annotations

import asyncio

import pytest

from jwt_middleware.lookup import lanes as module
from jwt_middleware.lookup.lanes import Lane, Lanes
from tests.support.lookups import started, turns


def granted(tasks: list[asyncio.Task[None]]) -> list[bool]:
    """Which requests have a slot."""
    return [task.done() and not task.cancelled() for task in tasks]


async def test_two_slots_are_granted_and_then_passed_on_in_order() -> None:
    lane = Lane()
    tasks = await started(*(lane.request_slot() for _ in range(5)))
    for slots in (2, 3, 4, 5):
        assert granted(tasks) == [True] * slots + [False] * (5 - slots)
        assert lane.busy == 2
        lane.release_slot()
        await turns()
    lane.release_slot()
    assert lane.busy == 0


@pytest.mark.parametrize("moment", ["while it waits", "just as it gets a slot"])
async def test_a_cancelled_request_leaves_its_slot_to_the_next(moment: str) -> None:
    lane = Lane()
    tasks = await started(*(lane.request_slot() for _ in range(4)))
    if moment == "while it waits":
        tasks[2].cancel()
        await turns()
    lane.release_slot()
    tasks[2].cancel()
    await turns()
    assert tasks[2].cancelled()
    assert granted(tasks) == [True, True, False, True]
    lane.release_slot()
    lane.release_slot()
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


async def test_draining_waits_until_no_slot_of_this_loop_is_in_use() -> None:
    lanes = Lanes()
    await lanes.drain()  # no lookup has a lane yet
    busy, idle = lanes.of("busy"), lanes.of("idle")
    requests = await started(*(busy.request_slot() for _ in range(3)))
    draining = asyncio.create_task(lanes.drain())
    for left in (2, 2, 1):
        await turns()
        assert busy.busy == left
        assert not draining.done()
        busy.release_slot()
    await draining
    assert granted(requests) == [True] * 3
    assert (busy.busy, idle.busy) == (0, 0)
    assert lanes.of("busy") is busy


async def test_draining_does_not_wait_for_a_query_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAIN", 0.0)
    lanes = Lanes()
    await lanes.of("hangs").request_slot()
    await lanes.drain()
    assert lanes.of("hangs").busy == 1
