"""Requests that are cancelled while they wait: no connection stays checked out, none stays open at the server."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Literal

import asyncpg
import pytest

from jwt_middleware import LookupLimits
from jwt_middleware.lookup.lanes import WIDTH
from tests.support.databases import checked_out, deployed, until
from tests.support.proxy import proxied

USERS = 50


@pytest.mark.parametrize("fault", [None, "delay", "half-open", "locked"])
async def test_a_thousand_cancelled_requests_leave_no_connection(
    postgres_url: str, fault: Literal["delay", "half-open", "locked"] | None
) -> None:
    database = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))

    async def connections() -> int:
        return int(
            await database.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )

    emails = {user: f"{user}@x.y" for user in range(USERS)}
    limits = LookupLimits(timeout=timedelta(seconds=1))
    async with (
        proxied(postgres_url) as (proxy, through),
        deployed(through, emails, engine={"pool_size": 5, "max_overflow": 0}, lookups=limits) as world,
    ):
        tokens = [await world.old({"userId": str(user)}) for user in range(USERS)]
        before = await connections()
        if fault == "locked":
            await database.execute("BEGIN; LOCK TABLE users, user_sessions IN ACCESS EXCLUSIVE MODE")
        else:
            proxy.set(fault)
        tasks = [asyncio.create_task(world.email(tokens[number % USERS])) for number in range(1_000)]
        for number, task in enumerate(tasks):
            if number % 50 == 0:
                await asyncio.sleep(0.002)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if fault is not None:
            await until(lambda: any("timeout" in labels for labels in world.counts("lookups")))
        if fault == "locked":
            await database.execute("ROLLBACK")
        proxy.repair()

        async def recovered() -> bool:
            return await asyncio.gather(*map(world.email, tokens)) == list(emails.values())

        async def few_connections() -> bool:
            return await connections() <= max(before, WIDTH)  # the second lane may have opened one

        await until(recovered)
        await world.authority.aclose()
        await until(lambda: checked_out(world.engine) == 0)
        await until(few_connections)

    async def closed() -> bool:
        return await connections() == 0

    await until(closed)
    await database.close()
