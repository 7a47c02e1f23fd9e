"""The simulated users: what they do after each response, and what they count."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from demo_app.database import users
from demo_app.headless import counted_by_metrics, counted_by_users
from demo_app.settings import Settings
from demo_app.traffic import Cookie, Traffic, _User, client
from tests.support.demo import PASSWORD, USER, Demo, demo_of


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(7)


@pytest.fixture
def traffic(demo: Demo) -> Traffic:
    return Traffic(Settings(), demo.users, PASSWORD)


@pytest.fixture
def user() -> _User:
    return _User(USER)


async def test_users_and_metrics_count_the_same_over_a_release(tmp_path: Path) -> None:
    settings = Settings(users=3, window=12, rate=0.1)  # so rarely that they log out every other time
    async with demo_of(tmp_path, settings) as demo:
        traffic = Traffic(settings, demo.users, PASSWORD)
        everyone = [_User(f"user{number}@example.com") for number in (1, 2, 3)]
        for turn in range(40):
            if turn == 15:
                await demo.deployment.release()
            await traffic.act(everyone[turn % 3])
        counts = counted_by_users(traffic.counts)
        assert counts == counted_by_metrics(await demo.scrape())
        assert min(counts["accepted_v1"], counts["accepted_v2"], counts["fallbacks"], counts["revoked"]) > 0
        assert (traffic.counts.refused, traffic.counts.without_email) == (Counter(), 0)
        assert await demo.database.saved() == (traffic.counts.saves, 0)


async def test_a_401_after_the_end_of_the_token_is_followed_by_a_login(
    demo: Demo, traffic: Traffic, user: _User
) -> None:
    await traffic.act(user)
    first = user.cookie
    assert first is not None
    user.cookie = Cookie(token=first.token, version=1, expires_at=0.0)  # expired by the user's clock
    await demo.deployment.authority.revoke_all()
    await traffic.act(user)
    assert (traffic.counts.expired, traffic.counts.refused) == (1, Counter())
    assert traffic.counts.logins[1] == 2
    assert user.cookie != first


async def test_any_other_refusal_of_a_valid_token_is_counted(demo: Demo, traffic: Traffic, user: _User) -> None:
    await traffic.act(user)
    await demo.deployment.authority.revoke_all()
    await traffic.act(user)
    assert traffic.counts.refused.total() == 1
    assert next(iter(traffic.counts.refused)) in ("401 /me", "401 /api/consolidation/save")
    assert traffic.counts.expired == 0


async def test_a_response_with_another_email_is_counted(demo: Demo, traffic: Traffic, user: _User) -> None:
    await traffic.act(user)
    await demo.deployment.release()  # with an empty cache of claims
    async with demo.database.engine.begin() as connection:
        await connection.execute(sa.update(users).values(email=users.c.email + ".invalid"))
    await traffic.act(user)
    assert traffic.counts.without_email == 1


async def test_a_login_that_fails_is_a_refusal(demo: Demo, user: _User) -> None:
    traffic = Traffic(Settings(), demo.users, "wrong")
    await traffic.act(user)
    assert traffic.counts.refused == Counter({"401 /login": 1})
    assert user.cookie is None


async def test_a_request_without_a_response_is_a_failure_and_users_continue() -> None:
    requests: list[httpx.Request] = []
    enough = asyncio.Event()

    async def refuse(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        if len(requests) == 2:
            enough.set()
        raise httpx.ConnectError("refused", request=request)

    async with client("http://testserver", transport=httpx.MockTransport(refuse)) as http:
        traffic = Traffic(Settings(users=1, rate=1_000, release_after=0.001), http, PASSWORD)
        running = asyncio.create_task(traffic.run())
        await enough.wait()
        await traffic.end()
        await running
    assert traffic.counts.failures >= 2


async def test_the_client_of_many_users_stores_no_cookies(demo: Demo) -> None:
    answer = await demo.users.post("/login", json={"email": USER, "password": PASSWORD})
    assert "set-cookie" in answer.headers
    assert (await demo.users.get("/me")).status_code == 401
