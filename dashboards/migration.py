"""Payload migration: does the old payload die out, who keeps it alive, and may its fallback be deleted?"""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models.common import StackingMode

from jwt_middleware import Verdict, names

from . import recording
from .board import Board
from .minting import OLD, SUPERSEDED, minting, single_cases
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
    figure,
    hourly,
    recorded,
    seen,
    steps,
    words,
)
from .promql import ACCEPTED, OUTCOME, VERSION, is_, label
from .verdict import LAST_EXPIRY, NO_DATA, STATES, SUNSET, VERDICT

_COLORS: Final = {
    Verdict.SCHEDULED: GREY,
    Verdict.STILL_MINTED: RED,
    Verdict.LATE_DRAINING: ORANGE,
    Verdict.DRAINING: BLUE,
    Verdict.DRAINED: GREEN,
    Verdict.UNPROVEN: PURPLE,
    Verdict.NO_PLAN: GREY,
}
_BY: Final = f"job, {VERSION}"


def migration() -> Board:
    board = Board(
        "Payload migration",
        description="Tokens minted before a release lack what it added. This shows them die out, and says when the "
        "fallback can be deleted.",
        since="now-8d",
        sources=("prometheus", "loki", "tempo"),
    )
    _lines(board)
    _going_well(board)
    _until_when(board)
    _curve(board)
    _filled(board)
    minting(board)
    single_cases(board)
    return board


def _lines(board: Board) -> None:
    lifetime = f"on (job) group_left () max by (job) ({seen(names.TOKEN_MAX_LIFETIME)})"
    version = f"payload version {{{{{VERSION}}}}}"
    old_expiry = f"{recorded(LAST_EXPIRY)} and on ({_BY}) {SUPERSEDED}"
    board.annotate("Change", f"{SUPERSEDED} * 1000", color=BLUE, text=f"from here on nobody may mint {version}")
    board.annotate(
        "Planned sunset", f"({SUPERSEDED} + {lifetime}) * 1000", color=GREEN, text=f"by the plan, {version} is gone"
    )
    board.annotate("Latest expiry seen", f"({old_expiry}) * 1000", color=ORANGE, text=f"the last token of {version}")


def _going_well(board: Board) -> None:
    board.row("Is it going well?")
    states = {float(STATES[verdict]): (verdict.value, _COLORS[verdict]) for verdict in STATES}
    board.add(
        figure(
            "Verdict",
            "Of each older payload version, the first that holds: scheduled, still minted, late and draining, "
            "draining, drained, unproven. Judged over all instances and the last eight days, whatever is chosen above. "
            "Good: draining, then drained; then delete the fallback, the lowest version first. Still minted: find the "
            "issuer below. Unproven: there were gaps in the data, or nobody used the app; wait: absence is not zero.",
            Query(f"{recorded(VERDICT)} or on () vector(0)", OLD),
            unit="none",
            mappings=words({0.0: (NO_DATA, GREY), **states}),
            name_too=True,
        ),
        width=8,
        height=6,
    )
    board.add(
        figure(
            "Requests that need the fallback",
            "Share of the accepted requests of the last hour whose token lacked a claim. Good: falls to 0 % within the "
            "life of a token after the change. Over 0 % after the sunset: see who mints the old payload, below.",
            Query(f"sum({hourly(names.FALLBACKS)}) / sum({hourly(names.REQUESTS, ACCEPTED)})"),
            unit="percentunit",
            thresholds=steps((None, GREEN), (0.000001, BLUE)),
        ),
        width=5,
        height=6,
    )


def _until_when(board: Board) -> None:
    board.add(
        figure(
            "Sunset",
            "When the last honest token of each older payload dies: by the plan, and not before the latest expiry "
            "seen. In the past: read the verdict. It moves away by itself when a rollback or a forgotten worker mints.",
            Query(f"{recorded(SUNSET)} * 1000", OLD),
            unit="dateTimeFromNow",
            name_too=True,
        ),
        width=6,
        height=6,
    )
    alerts = f'ALERTS{{{JOB}, alertname=~"Jwt.+", alertstate="firing"}}'
    board.add(
        figure(
            "Alerts that fire",
            "Of this package, for the chosen jobs. Good: 0. Otherwise open the runbook, linked above, at the alert's "
            "name. No data: the rules are not loaded.",
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
            "day and is 0 % after the sunset. A plateau means that an issuer still mints the old payload. Gaps: nobody "
            "was accepted, or nothing was recorded.",
            Query(f"sum by (job) ({recorded(recording.FALLBACKS)}) / (sum by (job) ({accepted}) > 0)", "{{job}}"),
            unit="percentunit",
            most=1,
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
            "Accepted requests. Blue drains by the sunset. Red must be empty: each such token was minted by an issuer "
            "that should no longer do so. Grey: configure effective_at, or the tokens carry no iat.",
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


def _filled(board: Board) -> None:
    board.row("What is filled in, and from where")
    claims = recorded(recording.FALLBACK_CLAIMS)
    claim, source = label(names.CLAIM), label(names.SOURCE)
    board.add(
        curve(
            "Fallbacks by claim",
            "Which claim was missing. Good: all fall to zero together. One that stays is left out by an issuer of its "
            "own: compare with the payload versions beside.",
            Query(f"sum by ({claim}) ({claims})", f"{{{{{claim}}}}}"),
            unit="cps",
        ),
        width=8,
    )
    board.add(
        curve(
            "Fallbacks by payload version",
            "Which version the tokens had. Today's own version here means that an issuer of today leaves a claim out.",
            Query(f"sum by ({VERSION}) ({recorded(recording.FALLBACKS)})", OLD),
            unit="reqps",
        ),
        width=8,
    )
    board.add(
        curve(
            "Fallbacks by source and outcome",
            "Where the value came from, and how the attempt ended. Good: resolved, from database, cache or coalesced. "
            "Anything else went on with a default or was refused: see the dashboard Fallback cost.",
            Query(f"sum by ({source}, {OUTCOME}) ({claims})", f"{{{{{source}}}}} {{{{{OUTCOME}}}}}"),
            unit="cps",
        ),
        width=8,
    )
