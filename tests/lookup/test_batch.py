"""The states of the keys of one lookup, move by move."""

from __future__ import annotations

import asyncio
import gc
from datetime import timedelta
from typing import Any

import pytest

from jwt_middleware.lookup.batch import PATIENCE, Batch, Batcher, LookupFailed
from jwt_middleware.lookup.lanes import Lane
from jwt_middleware.types import FillOutcome
from tests.support.lookups import Database, lookup_over

TIMEOUT = 0.01


def batcher_over(database: Database) -> Batcher[Any, Any]:
    return Batcher(Lane(), lookup_over(database.fetch, timeout=timedelta(seconds=TIMEOUT))._queries)


def flushed(batcher: Batcher[Any, Any]) -> Batch[Any, Any]:
    task = asyncio.current_task()
    assert task is not None
    batch = batcher._flush(task)
    assert batch is not None
    return batch


async def test_each_key_has_the_whole_patience_although_one_timer_serves_all() -> None:
    batcher, loop = batcher_over(Database()), asyncio.get_running_loop()
    batcher._lane.busy = 2  # no slot comes
    batcher.join("first", None, fresh=False)
    flushed(batcher)
    await asyncio.sleep(PATIENCE * TIMEOUT / 2)
    began = loop.time()
    with pytest.raises(LookupFailed, match="timeout"):
        await batcher.join("second", None, fresh=False)
    assert loop.time() - began >= PATIENCE * TIMEOUT


async def test_a_batch_is_settled_once() -> None:
    batcher = batcher_over(Database())
    future = batcher.join("a", None, fresh=False)
    batch = flushed(batcher)
    assert batcher._settle(batch)
    assert not batcher._settle(batch)
    batch.resolve({"a": "row"})
    batch.fail(FillOutcome.ERROR)  # its waiters have a result
    assert (await future).value == "row"


async def test_a_failure_that_no_request_awaits_any_more_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    batcher = batcher_over(Database())
    batcher.join("a", None, fresh=False)
    flushed(batcher).fail(FillOutcome.ERROR)
    del batcher
    gc.collect()
    assert caplog.records == []
