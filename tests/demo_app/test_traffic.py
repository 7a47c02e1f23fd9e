from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from demo_app.account import seen_by_prometheus, seen_by_users
from demo_app.database import users
from demo_app.settings import Settings
from demo_app.traffic import Cookie, Traffic, _User, client
from tests.support.demo import PASSWORD, USER, Stage, stage


@pytest.fixture(autouse=True)
def _the_same_chances() -> None:
    random.seed(7)


async def test_users_and_metrics_count_the_same_over_a_release(tmp_path: Path) -> None:
    settings = Settings(users=3, window=12, rate=0.1)  # so rarely that they log out every other time
    async with stage(tmp_path, settings) as on:
        traffic = Traffic(settings, on.users, PASSWORD)
        people = [_User(f"user{number}@example.com") for number in (1, 2, 3)]
        for turn in range(40):
            if turn == 15:
                await on.deployment.release()
            await traffic.act(people[turn % 3])
        seen = seen_by_users(traffic.counts)
        assert seen == seen_by_prometheus(await on.scrape())
        assert min(seen["accepted_v1"], seen["accepted_v2"], seen["fallbacks"], seen["revoked"]) > 0
        assert (traffic.counts.refused, traffic.counts.without_email) == (Counter(), 0)
        assert await on.database.saved() == (traffic.counts.saves, 0)


def test_a_401_after_the_end_of_the_token_is_expected_and_followed_by_a_login(tmp_path: Path) -> None:
    async def scene(on: Stage, traffic: Traffic, user: _User) -> None:
        await traffic.act(user)
        first = user.cookie
        assert first is not None
        user.cookie = Cookie(token=first.token, version=1, expires_at=0.0)  # as the user's clock sees it
        await on.deployment.authority.revoke_all()
        await traffic.act(user)
        assert (traffic.counts.expired, traffic.counts.refused) == (1, Counter())
        assert traffic.counts.logins[1] == 2
        assert user.cookie != first

    _with_one_user(tmp_path, scene)


def test_any_other_refusal_of_an_honest_user_is_remembered(tmp_path: Path) -> None:
    async def scene(on: Stage, traffic: Traffic, user: _User) -> None:
        await traffic.act(user)
        await on.deployment.authority.revoke_all()
        await traffic.act(user)
        assert traffic.counts.refused.total() == 1
        assert next(iter(traffic.counts.refused)) in ("401 /me", "401 /api/consolidation/save")
        assert traffic.counts.expired == 0

    _with_one_user(tmp_path, scene)


def test_an_answer_with_another_email_is_counted(tmp_path: Path) -> None:
    async def scene(on: Stage, traffic: Traffic, user: _User) -> None:
        await traffic.act(user)
        await on.deployment.release()  # its cache of claims is empty
        async with on.database.engine.begin() as connection:
            await connection.execute(sa.update(users).values(email=users.c.email + ".invalid"))
        await traffic.act(user)
        assert traffic.counts.without_email == 1

    _with_one_user(tmp_path, scene)


def test_a_login_that_fails_is_a_refusal(tmp_path: Path) -> None:
    async def scene(on: Stage, _: Traffic, user: _User) -> None:
        traffic = Traffic(Settings(), on.users, "wrong")
        await traffic.act(user)
        assert traffic.counts.refused == Counter({"401 /login": 1})
        assert user.cookie is None

    _with_one_user(tmp_path, scene)


async def test_a_request_without_an_answer_is_a_failure_and_the_users_go_on() -> None:
    asked = asyncio.Event()

    async def nobody_there(request: httpx.Request) -> httpx.Response:
        if asked.is_set():
            ended.set()
        asked.set()
        raise httpx.ConnectError("refused", request=request)

    ended = asyncio.Event()
    async with client("http://testserver", transport=httpx.MockTransport(nobody_there)) as http:
        traffic = Traffic(Settings(users=1, rate=1_000, release_after=0.001), http, PASSWORD)
        running = asyncio.create_task(traffic.run())
        await ended.wait()
        await traffic.end()
        await running
    assert traffic.counts.failures >= 2


async def test_the_clients_of_many_users_keep_nobodys_cookie(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        answer = await on.users.post("/login", json={"email": USER, "password": PASSWORD})
        assert "set-cookie" in answer.headers
        assert (await on.users.get("/me")).status_code == 401


def _with_one_user(tmp_path: Path, scene: Callable[[Stage, Traffic, _User], Awaitable[None]]) -> None:
    async def playing() -> None:
        async with stage(tmp_path) as on:
            await scene(on, Traffic(Settings(), on.users, PASSWORD), _User(USER))

    asyncio.run(playing())
