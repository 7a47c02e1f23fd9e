"""Counts stay exact with two authorities, two providers, a provider set late, a collected authority, a fork."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jwt_middleware import names
from jwt_middleware.counters import Counters
from jwt_middleware.telemetry import metrics as registry
from tests.support.signals import Signals
from tests.support.world import authority_of

MISSING = {"result": "refused", "error_type": "token_missing"}


def turn_away(authority: Any, times: int = 1) -> None:
    for _ in range(times):
        asyncio.run(authority.authenticate([]))


def test_two_authorities_of_one_provider_add_up() -> None:
    signals = Signals()
    first, second = (authority_of(telemetry=signals.telemetry()) for _ in range(2))
    turn_away(first, 2)
    turn_away(second, 3)
    assert signals.value("requests", **MISSING) == 5


def test_gauges_of_two_authorities_take_the_maximum_and_entries_add() -> None:
    signals = Signals()
    authorities = [authority_of(telemetry=signals.telemetry()) for _ in range(2)]
    assert signals.value("payload.info", payload_version="2", payload_mints="2") == 1
    for size, authority in enumerate(authorities, start=1):
        for key in range(size):
            authority.parts.known.seen.put(bytes([key]), (b"", None, 0.0, 0, 0.0, None))
    assert signals.value("cache.entries", cache="tokens") == 3


def test_two_providers_see_their_own_authority_alone() -> None:
    left, right = Signals(), Signals()
    first, second = authority_of(telemetry=left.telemetry()), authority_of(telemetry=right.telemetry())
    turn_away(first, 1)
    turn_away(second, 4)
    assert (left.value("requests", **MISSING), right.value("requests", **MISSING)) == (1, 4)


def test_a_collected_authority_leaves_its_counts_and_takes_its_gauges() -> None:
    signals = Signals()
    authority = authority_of(telemetry=signals.telemetry())
    turn_away(authority, 2)
    del authority
    gc.collect()
    assert signals.value("requests", **MISSING) == 2
    assert signals.value("token.max_lifetime") is None
    another = authority_of(telemetry=signals.telemetry())
    turn_away(another)
    assert signals.value("requests", **MISSING) == 3
    binding = registry.bind(signals.meter_provider)
    assert len(binding.members) == 1


def test_a_closed_authority_withdraws_its_gauges_and_keeps_its_counts() -> None:
    signals = Signals()
    authority = authority_of(telemetry=signals.telemetry())
    turn_away(authority)
    asyncio.run(authority.aclose())
    assert signals.value("requests", **MISSING) == 1
    assert signals.value("payload.info", payload_version="2", payload_mints="2") is None


def test_a_reading_that_raises_costs_its_own_series_alone() -> None:
    signals = Signals()

    class Owner:
        pass

    owner, counters = Owner(), Counters()
    counters.gauge(names.CACHE_ENTRIES, lambda: 1 // 0, {names.CACHE: "broken"})
    counters.gauge(names.CACHE_ENTRIES, lambda: 3, {names.CACHE: "whole"})
    registry.add(counters, owner, signals.meter_provider)
    assert signals.value("cache.entries", cache="broken") is None
    assert signals.value("cache.entries", cache="whole") == 3


def test_a_provider_that_is_gone_is_forgotten() -> None:
    signals = Signals()
    authority = authority_of(telemetry=signals.telemetry())
    binding = registry.bind(signals.meter_provider)
    signals.meter_provider.shutdown()
    del signals, authority
    gc.collect()
    registry.bind(Signals().meter_provider)
    assert binding.provider() is None
    assert registry.bind(None) is registry.bind(None)


GLOBAL = """
import asyncio, os, sys
from opentelemetry import metrics
from tests.support.signals import Signals
from tests.support.world import authority_of
from jwt_middleware import Telemetry

MISSING = {"result": "refused", "error_type": "token_missing"}

def turn_away(authority, times):
    for _ in range(times):
        asyncio.run(authority.authenticate([]))
"""


@pytest.mark.parametrize(
    ("script", "printed"),
    [
        pytest.param(
            """
authority = authority_of()
turn_away(authority, 2)
signals = Signals()
metrics.set_meter_provider(signals.meter_provider)
turn_away(authority, 1)
print(signals.value("requests", **MISSING))
""",
            "3",
            id="a provider set after construction",
        ),
        pytest.param(
            """
signals = Signals()
explicit = authority_of(telemetry=signals.telemetry())
implicit = authority_of()
metrics.set_meter_provider(signals.meter_provider)
turn_away(explicit, 2)
turn_away(implicit, 3)
print(signals.value("requests", **MISSING))
""",
            "5",
            id="the same provider, named and global",
        ),
        pytest.param(
            """
signals = Signals()
authority = authority_of(telemetry=signals.telemetry())
turn_away(authority, 7)
read, write = os.pipe()
if not (child := os.fork()):
    turn_away(authority, 2)
    os.write(write, str(signals.value("requests", **MISSING)).encode())
    os._exit(0)
os.waitpid(child, 0)
print(os.read(read, 10).decode(), signals.value("requests", **MISSING))
""",
            "2 7",
            id="a forked child starts at zero",
        ),
    ],
)
def test_global_state(script: str, printed: str) -> None:
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", GLOBAL + script],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines()[-1] == printed
