"""What a scrape shows: every name, label, help text and type, zero before anything happened, exact afterwards."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest

from jwt_middleware import Key, KeyRing, MemorySessionStore, Refusal, Telemetry, names, source
from jwt_middleware.testing import old_token
from tests.support.signals import Signals, short
from tests.support.world import EPOCH, FakeClock, Session, authority_of

GOLDEN = Path(__file__).with_name("scrape.txt")
PAGE = Path(__file__).parents[2] / "docs" / "telemetry.md"


@source("email")
async def emails(keys: Collection[str]) -> dict[str, dict[str, str]]:
    return {key: {"email": f"{key}@example.com"} for key in keys if key != "nobody"}


def bearer(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Bearer " + token.encode())]


async def everything_once(telemetry: Telemetry) -> object:
    """A log-in, a plain hit, a fallback from the database and one from the cache, a forgery, a revocation.

    Returns the authority: its gauges live no longer.
    """
    clock = FakeClock()
    authority = authority_of(
        sources=[emails],
        store=MemorySessionStore(clock=clock),
        telemetry=telemetry,
        clock=clock,
        effective_at={2: datetime.fromtimestamp(EPOCH - 86_400, UTC)},
    )
    issued = await authority.issue(Session(user_id="7", email="ada@example.com"))
    for _ in range(2):
        assert (await authority.authenticate(bearer(issued.token))).result == "accepted"
    old = old_token(authority, {"userId": "7"}, sid=issued.session_id)
    for _ in range(2):
        assert (await authority.authenticate(bearer(old))).session.email == "7@example.com"
    assert (await authority.authenticate(bearer(issued.token[:-4] + "AAAA"))).result == "refused"
    await authority.revoke(issued.session_id)
    assert (await authority.authenticate(bearer(issued.token))).result == "refused"
    return authority


def test_a_scrape_is_the_golden_file() -> None:
    """`UPDATE_GOLDEN=1 pytest` writes it anew; read the difference before you commit it: names are promises."""
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False, registry=registry)
    authority = asyncio.run(everything_once(Telemetry(meter_provider=MeterProvider([reader]))))
    scrape = generate_latest(registry).decode()
    assert authority is not None
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(scrape)
    assert scrape == GOLDEN.read_text()


def test_every_counter_is_zero_from_the_first_collection() -> None:
    signals = Signals()
    authority = authority_of(sources=[emails], store=MemorySessionStore(), telemetry=signals.telemetry())
    values = signals.values()
    counters = {short(metric.name) for metric in names.METRICS if metric.kind == "counter"}
    only_with_remote_keys = {name for name in counters if name.startswith("jwks.")}
    assert {name for name, _ in values} & counters == counters - only_with_remote_keys
    assert {value for (name, _), value in values.items() if name in counters} == {0}
    assert len(values) < 200
    assert authority.schema.version == 2


def test_attribute_values_are_strings_and_names_are_declared() -> None:
    signals = Signals()
    authority = asyncio.run(everything_once(signals.telemetry()))
    assert authority is not None
    declared = {short(metric.name): {short(key) for key in metric.attributes} for metric in names.METRICS}
    for (name, attributes), _ in signals.values().items():
        assert {key for key, _ in attributes} <= declared[name]
        assert {type(value) for _, value in attributes} <= {str}


def test_series_stay_few_with_five_versions_ten_claims_and_eight_keys() -> None:
    """The contract's promise: at most some 420 series a process."""
    script = """
import asyncio
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
    assert int(run(script)) <= 420


def run(script: str) -> str:
    """In a process of its own: global providers can be set only once."""
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_the_page_lists_every_metric_event_and_span_and_nothing_else() -> None:
    page = PAGE.read_text()
    rows = re.findall(r"^\| `(jwt_middleware\.[a-z_.]+)` \| (\w+) \| (?:`([^`]+)`)? ?\|([^|]*)\|", page, re.MULTILINE)
    documented = {name: (kind, unit or "", set(re.findall(r"`([^`]+)`", keys))) for name, kind, unit, keys in rows}
    assert documented == {
        metric.name: (metric.kind, metric.unit, {short(key) for key in metric.attributes}) for metric in names.METRICS
    }
    events = {value for name, value in vars(names).items() if name.startswith("EVENT_")}
    for name in (*events, names.SPAN_LOOKUP, names.SPAN_FALLBACK):
        assert f"`{name}`" in page


def test_prometheus_names_of_the_page_are_those_of_a_scrape() -> None:
    scraped = set(re.findall(r"^# TYPE (\w+) ", GOLDEN.read_text(), re.MULTILINE))
    documented = set(re.findall(r"`(jwt_middleware_[a-z_]+)`", PAGE.read_text()))
    labels = set(re.findall(r"(jwt_middleware_\w+)=", GOLDEN.read_text()))
    assert documented
    assert documented <= scraped | labels


@pytest.mark.parametrize(("sub", "reason"), [("7", None), ("nobody", "subject_unknown")])
def test_a_key_of_its_own_counts_for_itself(sub: str, reason: str | None) -> None:
    signals = Signals()

    @source("email", require_row=True)
    async def strict(keys: Collection[str]) -> dict[str, dict[str, str]]:
        return {key: {"email": f"{key}@example.com"} for key in keys if key != "nobody"}

    ring = KeyRing([Key.hmac("n" * 32, kid="new"), Key.hmac("o" * 32, kid="old", verify_only=True)])
    authority = authority_of(sources=[strict], keys=ring, telemetry=signals.telemetry())
    outcome = asyncio.run(authority.authenticate(bearer(old_token(authority, {"userId": sub}))))
    assert outcome.reason == reason
    assert signals.value("verifications", key_id="new") == 1
    assert signals.value("verifications", key_id="old") == 0
    with pytest.raises(Refusal):
        asyncio.run(authority.verify("no.to.ken"))
