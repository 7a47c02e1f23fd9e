"""Fallback cost: the queries that fallbacks and session checks send to the database, and what batching saves."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models.common import StackingMode

from jwt_middleware import names

from ..promql import ACCEPTED, LOOKUP, OUTCOME, is_, label
from .board import Board
from .panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    Query,
    curve,
    figure,
    heat,
    hourly,
    rate,
    raw,
    steps,
)

_CLAIMS: Final = is_(names.LOOKUP, "claims")
_NAMED: Final = f"{{{{{LOOKUP}}}}}"


def cost() -> Board:
    board = Board(
        "Fallback cost",
        description="Queries of the fallback and of the session checks: number, batching, duration, failures.",
        since="now-24h",
    )
    _requests(board)
    _queries(board)
    _duration(board)
    _sources(board)
    _failures(board)
    _pressure(board)
    return board


def _requests(board: Board) -> None:
    board.row("How many queries does it send?")
    board.add(
        figure(
            "Queries saved",
            "Of the last hour's fallbacks, the share without a query of their own. Good: near 100 % with traffic. Low "
            "is fine if there are few requests; low under load: the cache is too small or its ttl too short.",
            Query(
                f"1 - sum({hourly(names.LOOKUPS, _CLAIMS)}) / (sum({hourly(names.FALLBACKS)}) > 0)",
            ),
            unit="percentunit",
            thresholds=steps((None, GREY), (0.5, GREEN)),
        ),
        width=6,
    )
    board.add(
        curve(
            "Requests that need the fallback",
            "Share of the accepted ones. Good: falls to zero over the window; see Payload migration.",
            Query(f"sum({rate(names.FALLBACKS)}) / (sum({rate(names.REQUESTS, ACCEPTED)}) > 0)", "fallback"),
            unit="percentunit",
            maximum=1,
        ),
        width=6,
    )


def _queries(board: Board) -> None:
    board.add(
        curve(
            "Queries",
            "Per second, by what is looked up. Good: far fewer than requests, and claims fall to zero over the window.",
            Query(f"sum by ({LOOKUP}) ({rate(names.LOOKUPS)})", _NAMED),
            unit="ops",
        ),
        width=6,
    )
    board.add(
        curve(
            "Keys per query",
            "How many requests share one query. Good: rises with the load; 1 when idle. At most 1,000.",
            Query(
                f"sum by ({LOOKUP}) ({rate(names.LOOKUP_KEYS)}) / (sum by ({LOOKUP}) ({rate(names.LOOKUPS)}) > 0)",
                _NAMED,
            ),
            unit="short",
        ),
        width=6,
    )


def _duration(board: Board) -> None:
    board.row("How long does a query take?")
    buckets = rate(names.LOOKUP_DURATION, part="_bucket")
    board.add(
        curve(
            "Percentiles",
            "Of one query; every request of its batch waits as long. Good: steady. Rising p99 with a steady p50: "
            "the pool is too small or the table lacks an index.",
            *(
                Query(f"histogram_quantile({share}, sum by (le, {LOOKUP}) ({buckets}))", f"{_NAMED} {name}")
                for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
            ),
            unit="s",
        ),
        width=12,
    )
    board.add(
        heat(
            "Distribution",
            "Queries by duration. Good: one band. A second band far above: time-outs.",
            Query(f"sum by (le) (increase({raw(names.LOOKUP_DURATION, part='_bucket')}[$__rate_interval]))", "{{le}}"),
            unit="s",
        ),
        width=12,
    )


def _sources(board: Board) -> None:
    source, cache = label(names.SOURCE), label(names.CACHE)
    board.row("What saves queries?")
    board.add(
        curve(
            "Claims by source",
            "Shares. cache and coalesced cost nothing; database is one key of a query; for default and none there was "
            "no value. Good: mostly cache.",
            Query(f"sum by ({source}) ({rate(names.FALLBACK_CLAIMS)})", f"{{{{{source}}}}}"),
            unit="cps",
            stacked=StackingMode.PERCENT,
            colors={"cache": GREEN, "coalesced": BLUE, "database": ORANGE, "default": GREY, "none": RED},
        ),
        width=12,
    )
    board.add(
        curve(
            "Cache entries",
            "Of all chosen instances. Good: below cache_entries. At the limit, entries evict each other: raise it.",
            Query(f"sum by ({cache}) ({raw(names.CACHE_ENTRIES)})", f"{{{{{cache}}}}}"),
            unit="short",
        ),
        width=12,
    )


def _failures(board: Board) -> None:
    board.row("What goes wrong?")
    board.add(
        curve(
            "Queries that failed",
            "In the hour before. Good: none. Errors: see the database's log. Time-outs: the database is slow, or the "
            "pool exhausted.",
            Query(
                f'sum by ({LOOKUP}, {OUTCOME}) ({hourly(names.LOOKUPS, f"""{OUTCOME}!="ok" """.strip())})',
                f"{_NAMED} {{{{{OUTCOME}}}}}",
            ),
            unit="short",
        ),
        width=6,
    )
    unresolved = f'{OUTCOME}!="resolved"'
    board.add(
        curve(
            "Claims that were not filled",
            "In the hour before, by what happened: shed (too many waited), breaker_open, timeout, error, not_found, "
            "invalid, null. Good: none; otherwise the app got a default, or the request was refused.",
            Query(f"sum by ({OUTCOME}) ({hourly(names.FALLBACK_CLAIMS, unresolved)})", f"{{{{{OUTCOME}}}}}"),
            unit="short",
        ),
        width=6,
    )


def _pressure(board: Board) -> None:
    board.add(
        curve(
            "Breaker open",
            "1 while no queries are sent to a failing database, except one probe at a time. Good: 0.",
            Query(f"max by (instance, {LOOKUP}) ({raw(names.LOOKUP_BREAKER_OPEN)})", f"{{{{instance}}}} {_NAMED}"),
            unit="none",
            thresholds=steps((None, GREEN), (1, RED)),
            maximum=1,
        ),
        width=6,
    )
    board.add(
        curve(
            "Requests waiting",
            "Requests that wait for a query now. Good: rises and falls with the load. Only rising: the "
            "database is too slow.",
            Query(f"sum by ({LOOKUP}) ({raw(names.LOOKUP_WAITING)})", _NAMED),
            unit="short",
        ),
        width=6,
    )
