"""The states of the keys, without a lookup that makes the moves."""

from __future__ import annotations

import asyncio
import gc

import pytest

from jwt_middleware.lookup.batch import Batcher, LookupFailed, Slot
from jwt_middleware.lookup.lanes import Lane
from jwt_middleware.types import FillOutcome

PATIENCE = 0.02


def slot() -> Slot:
    task = asyncio.current_task()
    assert task is not None
    return task


async def test_each_key_has_the_whole_patience_although_one_timer_serves_all() -> None:
    batcher, loop = Batcher[str, str](Lane(), PATIENCE), asyncio.get_running_loop()
    batcher.join("first", None, fresh=False)
    assert batcher.flush(slot(), 0.0)
    await asyncio.sleep(PATIENCE / 2)
    began = loop.time()
    with pytest.raises(LookupFailed, match="timeout"):
        await batcher.join("second", None, fresh=False)
    assert loop.time() - began >= PATIENCE
    assert not batcher.has_waiters


async def test_a_batch_is_settled_once() -> None:
    batcher = Batcher[str, str](Lane(), PATIENCE)
    future = batcher.join("a", None, fresh=False)
    batch = batcher.flush(slot(), 0.0)
    assert batch is not None
    assert batcher.settle(batch)
    assert not batcher.settle(batch)
    batch.resolve({"a": "row"})
    batch.fail(FillOutcome.ERROR)  # its waiters have a result
    assert (await future).value == "row"


async def test_a_failure_that_no_request_awaits_any_more_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    batcher = Batcher[str, str](Lane(), PATIENCE)
    batcher.join("a", None, fresh=False)
    batch = batcher.flush(slot(), 0.0)
    assert batch is not None
    batch.fail(FillOutcome.ERROR)
    del batch, batcher
    gc.collect()
    assert caplog.records == []
