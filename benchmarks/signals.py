"""The cost of telemetry and revocation: a cache hit with and without, a fallback by sampler and log level."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TextIO

import structlog
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler, TraceIdRatioBased

from jwt_middleware import MemorySessionStore, SessionAuthority, Telemetry
from jwt_middleware.sessions.token_cache import Hit
from jwt_middleware.testing import old_token
from jwt_middleware.tokens.jws import digest

from . import world
from .measure import FULL, Effort, Line, Rounds, Section, Table, Timed, awaited, in_turns, median, over, ratio, repeated
from .steps import by_pyjwt
from .tokens import OLD, emails, old_request, sid_of

ROUNDS, NUMBER = 300, 50
"""Many short rounds: the differences are a few µs, and disturbances last longer than a round."""
ON, OFF = "cache hit, a reader attached, spans sampled", "cache hit, no provider"
HIT, WHOLE = "cache hit", "old token that lacks nothing"
FALLBACK, DECODE = "fallback, span unsampled, log filtered", "`jwt.decode`"
COLLECTION = "one collection by that reader, of every series"
SAMPLERS: Mapping[str, Sampler] = {
    "span unsampled": ALWAYS_OFF,
    "one span of ten sampled": TraceIdRatioBased(0.1),
    "span sampled": ALWAYS_ON,
}


def run(effort: Effort = FULL) -> Section:
    section = Section()
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        _signals(runner, loop, effort, section)
        _revocation(runner, loop, effort, section)
    return section


def _signals(runner: asyncio.Runner, loop: asyncio.AbstractEventLoop, effort: Effort, section: Section) -> None:
    """Only the compared contenders take turns: a third one would cool the caches of both."""

    def turns(*names: str, rounds: int = ROUNDS) -> Rounds:
        return in_turns({name: made[name] for name in names}, rounds=effort.of(rounds), number=effort.of(NUMBER))

    by_sampler = {name: runner.run(_fallback(loop, _telemetry(by))) for name, by in SAMPLERS.items()}
    reader = InMemoryMetricReader()
    made = {
        OFF: runner.run(_hit(loop, Telemetry())),
        ON: runner.run(_hit(loop, _telemetry(ALWAYS_ON, reader))),
        COLLECTION: repeated(_collecting(reader)),
        HIT: runner.run(_hit(loop, _telemetry(ALWAYS_OFF))),
        WHOLE: runner.run(_whole(loop, _telemetry(ALWAYS_OFF))),
        "fallback, no provider, log filtered": runner.run(_fallback(loop, Telemetry())),
        **{f"fallback, {name}, log filtered": timed for name, timed in by_sampler.items()},
        **{f"fallback, {name}, log rendered": timed for name, timed in by_sampler.items()},
        DECODE: repeated(by_pyjwt(world.today())),
    }
    with Path(os.devnull).open("w") as nowhere:
        _render(nowhere)
        rendered = turns(WHOLE, *(name for name in made if name.endswith("rendered")), rounds=ROUNDS // 4)
    world.quiet()  # after rendering, because a cached logger keeps its configuration
    hits, budget = turns(OFF, ON), turns(HIT, WHOLE, FALLBACK, DECODE)
    filtered = turns(WHOLE, *(name for name in made if name.endswith("filtered")))
    collection = median(turns(COLLECTION, rounds=ROUNDS // 30), COLLECTION) / 1e3
    table = Table(title="Telemetry", note="Microseconds of `authority.authenticate`, the whole path without ASGI.")
    table.rows = [
        *_rows(hits, OFF),
        {"what": COLLECTION, "ms": round(collection, 2)},
        *_rows(filtered, WHOLE),
        *_rows(rendered, WHOLE)[1:],
    ]
    section.tables.append(table)
    _one_fallback(budget, section)


def _rows(found: Rounds, base: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name in found:
        row: dict[str, Any] = {"what": name, "µs": round(median(found, name), 2)}
        if name != base:
            cost = over(found, name, base)
            row |= {"over": base, "µs over it": round(cost, 2), "middle half": cost.half()}
        rows.append(row)
    return rows


def _one_fallback(found: Rounds, section: Section) -> None:
    """The whole, and its cost over two bases, each also in units of ``jwt.decode``."""
    over_old, over_hit = (f"{FALLBACK}: over {base}" for base in (WHOLE, HIT))
    costs = found | {
        over_old: [mine - bare for mine, bare in zip(found[FALLBACK], found[WHOLE], strict=True)],
        over_hit: [mine - bare for mine, bare in zip(found[FALLBACK], found[HIT], strict=True)],
    }
    table = Table(
        title="One fallback from the cache",
        note="Microseconds of `authority.authenticate`, a reader attached; and how many times `jwt.decode` of today's "
        "token that is, in the same rounds.",
    )
    for name in costs:
        cost, decodes = median(costs, name), ratio(costs, name, DECODE)
        row = {"what": name, "µs": round(cost, 2), "middle half": cost.half()}
        table.rows.append(row | {"× `jwt.decode`": round(decodes, 2), "middle half of it": decodes.half()})
    section.tables.append(table)

    def figures_of(name: str) -> str:
        return f"{median(costs, name):.1f} µs, {ratio(costs, name, DECODE):.2f} of a `jwt.decode`"

    one = median(costs, over_old)
    section.lines.append(
        Line(
            what="one fallback from the cache, span unsampled, log filtered, over an old token that lacks nothing",
            budget="≤ 15 µs",
            measured=f"{figures_of(over_old)}; over a cache hit {figures_of(over_hit)}; whole {figures_of(FALLBACK)}",
            met=one <= 15,
            spread=one.half(1),
        )
    )


def _revocation(runner: asyncio.Runner, loop: asyncio.AbstractEventLoop, effort: Effort, section: Section) -> None:
    """The function of the cache hit, with and without a store: its deadline includes the next status check."""
    world.quiet()
    store = _Counted()
    contenders = {
        "cache hit, no store": runner.run(_known(world.authority(store=None))),
        "cache hit, revocation on": runner.run(_known(world.authority(store=store))),
    }
    before = store.queries
    found = in_turns(contenders, rounds=effort.of(ROUNDS), number=effort.of(200))
    cost, asked = over(found, "cache hit, revocation on", "cache hit, no store"), store.queries - before
    table = Table(
        title="Revocation check of a cached token",
        note="Microseconds of the digest, the entry and the session.",
    )
    table.rows = [{"what": name, "µs": round(median(found, name), 3)} for name in found]
    table.rows.append({"what": "the difference", "µs": round(cost, 3), "middle half": cost.half(3)})
    table.rows.append({"what": "queries meanwhile", "µs": asked})
    section.tables.append(table)
    section.lines.append(
        Line(
            what="revocation check on a cached token, while its status is fresh",
            budget="no query, ≤ 0.1 µs",
            measured=f"{asked} queries, {cost:.2f} µs",
            met=asked == 0 and cost <= 0.1,
            spread=cost.half(),
        )
    )


class _Counted(MemorySessionStore):
    """Counts its queries."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = 0

    async def statuses(self, keys: Collection[Any]) -> Any:
        self.queries += 1
        return await super().statuses(keys)


def _telemetry(sampler: Sampler, reader: InMemoryMetricReader | None = None) -> Telemetry:
    readers = [reader or InMemoryMetricReader()]
    return Telemetry(meter_provider=MeterProvider(readers), tracer_provider=TracerProvider(sampler=sampler))


def _collecting(reader: InMemoryMetricReader) -> Callable[[], object]:
    """A collection, as an exporter does once a minute on its thread."""
    if reader.get_metrics_data() is None:
        raise SystemExit("the reader gets no metrics")
    return reader.get_metrics_data


async def _known(authority: SessionAuthority[Any]) -> Timed:
    token = (await authority.issue(world.user())).token
    if (await authority.authenticate(world.cookie(token))).session is None:
        raise SystemExit("refused")
    octets, hit = token.encode(), authority.parts.token_cache.recall
    if not isinstance(hit(digest(octets)), Hit):
        raise SystemExit("no cache hit")
    return repeated(lambda: hit(digest(octets)))


async def _hit(loop: asyncio.AbstractEventLoop, telemetry: Telemetry) -> Timed:
    authority = world.authority(telemetry=telemetry)
    authority.parts.open()
    given = world.cookie((await authority.issue(world.user())).token)
    await authority.authenticate(given)
    return awaited(loop, lambda: authority.authenticate(given))


async def _whole(loop: asyncio.AbstractEventLoop, telemetry: Telemetry) -> Timed:
    authority = world.authority(telemetry=telemetry)
    payload = {**OLD, "email": "user42@example.com"}
    given = world.cookie(old_token(authority, payload, sid=await sid_of(authority)))
    outcome = await authority.authenticate(given)
    if outcome.fallback is not None or outcome.session is None:
        raise SystemExit("a fallback fired although no claim is missing")
    return awaited(loop, lambda: authority.authenticate(given))


async def _fallback(loop: asyncio.AbstractEventLoop, telemetry: Telemetry) -> Timed:
    authority = world.authority(telemetry=telemetry, sources=[emails])
    given = await old_request(authority)
    outcome = await authority.authenticate(given)
    if outcome.fallback is None:
        raise SystemExit(f"no fallback: {outcome.reason}")
    return awaited(loop, lambda: authority.authenticate(given))


def _render(nowhere: TextIO) -> None:
    """Render every event as a line of JSON."""
    structlog.configure(
        processors=[structlog.processors.TimeStamper(fmt="iso"), structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(nowhere),
        cache_logger_on_first_use=False,
    )
