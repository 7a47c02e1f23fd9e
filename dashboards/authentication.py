"""Authentication: who is let in, who is refused and why, which keys and lenient rules are still in use."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models.common import StackingMode

from jwt_middleware import names

from .alerts import FORGED, SIGNED, UNAVAILABLE
from .board import Board
from .keys import keys, remote_keys
from .panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    Query,
    curve,
    events,
    figure,
    hourly,
    last_week,
    rate,
    seen,
    steps,
)
from .promql import ACCEPTED, ERROR, REFUSED, VERSION, label, one_of

_RESULT: Final = label(names.RESULT)
_UNAVAILABLE: Final = one_of(names.ERROR_TYPE, UNAVAILABLE)


def authentication() -> Board:
    board = Board(
        "Authentication",
        description="Requests by what was decided about them, refusals by reason, sessions, keys, signals lost.",
        since="now-24h",
        sources=("prometheus", "loki"),
    )
    _let_in(board)
    _refused(board)
    _sessions(board)
    keys(board)
    remote_keys(board)
    _signals(board)
    return board


def _let_in(board: Board) -> None:
    board.row("Are people let in?")
    board.add(
        figure(
            "Answered with 503",
            "Share of the last hour's accepted and unavailable requests. Good: 0 %. From 1.44 % on a page is due "
            "(JwtAuthenticationUnavailable): a database or the key endpoint does not answer; see Fallback cost.",
            Query(
                f"sum({hourly(names.REQUESTS, _UNAVAILABLE)}) / sum({hourly(names.REQUESTS, _UNAVAILABLE)}"
                f" or {hourly(names.REQUESTS, ACCEPTED)})"
            ),
            unit="percentunit",
            thresholds=steps((None, GREEN), (0.001, ORANGE), (0.0144, RED)),
        ),
        width=5,
    )
    board.add(
        curve(
            "Requests by result",
            "What was decided. Good: mostly accepted. Public paths are not counted. Anonymous are those without a "
            "usable token where that is optional.",
            Query(f"sum by ({_RESULT}) ({rate(names.REQUESTS)})", f"{{{{{_RESULT}}}}}"),
            unit="reqps",
            stacked=StackingMode.NORMAL,
            colors={"accepted": GREEN, "anonymous": BLUE, "refused": ORANGE},
        ),
        width=10,
    )
    version = f'{VERSION}!=""'
    board.add(
        curve(
            "Payload versions",
            "Of every token whose signature holds. Good: one version, two during a migration. newer: an issuer is "
            "ahead of this app. unknown: the token says no version that makes sense.",
            Query(f"sum by ({VERSION}) ({rate(names.REQUESTS, version)})", f"version {{{{{VERSION}}}}}"),
            unit="reqps",
        ),
        width=9,
    )


def _refused(board: Board) -> None:
    board.row("Who is refused, and why?")
    by_reason = rate(names.REQUESTS, REFUSED)
    a_week_ago = f"rate({seen(names.REQUESTS, REFUSED)}[$__rate_interval] offset 1w)"
    board.add(
        last_week(
            curve(
                "Refusals by reason, and last week",
                "Dashed: the same hour a week ago. token_missing and token_expired are everyday life. A jump of one "
                "other reason right after a release is that release's doing.",
                Query(f"sum by ({ERROR}) ({by_reason})", f"{{{{{ERROR}}}}}"),
                Query(f"sum by ({ERROR}) ({a_week_ago})", f"{{{{{ERROR}}}}} last week"),
                unit="reqps",
            )
        ),
        width=12,
        height=9,
    )
    board.add(
        curve(
            "Signed but refused, and forged",
            "Signed: a good signature and yet turned away, so very likely your own user: look at issuers and clocks. "
            "Forged: no key fits: bots, or a key removed too early if accepted requests fall at the same time.",
            Query(f"sum({rate(names.REQUESTS, one_of(names.ERROR_TYPE, SIGNED))})", "signed but refused"),
            Query(f"sum({rate(names.REQUESTS, one_of(names.ERROR_TYPE, FORGED))})", "forged"),
            unit="reqps",
            colors={"signed but refused": RED, "forged": GREY},
        ),
        width=6,
        height=9,
    )
    board.add(
        events(
            "Refusal events",
            "At most ten a second of one reason; all are counted beside. Never a token in them.",
            f'{{service_name=~".+"}} |= "{names.EVENT_REFUSED}" | json | event="{names.EVENT_REFUSED}"',
        ),
        width=6,
        height=9,
    )


def _sessions(board: Board) -> None:
    trigger, scope = label(names.TRIGGER), label(names.REVOCATION_SCOPE)
    board.row("Sessions")
    board.add(
        curve(
            "Tokens issued by trigger",
            "In the hour before. start is a log-in. Good: follows your day. None at all in working hours: can people "
            "log in?",
            Query(f"sum by ({trigger}) ({hourly(names.TOKENS_ISSUED)})", f"{{{{{trigger}}}}}"),
            unit="short",
        ),
        width=8,
    )
    board.add(
        curve(
            "Revocations",
            "In the hour before, by reach. session is a log-out. all ends everybody's session: somebody meant "
            "that, or should tell you why not.",
            Query(f"sum by ({scope}) ({hourly(names.SESSIONS_REVOCATIONS)})", f"{{{{{scope}}}}}"),
            unit="short",
        ),
        width=8,
    )
    board.add(
        curve(
            "Passed on a stale revocation view",
            "Requests in the hour before that passed though their session's state was older than max_staleness. Good: "
            "0. More: revoked sessions may get in while the session table does not answer.",
            Query(f"sum({hourly(names.REVOCATION_STALE)})", "requests"),
            unit="short",
            thresholds=steps((None, GREEN), (1, RED)),
        ),
        width=8,
    )


def _signals(board: Board) -> None:
    event, reason = label(names.EVENT), label(names.DROP_REASON)
    board.row("Can these figures be trusted?")
    board.add(
        curve(
            "Signals lost",
            "In the hour before. rate_limited is the thinning of refusal events. Good: no failed: one means that an "
            "observer or a log processor raises.",
            Query(
                f"sum by ({event}, {reason}) ({hourly(names.TELEMETRY_DROPPED)})", f"{{{{{event}}}}} {{{{{reason}}}}}"
            ),
            unit="short",
        ),
        width=12,
    )
    board.add(
        curve(
            "Instances that report",
            "By job. Good: as many as run. Fewer: see the alert JwtInstanceNotReporting.",
            Query(f"count by (job) (count by (job, instance) ({seen(names.PAYLOAD_INFO)}))", "{{job}}"),
            unit="none",
        ),
        width=12,
    )
