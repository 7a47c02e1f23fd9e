"""From settings to working parts: contradictory settings fail at construction; gauges keep no authority alive."""

from __future__ import annotations

import asyncio
import gc
import weakref
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jwt_middleware import ConfigError, Envelope, Key, KeyRing, MemorySessionStore, SilentObserver, names, source
from jwt_middleware.config import configuration
from tests.support.lookups import turns
from tests.support.world import DAY, SECRET, Users, World, authority_of, bearer

STORE = MemorySessionStore()


def gauges(authority: Any, metric: names.Metric) -> dict[tuple[str, ...], float | None]:
    """What the gauges of one metric read now, by the values of their attributes."""
    series = authority.parts.counters.gauges()
    return {tuple(value for _, value in attributes): read() for name, attributes, read in series if name is metric}


class TestSettings:
    def test_a_wrong_setting_fails_at_construction_and_names_the_fix(self, subtests: pytest.Subtests) -> None:
        cases: list[tuple[dict[str, Any], str]] = [
            ({"window": timedelta(milliseconds=500)}, "window"),
            ({"window": timedelta(seconds=1.5)}, "window"),
            ({"leeway": timedelta(seconds=-1)}, "leeway"),
            ({"leeway": timedelta(days=7)}, "leeway"),
            ({"rollout": timedelta(seconds=-1)}, "rollout"),
            ({"cache_entries": 0}, "cache_entries"),
            ({"renew_within": timedelta(days=1)}, "needs a store"),
            ({"renew_within": timedelta(0), "store": STORE}, "positive and shorter than window"),
            ({"renew_within": timedelta(days=-1), "store": STORE}, "positive and shorter than window"),
            ({"renew_within": timedelta(days=7), "store": STORE}, "positive and shorter than window"),
            ({"renew_within": timedelta(1), "max_session_age": timedelta(7), "store": STORE}, "longer than window"),
            ({"max_session_age": timedelta(0)}, "max_session_age must be positive"),
            ({"window": 7}, r"window must be a timedelta"),
            ({"max_session_age": "30d"}, "max_session_age must be a timedelta"),
            ({"keys": "a secret of at least thirty-two bytes"}, r"KeyRing\(\["),
            ({"keys": [Key.hmac(SECRET)]}, r"KeyRing\(\["),
            (
                {"keys": KeyRing([Key.hmac(SECRET, verify_only=True)]), "reissue": True},
                "put a secret or a private key first",
            ),
            ({"sources": object()}, "sources must be a list"),
            ({"sources": [lambda keys: {}]}, r"@source\("),
            ({"cookie": "session"}, r"SessionCookie\("),
            ({"issuer": ""}, "must not be empty"),
            ({"audience": ""}, "must not be empty"),
            ({"audience": []}, "must not be empty"),
            ({"audience": ["a", ""]}, "must not be empty"),
            ({"also_accept": Envelope.foreign()}, "must be a list of lines, got Envelope"),
            ({"also_accept": ["token"]}, r"Envelope\.before"),
            ({"revocation": timedelta(seconds=5)}, r"Revocation\(max_staleness="),
            ({"lookups": {"timeout": 1}}, r"LookupLimits\(timeout="),
            ({"telemetry": None}, r"Telemetry\("),
            ({"reissue": timedelta(days=1)}, "reissue must be a bool, got timedelta"),
            ({"cache_entries": "10"}, "cache_entries must be an int, got str"),
            ({"secret_claims": "password"}, "secret_claims must be a list of words"),
            ({"observers": SilentObserver()}, r"\[MyObserver\(\)\]"),
            ({"observers": [SilentObserver]}, "must be objects, got the class"),
            ({"effective_at": datetime(2026, 12, 1, tzinfo=UTC)}, r"\{2: datetime"),
            ({"issuer": ["https://issuer.example"]}, "issuer must be a str, got list"),
            ({"audience": 7}, "audience must be a str or a list of str, got int"),
            ({"store": MemorySessionStore}, r"MemorySessionStore\(\)"),
            ({"store": "sqlite+aiosqlite:///app.db"}, r"SQLAlchemySessionStore\(engine\)"),
        ]
        for settings, message in cases:
            with subtests.test(settings=settings), pytest.raises(ConfigError, match=message):
                authority_of(**settings)

    def test_a_long_window_needs_no_greater_age_where_nothing_is_renewed(self) -> None:
        assert authority_of(window=timedelta(days=90)).window == timedelta(days=90)

    async def test_a_tuple_or_a_set_serves_as_a_list(self) -> None:
        world = World(sources=(), observers=(), audience=("app",), secret_claims=frozenset({"password"}))
        assert (await world.claims(await world.token()))["aud"] == ["app"]

    @pytest.mark.parametrize(("audience", "minted"), [("app", "app"), (["app", "api"], ["app", "api"])])
    async def test_issuer_and_audience_are_minted_and_required(self, audience: Any, minted: Any) -> None:
        world = World(issuer="https://issuer.example", audience=audience)
        token = await world.token()
        claims = await world.claims(token)
        assert (claims["iss"], claims["aud"]) == ("https://issuer.example", minted)
        assert await World(issuer="https://other.example", audience="app").reason(token) == "issuer_mismatch"


class TestGauges:
    def test_the_longest_lifetime_is_that_of_the_window_or_of_a_line(self) -> None:
        def longest(**settings: Any) -> dict[tuple[str, ...], float | None]:
            return gauges(authority_of(**settings), names.TOKEN_MAX_LIFETIME)

        assert longest() == {(): 7 * DAY}
        assert longest(also_accept=[Envelope.foreign(window=timedelta(days=30))]) == {(): 30 * DAY}
        assert longest(also_accept=[Envelope.foreign(window=timedelta(days=1))]) == {(): 7 * DAY}

    async def test_the_parts_of_one_authority_show_themselves_in_gauges(self) -> None:
        world = World(effective_at={2: datetime(2026, 1, 1, tzinfo=UTC)})
        at, world.users.gate = world.authority, asyncio.Event()
        assert gauges(at, names.CACHE_ENTRIES) == {("claims",): 0, ("sessions",): 0, ("tokens",): 0}
        assert gauges(at, names.LOOKUP_WAITING) == {("claims",): 0, ("sessions",): 0}
        assert gauges(at, names.LOOKUP_BREAKER_OPEN) == {("claims",): False, ("sessions",): False}
        assert gauges(at, names.PAYLOAD_LAST_MINTED) == {("1",): None, ("2",): None}
        assert set(gauges(at, names.PAYLOAD_SUPERSEDED)) == {("1",)}
        assert list(gauges(at, names.PAYLOAD_INFO).values()) == [1]
        token, session_id = await world.log_in(email="a@b.c")
        waiting = asyncio.create_task(at.authenticate(bearer(await world.old(version=1, sid=session_id))))
        await turns()
        assert gauges(at, names.LOOKUP_WAITING) == {("claims",): 1, ("sessions",): 0}
        world.users.gate.set()
        assert (await waiting).session.email == "ada@example.com"
        assert gauges(at, names.CACHE_ENTRIES) == {("claims",): 1, ("sessions",): 1, ("tokens",): 1}
        assert await world.reason(token) is None
        assert gauges(at, names.CACHE_ENTRIES) == {("claims",): 1, ("sessions",): 1, ("tokens",): 2}
        assert gauges(at, names.PAYLOAD_LAST_MINTED)[("2",)] is not None
        await at.aclose()
        assert list(at.parts.counters.gauges()) == []

    async def test_an_open_breaker_shows_itself(self) -> None:
        world = World()
        world.users.down = True
        for user in range(5):
            await world.reason(await world.old({"userId": str(user)}, version=1))
        assert gauges(world.authority, names.LOOKUP_BREAKER_OPEN) == {("claims",): True, ("sessions",): False}

    async def test_two_sources_are_one_lookup_in_the_gauges_and_both_are_read(self) -> None:
        @source("role", by="companyId")
        async def roles(keys: Any) -> Any:
            return {key: {"role": "admin"} for key in keys}

        world = World(sources=[Users().source, roles])
        outcome = await world.authority.authenticate(bearer(await world.old({"companyId": "c"}, version=1)))
        assert (outcome.session.email, outcome.session.role) == ("ada@example.com", "admin")
        assert gauges(world.authority, names.CACHE_ENTRIES)[("claims",)] == 2

    def test_gauges_keep_no_authority_alive(self) -> None:
        store = MemorySessionStore()
        at = authority_of(store=store, sources=[Users().source])
        gone, kept = weakref.ref(at), weakref.ref(store)
        held = list(at.parts.counters.gauges())  # as a collector may, in the middle of a collection
        del at, store
        gc.collect()
        assert gone() is None
        assert kept() is None
        assert {read() for metric, _, read in held if metric is names.CACHE_ENTRIES} == {None, 0}
        assert {read() for metric, _, read in held if metric is names.LOOKUP_WAITING} == {0}

    def test_without_a_store_there_is_no_lookup_of_sessions(self) -> None:
        assert gauges(authority_of(), names.CACHE_ENTRIES) == {("tokens",): 0}


def test_the_facts_of_the_configuration_hold_nothing_secret() -> None:
    at = World(keys=KeyRing([Key.hmac(SECRET, kid="2026")])).authority
    facts = configuration(at.schema, at.parts.settings, at.parts.rules)
    assert facts == {
        "payload_version": 2,
        "payload_mints": 2,
        "window_s": 604_800,
        "keys": ["2026"],
        "sourced": ["email"],
        "store": True,
        "also_accept": [],
        "advice": ["set audience= (or issuer=): tokens that the same key signs for another app are accepted here"],
    }
    assert SECRET not in str(facts)
