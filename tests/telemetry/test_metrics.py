"""Metrics: the names and types of a scrape, and exact counts while authorities and providers come and go."""

from __future__ import annotations

import gc
import os
import re
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest

from jwt_middleware import Envelope, Key, KeyRing, MemorySessionStore, Refusal, Telemetry, names, source
from jwt_middleware.counters import Counters
from jwt_middleware.telemetry.metrics import registry
from jwt_middleware.testing import old_token
from jwt_middleware.types import moment
from tests.support.asgi import foreign_token
from tests.support.processes import ROOT, python
from tests.support.signals import Signals, short
from tests.support.world import DAY, EPOCH, SECRET, World, authority_of, bearer

GOLDEN = Path(__file__).with_name("scrape.txt")
PAGE = (ROOT / "docs" / "telemetry.md").read_text()
MISSING = {"result": "refused", "error_type": "token_missing"}


async def everything_once(telemetry: Telemetry) -> World:
    """A login, a cache hit, a fallback from the database and one from the cache, a forgery, a revocation.

    Returns the world, because the gauges of its authority live as long as it does.
    """
    line = Envelope.foreign(before=moment(EPOCH + DAY))
    world = World(telemetry=telemetry, effective_at={2: moment(EPOCH - DAY)}, also_accept=[line])
    world.users.rows = {"7": {"email": "7@example.com"}}
    token, session_id = await world.log_in("7", email="ada@example.com")
    for _ in range(2):
        assert await world.reason(token) is None
    old = old_token(world.authority, {"userId": "7"}, sid=session_id)
    for _ in range(2):
        assert (await world.authority.authenticate(bearer(old))).session.email == "7@example.com"
    former = foreign_token(SECRET.encode(), {"userId": "7", "iat": EPOCH - 60, "exp": EPOCH + 60})
    assert await world.reason(former) is None
    assert await world.reason(token[:-4] + "AAAA") == "signature_invalid"
    await world.authority.revoke(session_id)
    assert await world.reason(token) == "session_revoked"
    return world


async def refuse(authority: Any, times: int = 1) -> None:
    for _ in range(times):
        await authority.authenticate([])


class TestNames:
    async def test_a_scrape_equals_the_golden_file(self) -> None:
        """`UPDATE_GOLDEN=1 pytest` writes it anew. Read the difference before you commit it: names are promises."""
        prometheus = CollectorRegistry()
        reader = PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False, registry=prometheus)
        world = await everything_once(Telemetry(meter_provider=MeterProvider([reader])))
        scrape = generate_latest(prometheus).decode()
        assert world is not None
        if os.environ.get("UPDATE_GOLDEN"):
            GOLDEN.write_text(scrape)
        assert scrape == GOLDEN.read_text()

    def test_every_counter_is_zero_from_the_first_collection(self) -> None:
        signals = Signals()
        world = World(telemetry=signals.telemetry(), also_accept=[Envelope.foreign()])
        values = signals.values()
        counters = {short(metric.name) for metric in names.METRICS if metric.kind == "counter"}
        only_with_remote_keys = {name for name in counters if name.startswith("jwks.")}
        assert {name for name, _ in values} & counters == counters - only_with_remote_keys
        assert {value for (name, _), value in values.items() if name in counters} == {0}
        assert len(values) < 200
        assert world.authority.schema.version == 2

    async def test_attribute_values_are_strings_and_names_are_declared(self) -> None:
        signals = Signals()
        world = await everything_once(signals.telemetry())
        assert world is not None
        declared = {short(metric.name): {short(key) for key in metric.attributes} for metric in names.METRICS}
        for (name, attributes), _ in signals.values().items():
            assert {key for key, _ in attributes} <= declared[name]
            assert {type(value) for _, value in attributes} <= {str}

    def test_series_stay_few_with_five_versions_ten_claims_and_eight_keys(self) -> None:
        """The documentation promises at most some 420 series for each process."""
        script = """
from dataclasses import make_dataclass
from typing import Annotated
from jwt_middleware import *
from tests.support.signals import Signals
claims = [(f"c{n}", Annotated[str, Claim(since=2 + n % 4)], "none") for n in range(9)]
Wide = make_dataclass("Wide", [("id", str), *claims], kw_only=True)
@source(*[f"c{n}" for n in range(9)])
async def fetch(keys):
    return {}
signals = Signals()
authority = SessionAuthority(
    SessionSchema(Wide, version=5, subject="id"),
    keys=KeyRing([Key.hmac(f"{n}" * 40, kid=f"k{n}") for n in range(8)]),
    sources=[fetch], store=MemorySessionStore(), telemetry=signals.telemetry(),
)
print(len(signals.values()))
"""
        assert int(python("-c", script)) <= 420

    def test_the_page_lists_every_metric_event_and_span_and_nothing_else(self) -> None:
        rows = re.findall(
            r"^\| `(jwt_middleware\.[a-z_.]+)` \| (\w+) \| (?:`([^`]+)`)? ?\|([^|]*)\|", PAGE, re.MULTILINE
        )
        documented = {name: (kind, unit or "", set(re.findall(r"`([^`]+)`", keys))) for name, kind, unit, keys in rows}
        assert documented == {
            metric.name: (metric.kind, metric.unit, {short(key) for key in metric.attributes})
            for metric in names.METRICS
        }
        events = {value for name, value in vars(names).items() if name.startswith("EVENT_")}
        for name in (*events, names.SPAN_LOOKUP, names.SPAN_FALLBACK):
            assert f"`{name}`" in PAGE

    def test_prometheus_names_of_the_page_are_those_of_a_scrape(self) -> None:
        scraped = set(re.findall(r"^# TYPE (\w+) ", GOLDEN.read_text(), re.MULTILINE))
        documented = set(re.findall(r"`(jwt_middleware_[a-z_]+)`", PAGE))
        labels = set(re.findall(r"(jwt_middleware_\w+)=", GOLDEN.read_text()))
        assert documented
        assert documented <= scraped | labels


class TestAuthorities:
    @pytest.mark.parametrize(("user_id", "reason"), [("7", None), ("nobody", "subject_unknown")])
    async def test_verifications_are_counted_by_key(self, user_id: str, reason: str | None) -> None:
        signals = Signals()

        @source("email", require_row=True)
        async def strict(keys: Any) -> Any:
            return {key: {"email": "7@example.com"} for key in keys if key == "7"}

        ring = KeyRing([Key.hmac("n" * 32, kid="new"), Key.hmac("o" * 32, kid="old", verify_only=True)])
        world = World(store=None, sources=[strict], keys=ring, telemetry=signals.telemetry())
        assert await world.reason(old_token(world.authority, {"userId": user_id})) == reason
        assert signals.value("verifications", key_id="new") == 1
        assert signals.value("verifications", key_id="old") == 0
        with pytest.raises(Refusal):
            await world.authority.verify("no.to.ken")

    async def test_counts_of_two_authorities_of_one_provider_add_up(self) -> None:
        signals = Signals()
        first, second = (authority_of(telemetry=signals.telemetry()) for _ in range(2))
        await refuse(first, 2)
        await refuse(second, 3)
        assert signals.value("requests", **MISSING) == 5

    async def test_entries_of_two_authorities_add_up_and_facts_take_the_maximum(self) -> None:
        signals = Signals()
        worlds = [World(telemetry=signals.telemetry()) for _ in range(2)]
        assert signals.value("payload.info", payload_version="2", payload_mints="2") == 1
        for size, world in enumerate(worlds, start=1):
            for _ in range(size):
                assert await world.reason((await world.log_in())[0]) is None
        assert signals.value("cache.entries", cache="tokens") == 3

    async def test_a_collected_authority_leaves_its_counts_and_takes_its_gauges(self) -> None:
        signals = Signals()
        authority = authority_of(telemetry=signals.telemetry())
        await refuse(authority, 2)
        del authority
        gc.collect()
        assert signals.value("requests", **MISSING) == 2
        assert signals.value("token.max_lifetime") is None
        another = authority_of(telemetry=signals.telemetry())
        await refuse(another)
        assert signals.value("requests", **MISSING) == 3
        assert len(registry.instruments_of(signals.meter_provider).authorities) == 1

    async def test_a_closed_authority_withdraws_its_gauges_and_keeps_its_counts(self) -> None:
        signals = Signals()
        authority = authority_of(telemetry=signals.telemetry())
        await refuse(authority)
        await authority.aclose()
        assert signals.value("requests", **MISSING) == 1
        assert signals.value("payload.info", payload_version="2", payload_mints="2") is None

    def test_a_gauge_that_raises_costs_its_own_series_alone(self) -> None:
        signals, counters, owner = Signals(), Counters(), MemorySessionStore()
        counters.gauge(names.CACHE_ENTRIES, lambda: 1 // 0, {names.CACHE: "broken"})
        counters.gauge(names.CACHE_ENTRIES, lambda: 3, {names.CACHE: "whole"})
        registry.add(counters, owner, signals.meter_provider)
        assert signals.value("cache.entries", cache="broken") is None
        assert signals.value("cache.entries", cache="whole") == 3


class TestProviders:
    async def test_two_providers_see_their_own_authority_alone(self) -> None:
        left, right = Signals(), Signals()
        first, second = authority_of(telemetry=left.telemetry()), authority_of(telemetry=right.telemetry())
        await refuse(first, 1)
        await refuse(second, 4)
        assert (left.value("requests", **MISSING), right.value("requests", **MISSING)) == (1, 4)

    def test_a_collected_provider_is_dropped(self) -> None:
        signals = Signals()
        authority = authority_of(telemetry=signals.telemetry())
        instruments = registry.instruments_of(signals.meter_provider)
        signals.meter_provider.shutdown()
        del signals, authority
        gc.collect()
        registry.instruments_of(Signals().meter_provider)
        assert instruments.provider() is None
        assert registry.observations(instruments, names.REQUESTS) == []
        assert registry.instruments_of(None) is registry.instruments_of(None)


def printed(script: str) -> str:
    """What the script prints in a process of its own, where the global meter provider is not set yet."""
    prelude = """
import asyncio, os
from opentelemetry import metrics
from tests.support.signals import Signals
from tests.support.world import authority_of

def refuse(authority, times):
    for _ in range(times):
        asyncio.run(authority.authenticate([]))

def requests():
    return signals.value("requests", result="refused", error_type="token_missing")

signals = Signals()
"""
    return python("-c", prelude + script).splitlines()[-1]


class TestGlobalState:
    def test_a_provider_that_is_set_after_construction_gets_every_count(self) -> None:
        script = """
authority = authority_of()
refuse(authority, 2)
metrics.set_meter_provider(signals.meter_provider)
refuse(authority, 1)
print(requests())
"""
        assert printed(script) == "3"

    def test_the_same_provider_may_be_named_and_global(self) -> None:
        script = """
explicit = authority_of(telemetry=signals.telemetry())
implicit = authority_of()
metrics.set_meter_provider(signals.meter_provider)
refuse(explicit, 2)
refuse(implicit, 3)
print(requests())
"""
        assert printed(script) == "5"

    def test_a_forked_child_starts_at_zero(self) -> None:
        script = """
authority = authority_of(telemetry=signals.telemetry())
refuse(authority, 7)
read, write = os.pipe()
if not (child := os.fork()):
    refuse(authority, 2)
    os.write(write, str(requests()).encode())
    os._exit(0)
os.waitpid(child, 0)
print(os.read(read, 10).decode(), requests())
"""
        assert printed(script) == "2 7"
