"""Payload migration: does the old payload disappear, which issuer still mints it, and may its fallback be deleted?"""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models.common import StackingMode

from jwt_middleware import Verdict, names

from .. import recording
from ..promql import ACCEPTED, MINTS, OUTCOME, VERSION, is_, label
from ..verdict import LAST_EXPIRY, LAST_MINTED, NO_DATA, STATES, SUNSET, VERDICT
from .board import Board
from .panels import (
    BLUE,
    GREEN,
    GREY,
    JOB,
    ORANGE,
    PURPLE,
    RED,
    Query,
    curve,
    events,
    figure,
    hourly,
    listing,
    raw,
    recorded,
    steps,
    traces,
    words,
)

_COLORS: Final = {
    Verdict.SCHEDULED: GREY,
    Verdict.STILL_MINTED: RED,
    Verdict.LATE_DRAINING: ORANGE,
    Verdict.DRAINING: BLUE,
    Verdict.DRAINED: GREEN,
    Verdict.UNPROVEN: PURPLE,
    Verdict.NO_PLAN: GREY,
}
_OLD: Final = f"version {{{{{VERSION}}}}}"
_SUPERSEDED: Final = f"max by (job, {VERSION}) ({raw(names.PAYLOAD_SUPERSEDED)})"
_BY: Final = f"job, {VERSION}"


def migration() -> Board:
    board = Board(
        "Payload migration",
        description="Tokens minted before a release lack the claims that it added. This shows them expire, and says "
        "when the fallback can be deleted.",
        since="now-8d",
        sources=("prometheus", "loki", "tempo"),
    )
    _annotations(board)
    _verdict(board)
    _sunset(board)
    _curve(board)
    _claims(board)
    _minting(board)
    _single_cases(board)
    return board


def _annotations(board: Board) -> None:
    lifetime = f"on (job) group_left () max by (job) ({raw(names.TOKEN_MAX_LIFETIME)})"
    version = f"payload version {{{{{VERSION}}}}}"
    old_expiry = f"{recorded(LAST_EXPIRY)} and on ({_BY}) {_SUPERSEDED}"
    board.annotate("Change", f"{_SUPERSEDED} * 1000", color=BLUE, text=f"from here on no issuer may mint {version}")
    board.annotate(
        "Planned sunset",
        f"({_SUPERSEDED} + {lifetime}) * 1000",
        color=GREEN,
        text=f"{version} has expired, by the plan",
    )
    board.annotate(
        "Latest expiry seen", f"({old_expiry}) * 1000", color=ORANGE, text=f"the last token of {version} expires"
    )


def _verdict(board: Board) -> None:
    board.row("Is it going well?")
    states = {float(STATES[verdict]): (verdict.value, _COLORS[verdict]) for verdict in STATES}
    board.add(
        figure(
            "Verdict",
            "Of each older payload version, the first that holds: scheduled, still minted, late and draining, "
            "draining, drained, unproven. Computed over all instances and eight days, whatever is chosen above. "
            "Good: draining, then drained; then delete the fallback, the lowest version first. Still minted: find the "
            "issuer below. Unproven: there were gaps in the data, or no requests; wait: absence is not zero.",
            Query(f"{recorded(VERDICT)} or on () vector(0)", _OLD),
            unit="none",
            mappings=words({0.0: (NO_DATA, GREY), **states}),
            show_name=True,
        ),
        width=8,
        height=6,
    )
    board.add(
        figure(
            "Requests that need the fallback",
            "Share of the accepted requests of the last hour whose token lacked a claim. Good: falls to 0 % within the "
            "life of a token after the change. Over 0 % after the sunset: see below which issuer still mints it.",
            Query(f"sum({hourly(names.FALLBACKS)}) / sum({hourly(names.REQUESTS, ACCEPTED)})"),
            unit="percentunit",
            thresholds=steps((None, GREEN), (0.000001, BLUE)),
        ),
        width=5,
        height=6,
    )


def _sunset(board: Board) -> None:
    board.add(
        figure(
            "Sunset",
            "When the last valid token of each older payload expires: by the plan, and not before the latest expiry "
            "seen. In the past: read the verdict. If a rollback or a forgotten worker mints, the sunset moves.",
            Query(f"{recorded(SUNSET)} * 1000", _OLD),
            unit="dateTimeFromNow",
            show_name=True,
        ),
        width=6,
        height=6,
    )
    alerts = f'ALERTS{{{JOB}, alertname=~"Jwt.+", alertstate="firing"}}'
    board.add(
        figure(
            "Alerts that fire",
            "Alerts of this package, for the chosen jobs. Good: 0. Otherwise open the runbook, linked above, at the "
            "alert's name. No data: the rules are not loaded.",
            Query(f"count({alerts}) or on () 0 * count({recorded(VERDICT)})"),
            unit="none",
            thresholds=steps((None, GREEN), (1, RED)),
        ),
        width=5,
        height=6,
    )


def _curve(board: Board) -> None:
    board.row("The curve")
    accepted = recorded(recording.REQUESTS, ACCEPTED)
    board.add(
        curve(
            "Fallback rate",
            "Share of accepted requests whose token lacked a claim. Good: jumps up at the change, then falls day by "
            "day and is 0 % after the sunset. A plateau means that an issuer still mints the old payload. Gaps: no "
            "request was accepted, or nothing was recorded.",
            Query(f"sum by (job) ({recorded(recording.FALLBACKS)}) / (sum by (job) ({accepted}) > 0)", "{{job}}"),
            unit="percentunit",
            maximum=1,
        ),
        width=12,
        height=9,
    )
    texts = {
        "": ("today's payload", GREEN),
        "before_change": ("old, minted before the change", BLUE),
        "after_change": ("old, minted after the change", RED),
        "unknown": ("old, no plan to compare with", GREY),
    }
    board.add(
        curve(
            "Requests by payload",
            "Accepted requests. Blue drains by the sunset. Red must be empty: an issuer minted each such token "
            "after the moment to stop. Grey: configure effective_at, or the tokens have no iat.",
            *(
                Query(f"sum({recorded(recording.REQUESTS, ACCEPTED, is_(names.MINTED, minted))})", text)
                for minted, (text, _) in texts.items()
            ),
            unit="reqps",
            stacked=StackingMode.NORMAL,
            colors=dict(texts.values()),
        ),
        width=12,
        height=9,
    )


def _claims(board: Board) -> None:
    board.row("Which claims are filled, and from where")
    claims = recorded(recording.FALLBACK_CLAIMS)
    claim, source = label(names.CLAIM), label(names.SOURCE)
    board.add(
        curve(
            "Fallbacks by claim",
            "Which claim was missing. Good: all fall to zero together. If one stays, another issuer leaves it out: "
            "compare with the payload versions beside.",
            Query(f"sum by ({claim}) ({claims})", f"{{{{{claim}}}}}"),
            unit="cps",
        ),
        width=8,
    )
    board.add(
        curve(
            "Fallbacks by payload version",
            "Which version the tokens had. Today's version here means that a current issuer leaves a claim out.",
            Query(f"sum by ({VERSION}) ({recorded(recording.FALLBACKS)})", _OLD),
            unit="reqps",
        ),
        width=8,
    )
    board.add(
        curve(
            "Fallbacks by source and outcome",
            "Where the value came from, and how the attempt ended. Good: resolved, from database, cache or coalesced. "
            "In any other case the app got a default or the request was refused: see the dashboard Fallback cost.",
            Query(f"sum by ({source}, {OUTCOME}) ({claims})", f"{{{{{source}}}}} {{{{{OUTCOME}}}}}"),
            unit="cps",
        ),
        width=8,
    )


def _minting(board: Board) -> None:
    board.row("Which instance mints which version")
    board.add(
        curve(
            "Tokens issued by instance",
            "In the hour before. Good: after the change no instance issues an older version. If one does, it runs old "
            "code or sets mints: deploy it.",
            Query(f"sum by (instance, {VERSION}) ({hourly(names.TOKENS_ISSUED)})", f"{{{{instance}}}} {_OLD}"),
            unit="short",
        ),
        width=8,
    )
    board.add(
        listing(
            "What each instance reads and mints",
            "Its current configuration. Good: one row an instance, all alike. Two versions of mints: a rollout is in "
            "progress, or stuck.",
            Query(f"max by (job, instance, {VERSION}, {MINTS}) ({raw(names.PAYLOAD_INFO)})"),
            unit="none",
            columns={VERSION: "reads", MINTS: "mints"},
            hidden=("Value",),
        ),
        width=8,
    )
    board.add(
        listing(
            "Newest mint and latest expiry of each version",
            "Of all instances, in eight days. Good: the newest mint of an older version is before its change. If not, "
            "an issuer still mints it; at the latest expiry the last of these tokens expires.",
            Query(f"{recorded(LAST_MINTED)} * 1000"),
            Query(f"{recorded(LAST_EXPIRY)} * 1000"),
            Query(f"{_SUPERSEDED} * 1000"),
            unit="dateTimeAsIso",
            columns={VERSION: "version", "Value #A": "newest mint", "Value #B": "latest expiry", "Value #C": "change"},
        ),
        width=8,
    )


def _single_cases(board: Board) -> None:
    board.row("Single cases")
    board.add(
        events(
            "Fallback events",
            "One event for each request whose token lacked a claim. A warning: the token was minted after the change, "
            "or the claim not resolved. The kid names the issuer's key, the trace_id the request.",
            f'{{service_name=~".+"}} |= "{names.EVENT_FALLBACK}" | json | event="{names.EVENT_FALLBACK}"',
        ),
        width=12,
        height=10,
    )
    board.add(
        traces(
            "Fallback traces",
            "Requests whose token lacked a claim, with the queries that they waited for. Good: short. Your sampler "
            "decides which traces are kept; the panels above count all.",
            f'{{ name = "{names.SPAN_FALLBACK}" && span.{names.OUTCOME} != "" }}',
        ),
        width=12,
        height=10,
    )
