"""From settings to working parts: what contradicts fails here, what reads counts keeps nothing alive."""

from __future__ import annotations

import asyncio
import gc
import weakref
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jwt_middleware import Adoption, Key, KeyRing, MemorySessionStore, SessionAuthority, names, source
from jwt_middleware.config import configuration
from jwt_middleware.errors import ConfigError
from jwt_middleware.testing import old_token
from tests.support.lookups import turns
from tests.support.world import SECRET, Session, authority_of

Authority = SessionAuthority[Any]


def gauges(of: Authority, metric: names.Metric) -> dict[tuple[str, ...], float | None]:
    return {tuple(value for _, value in at): read() for each, at, read in of.parts.counters.gauges() if each is metric}


async def ask(at: Authority, token: str) -> Any:
    return await at.authenticate([(b"authorization", f"Bearer {token}".encode())])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": timedelta(milliseconds=500)}, "window"),
        ({"window": timedelta(seconds=1.5)}, "window"),
        ({"leeway": timedelta(seconds=-1)}, "leeway"),
        ({"leeway": timedelta(days=7)}, "leeway"),
        ({"rollout": timedelta(seconds=-1)}, "rollout"),
        ({"cache_entries": 0}, "cache_entries"),
    ],
    ids=str,
)
def test_settings_that_contradict_are_found_at_construction(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        authority_of(**settings)


def test_the_longest_lifetime_is_that_of_the_window_or_of_what_is_adopted() -> None:
    def longest(**settings: Any) -> dict[tuple[str, ...], float | None]:
        return gauges(authority_of(**settings), names.TOKEN_MAX_LIFETIME)

    day = 86_400.0
    assert longest() == {(): 7 * day}
    assert longest(adoption=Adoption(accepted_lifetime=timedelta(days=30))) == {(): 30 * day}
    assert longest(adoption=Adoption(accepted_lifetime=timedelta(days=1))) == {(): 7 * day}


@pytest.mark.parametrize(("audience", "minted"), [("app", "app"), (["app", "api"], ["app", "api"])])
async def test_issuer_and_audience_are_minted_and_required(audience: Any, minted: Any) -> None:
    at = authority_of(issuer="https://issuer.example", audience=audience)
    issued = await at.issue(Session(user_id="7"))
    verified = await at.verify(issued.token)
    assert (verified.claims["iss"], verified.claims["aud"]) == ("https://issuer.example", minted)
    assert (await ask(authority_of(issuer="https://other.example", audience="app"), issued.token)).reason == (
        "issuer_mismatch"
    )


async def test_the_parts_of_one_authority_show_themselves_in_gauges() -> None:
    gate = asyncio.Event()

    @source("email")
    async def emails(keys: Any) -> Any:
        await gate.wait()
        return {key: {"email": "a@b.c"} for key in keys}

    at = authority_of(sources=[emails], store=MemorySessionStore(), effective_at={2: datetime(2026, 1, 1, tzinfo=UTC)})
    assert gauges(at, names.CACHE_ENTRIES) == {("claims",): 0, ("sessions",): 0, ("tokens",): 0}
    assert gauges(at, names.LOOKUP_WAITING) == {("claims",): 0, ("sessions",): 0}
    assert gauges(at, names.LOOKUP_BREAKER_OPEN) == {("claims",): False, ("sessions",): False}
    assert gauges(at, names.PAYLOAD_LAST_MINTED) == {("1",): None, ("2",): None}
    assert set(gauges(at, names.PAYLOAD_SUPERSEDED)) == {("1",)}
    assert list(gauges(at, names.PAYLOAD_INFO).values()) == [1]
    issued = await at.issue(Session(user_id="7", email="a@b.c"))
    old = old_token(at, {"userId": "7"}, version=1, sid=issued.session_id)
    waiting = asyncio.create_task(ask(at, old))
    await turns()
    assert gauges(at, names.LOOKUP_WAITING) == {("claims",): 1, ("sessions",): 0}
    gate.set()
    assert (await waiting).session.email == "a@b.c"
    assert gauges(at, names.CACHE_ENTRIES) == {("claims",): 1, ("sessions",): 1, ("tokens",): 1}
    assert (await ask(at, issued.token)).result == "accepted"
    assert gauges(at, names.CACHE_ENTRIES) == {("claims",): 1, ("sessions",): 1, ("tokens",): 2}
    assert gauges(at, names.PAYLOAD_LAST_MINTED)[("2",)] is not None
    await at.aclose()
    assert list(at.parts.counters.gauges()) == []


async def test_an_open_breaker_shows_itself() -> None:
    @source("email")
    async def down(keys: Any) -> Any:
        raise OSError

    at = authority_of(sources=[down])
    for user in range(5):
        await ask(at, old_token(at, {"userId": str(user)}, version=1))
    assert gauges(at, names.LOOKUP_BREAKER_OPEN) == {("claims",): True}


async def test_two_sources_are_one_lookup_in_the_gauges_and_both_are_read() -> None:
    @source("email")
    async def emails(keys: Any) -> Any:
        return {key: {"email": "a@b.c"} for key in keys}

    @source("role", by="companyId")
    async def roles(keys: Any) -> Any:
        return {key: {"role": "admin"} for key in keys}

    at = authority_of(sources=[emails, roles])
    outcome = await ask(at, old_token(at, {"userId": "7", "companyId": "c"}, version=1))
    assert (outcome.session.email, outcome.session.role) == ("a@b.c", "admin")
    assert gauges(at, names.CACHE_ENTRIES)[("claims",)] == 2


def test_what_reads_counts_keeps_no_authority_alive() -> None:
    @source("email")
    async def emails(keys: Any) -> Any:
        return {}

    store = MemorySessionStore()
    at = authority_of(store=store, sources=[emails])
    gone, kept = weakref.ref(at), weakref.ref(store)
    held = list(at.parts.counters.gauges())  # as a collector may, in the middle of a collection
    del at, store
    gc.collect()
    assert gone() is None
    assert kept() is None
    assert {read() for metric, _, read in held if metric is names.CACHE_ENTRIES} == {None, 0}
    assert {read() for metric, _, read in held if metric is names.LOOKUP_WAITING} == {0}


def test_without_a_store_there_is_no_lookup_of_sessions() -> None:
    at = authority_of()
    assert at.parts.revocation is None
    assert gauges(at, names.CACHE_ENTRIES) == {("tokens",): 0}


def test_the_facts_of_the_configuration_hold_nothing_secret() -> None:
    @source("email")
    async def emails(keys: Any) -> Any:
        return {}

    at = authority_of(sources=[emails], store=MemorySessionStore(), keys=KeyRing([Key.hmac(SECRET, kid="2026")]))
    facts = configuration(at.schema, at._settings)
    assert facts == {
        "payload_version": 2,
        "payload_mints": 2,
        "window_s": 604_800,
        "keys": ["2026"],
        "sourced": ["email"],
        "store": True,
    }
    assert SECRET not in str(facts)
