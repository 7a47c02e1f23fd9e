"""The benchmarks run: every section that needs no peer's package and no server, once, with next to no rounds."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest
import structlog

from benchmarks import (
    crowd,
    growth,
    handlers,
    hostile,
    in_process,
    memory,
    pauses,
    release,
    serving,
    signals,
    tokens,
    verification,
    world,
)
from benchmarks.measure import Effort, Section, in_turns, over, ratio
from benchmarks.peers import Peer, bad, everyone, on_fastapi, on_starlette, prove, shown
from benchmarks.report import markdown, plain
from benchmarks.server import app_of
from benchmarks.steps import Reader, authenticating, decoding, token_step, verifying
from jwt_middleware import Reason
from jwt_middleware.sessions.token_cache import Hit
from jwt_middleware.tokens.jws import digest

LITTLE = Effort(share=0.002)


def peers(token: str) -> dict[str, Peer]:
    return {**on_starlette.peers(token), **on_fastapi.peers(token)}


@pytest.fixture(autouse=True)
def _reset(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what a run leaves: a cached logger, and a frozen heap."""
    quiet = partial(structlog.configure, wrapper_class=structlog.make_filtering_bound_logger(50))
    monkeypatch.setattr(world, "quiet", quiet)
    yield
    gc.unfreeze()


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("in_process", lambda: in_process.run(LITTLE, peers)),
        ("hostile", lambda: hostile.run(LITTLE)),
        ("pauses", lambda: pauses.run(LITTLE)),
        ("signals", lambda: signals.run(LITTLE)),
        ("memory", lambda: memory.run(LITTLE)),
        ("growth", lambda: growth.run(LITTLE)),
    ],
)
def test_a_section_runs_and_can_be_reported(name: str, run: Callable[[], Section]) -> None:
    section = run()
    assert section.tables
    assert all(table.rows for table in section.tables)
    report = {
        "when": "today",
        "seconds": 1,
        "machine": {"cores": 1, "cpu": "", "system": "", "python": "", "load": 0},
        "versions": {},
        "sections": {name: asdict(section)},
    }
    for text in (markdown(report), plain(report)):
        assert all(table.title in text for table in section.tables)
        assert all(line.what in text and line.measured in text for line in section.lines)


def test_all_libraries_refuse_the_same_tokens_before_they_are_timed() -> None:
    section = verification.run(LITTLE)
    assert [len(table.rows) for table in section.tables] == [4 * 5, 4 * 4]
    assert all(line.measured.count(";") == 2 for line in section.lines)


def test_the_release_moment_runs_on_sqlite(tmp_path: Path) -> None:
    section = Section()
    asyncio.run(release.on_sqlite(tmp_path, LITTLE, section))
    queries = _queries(section)
    assert queries["a query each, SQLAlchemy"] == LITTLE.of(release.REQUESTS // release.SLOWER)
    assert queries["ours"] < queries["a query each, SQLAlchemy"]


def test_the_release_moment_counts_every_contenders_queries(postgres_url: str) -> None:
    async def floods() -> None:
        engine = await release.filled(postgres_url, LITTLE)
        await release.floods(engine, postgres_url.replace("+asyncpg", ""), LITTLE, section)
        await engine.dispose()

    section = Section()
    asyncio.run(floods())
    queries = _queries(section)
    assert queries["a query each, SQLAlchemy"] == queries["a query each, asyncpg"] == LITTLE.of(release.REQUESTS)
    assert queries["ours"] < LITTLE.of(release.REQUESTS)
    assert [line.met for line in section.lines] == [True, True]


def _queries(section: Section) -> dict[str, int]:
    return {row["contender"]: row["queries"] for row in section.tables[0].rows}


def test_a_handler_that_accepts_a_bad_token_is_not_timed() -> None:
    async def lets_all_in(token: str) -> world.Session:
        return world.user()

    with pytest.raises(SystemExit, match="a contender accepted a token that is forged"):
        asyncio.run(handlers.prove("a contender", lets_all_in))


def test_every_session_of_a_crowd_is_another() -> None:
    authority, token = world.authority(store=None), crowd.numbered(world.claims(userId=crowd.user(crowd.SHOWN)))
    asyncio.run(crowd.crowd(authority, token, crowd.digests(token, 3)))
    assert len(authority.parts.token_cache) == 3
    found = [authority.parts.token_cache.recall(digest(token(number))) for number in range(3)]
    assert [hit.session.user_id for hit in found if isinstance(hit, Hit)] == [crowd.user(number) for number in range(3)]


def test_growth_times_no_path_as_another() -> None:
    authority = world.authority(store=None)
    unseen = tokens.unseen(authority, world.today())
    with pytest.raises(SystemExit, match="cache hit: cache miss"):
        asyncio.run(growth.prove("cache hit", [(authority, {"cache hit": unseen})]))


def _peer_that_lets_all_in() -> Peer:
    good = world.cookie(world.today())
    return Peer(app=app_of("bare", ""), framework="Starlette", good=[good], bad={"forged": good}, checks="", says=b"hi")


def test_a_peer_that_accepts_a_bad_token_is_not_timed() -> None:
    with pytest.raises(SystemExit, match="answered 200 to a token that is forged"):
        asyncio.run(prove("a contender", _peer_that_lets_all_in()))


def test_a_peer_whose_handler_finds_no_session_is_not_timed() -> None:
    with pytest.raises(SystemExit, match="to a good token"):
        asyncio.run(prove("a contender", replace(_peer_that_lets_all_in(), says=b"ok")))


def test_every_peer_refuses_bad_tokens_and_accepts_good_ones() -> None:
    for name, peer in everyone(world.today()).items():
        asyncio.run(prove(name, peer))


def test_a_bad_token_is_bad_in_one_way() -> None:
    async def found() -> dict[str, Reason | None]:
        authority = world.authority(store=in_process.Store())
        assert (await authority.authenticate(shown(world.claims()))).session is not None
        return {wrong: (await authority.authenticate(given)).reason for wrong, given in bad(world.claims()).items()}

    assert asyncio.run(found()) == {
        "forged": Reason.SIGNATURE_INVALID,
        "without the company": Reason.PAYLOAD_INVALID,
        "expired": Reason.TOKEN_EXPIRED,
        "of the future": Reason.TOKEN_NOT_YET_VALID,
        "longer than the window": Reason.LIFETIME_EXCEEDED,
        "revoked": Reason.SESSION_REVOKED,
    }


async def _lets_all_in(token: str) -> object:
    return world.claims()


@pytest.mark.parametrize(
    "reader",
    [Reader(read=lambda token: world.claims(), refusal=ValueError), Reader(read=_lets_all_in, refusal=ValueError)],
    ids=["at once", "later"],
)
def test_a_reader_that_accepts_a_bad_token_is_not_timed(reader: Reader) -> None:
    with asyncio.Runner() as runner:
        with pytest.raises(SystemExit, match="accepted a token that is forged"):
            reader.prove(runner.get_loop(), "a contender", {}, {"forged": world.forged()})
        with pytest.raises(SystemExit, match="a bad token was accepted"):
            reader.refusing(runner.get_loop(), world.forged())(1)


def test_a_reader_that_refuses_a_good_token_is_not_timed() -> None:
    readers = [make(world.authority()) for make in (token_step, verifying, authenticating)] + [decoding()]
    with asyncio.Runner() as runner:
        for reader in readers:
            with pytest.raises(SystemExit, match="refused a good token"):
                reader.prove(runner.get_loop(), "a contender", {world.forged(): {}}, {})
            with pytest.raises(reader.refusal):
                reader.accepting(runner.get_loop(), [world.forged()])(1)


def test_a_cached_token_is_not_timed_as_a_cache_miss() -> None:
    with asyncio.Runner() as runner:
        timed = authenticating(world.authority(store=None)).accepting(runner.get_loop(), [world.today()])
        timed(1)
        with pytest.raises(SystemExit, match="the token was cached"):
            timed(1)


def test_the_served_apps_are_those_timed_in_process() -> None:
    token = world.today()
    for name in serving.NAMES:
        answer = asyncio.run(world.answer(app_of(name, token), world.cookie(token)))
        assert answer == (200, b"hi" if name in serving.UNGUARDED else b"ok"), name
        if name not in serving.UNGUARDED:
            answer = asyncio.run(world.answer(app_of(name, token), world.cookie(world.forged())))
            assert answer[0] == 401, name


def test_a_median_has_its_quartiles() -> None:
    found = {"one": [1.0, 2.0, 3.0, 4.0], "two": [3.0, 6.0, 9.0, 12.0]}
    assert ratio(found, "two", "one") == 3.0
    cost = over(found, "two", "one")
    assert (cost, cost.low, cost.high) == (5.0, 4.0, 8.0)


def test_every_contender_takes_part_in_every_round() -> None:
    asked: list[str] = []

    def timed(name: str) -> Callable[[int], float]:
        def took(number: int) -> float:
            asked.append(name)
            return 1e-6 * number

        return took

    found = in_turns({"one": timed("one"), "two": timed("two")}, rounds=5, number=10)
    assert asked.count("one") == asked.count("two") == 6
    assert found == {"one": [pytest.approx(1.0)] * 5, "two": [pytest.approx(1.0)] * 5}
