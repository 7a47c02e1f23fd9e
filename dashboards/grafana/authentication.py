"""Authentication: which requests are accepted, which are refused and why, and which lines and keys may be deleted."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.models.common import StackingMode

from jwt_middleware import names
from jwt_middleware.names import Metric

from ..alerts import FORGED, SIGNED, UNAVAILABLE
from ..promql import ACCEPTED, ERROR, OUTCOME, REFUSED, VERSION, label, one_of
from ..verdict import DAYS
from .board import Board
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
    listing,
    rate,
    raw,
    steps,
    words,
)

_RESULT: Final = label(names.RESULT)
_UNAVAILABLE: Final = one_of(names.ERROR_TYPE, UNAVAILABLE)


def authentication() -> Board:
    board = Board(
        "Authentication",
        description="Requests by result, refusals by reason, sessions, what may be deleted, lost signals.",
        since="now-24h",
        sources=("prometheus", "loki"),
    )
    _accepted_requests(board)
    _refusals(board)
    _sessions(board)
    _deletable(board)
    _usage(board)
    _remote_keys(board)
    _signals(board)
    return board


def _accepted_requests(board: Board) -> None:
    board.row("Are users accepted?")
    board.add(
        figure(
            "Answered with 503",
            "Share of the last hour's accepted and unavailable requests. Good: 0 %. From 1.44 % on there is a page "
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
            "Good: mostly accepted. Public paths are not counted. Anonymous: requests without a usable token on "
            "optional paths.",
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
            "Of every token with a valid signature. Good: one version, two during a migration. newer: an issuer is "
            "ahead of this app. unknown: the token has no valid version.",
            Query(f"sum by ({VERSION}) ({rate(names.REQUESTS, version)})", f"version {{{{{VERSION}}}}}"),
            unit="reqps",
        ),
        width=9,
    )


def _refusals(board: Board) -> None:
    board.row("Which requests are refused, and why?")
    by_reason = rate(names.REQUESTS, REFUSED)
    a_week_ago = f"rate({raw(names.REQUESTS, REFUSED)}[$__rate_interval] offset 1w)"
    board.add(
        last_week(
            curve(
                "Refusals by reason, and last week",
                "Dashed: the same hour a week ago. token_missing and token_expired are normal. If another reason jumps "
                "right after a release, the release is the cause.",
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
            "Signed: refused although the signature is valid, so very likely your own users: look at issuers and "
            "clocks. token_foreign: the app's former code or another issuer minted them. payload_too_old: oldest= was "
            "raised too early. The event jwt_middleware.not_admitted says which line of also_accept would admit them, "
            "if one would. Forged: no key fits: bots, or a key removed too early if accepted requests fall at the "
            "same time.",
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
            "At most ten a second for each reason; the panels beside count all. Events never contain a token.",
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
            "In the hour before. start is a log-in. Good: follows your day. None in working hours: can users log in?",
            Query(f"sum by ({trigger}) ({hourly(names.TOKENS_ISSUED)})", f"{{{{{trigger}}}}}"),
            unit="short",
        ),
        width=8,
    )
    board.add(
        curve(
            "Revocations",
            "In the hour before, by scope. session is a log-out. all ends every session: find out which "
            "administrator did it, and why.",
            Query(f"sum by ({scope}) ({hourly(names.SESSIONS_REVOCATIONS)})", f"{{{{{scope}}}}}"),
            unit="short",
        ),
        width=8,
    )
    board.add(
        curve(
            "Passed on a stale revocation view",
            "Requests in the hour before that passed although their session status was older than max_staleness. "
            "Good: 0. More: revoked sessions may be accepted while the session table does not answer.",
            Query(f"sum({hourly(names.REVOCATION_STALE)})", "requests"),
            unit="short",
            thresholds=steps((None, GREEN), (1, RED)),
        ),
        width=8,
    )


def _deletable(board: Board) -> None:
    board.row("What may be deleted?")
    board.add(
        _uses(
            "Lines of also_accept",
            "When a line last admitted a token, over all instances and eight days. May be deleted: a line whose end is "
            "past, as jwt_middleware.configured says too. One without an end: if it was not used in a token's life, "
            "and there were metrics all the time. Without a last use: it admits nothing that today's settings refuse.",
            names.ENVELOPE,
            hourly(names.ADOPTIONS),
            names.ENVELOPE_LAST_USED,
            raw(names.ENVELOPE_END),
            columns=("line", "last used", "ends by itself"),
        ),
        width=8,
    )
    board.add(
        _uses(
            "Keys",
            "When a key last verified a token, over all instances and eight days; cached tokens are not verified "
            "again. May be deleted: a key whose end is past, or that was not used in a token's life. Never the key "
            "that signs.",
            names.KEY_ID,
            hourly(names.VERIFICATIONS, f'{label(names.KEY_ID)}!="other"'),
            names.KEY_LAST_USED,
            raw(names.KEY_END),
            columns=("key", "last used", "ends by itself"),
        ),
        width=8,
    )
    board.add(
        _uses(
            "Payloads",
            "The newest mint and the latest expiry of each version that any instance saw in eight days. May be "
            "deleted: an older version whose last token has expired. First read the verdict on the dashboard Payload "
            "migration: it also knows the plan, and gaps in these data.",
            names.PAYLOAD_VERSION,
            hourly(names.REQUESTS, ACCEPTED, f'{VERSION}!="newer"'),
            names.PAYLOAD_LAST_MINTED,
            f"max_over_time({raw(names.PAYLOAD_LAST_EXPIRY)}[{DAYS}d])",
            columns=("version", "last minted", "last token expires"),
        ),
        width=8,
    )


def _uses(
    title: str,
    description: str,
    attribute: str,
    counted: str,
    last_used: Metric,
    ends: str,
    *,
    columns: tuple[str, str, str],
) -> table.Panel:
    """A table of when each value of an attribute was last used, and when it ends.

    Args:
        title: Of the panel.
        description: Of the panel.
        attribute: What the rows are.
        counted: Events of the last hour. Its counters begin at zero: it has every row that is configured now.
        last_used: The gauge of the last use; a restart forgets it.
        ends: The series of the end.
        columns: The names of the columns.
    """
    by = f"job, {label(attribute)}"
    name, used, end = columns
    rows = f"max by ({by}) ({counted})"
    newest = f"max by ({by}) (max_over_time({raw(last_used)}[{DAYS}d])) and {rows}"
    return listing(
        title,
        description,
        Query(f"({newest} or 0 * {rows}) * 1000"),
        Query(f"max by ({by}) ({ends}) * 1000"),
        unit="dateTimeAsIso",
        columns={label(attribute): name, "Value #A": used, "Value #B": end},
        mappings=words({0.0: (f"not in {DAYS} days", GREY)}),
    )


def _usage(board: Board) -> None:
    key, line, rule = label(names.KEY_ID), label(names.ENVELOPE), label(names.RULE)
    board.add(
        listing(
            "Requests that needed a line, in eight days",
            "Accepted requests by line of also_accept, and by the setting of today that would refuse them. 0: no "
            "request needs this part of the line.",
            Query(f"sum by ({line}, {rule}) (increase({raw(names.ADOPTIONS)}[8d]))"),
            unit="short",
            columns={line: "line", rule: "rule", "Value": "requests"},
        ),
        width=8,
    )
    board.add(
        curve(
            "Tokens verified by key",
            "In the hour before; cached tokens are not verified again. Good after a rotation: the old key falls to "
            "zero within the life of a token.",
            Query(f"sum by ({key}) ({hourly(names.VERIFICATIONS)})", f"{{{{{key}}}}}"),
            unit="short",
        ),
        width=10,
    )
    board.add(
        listing(
            "Keys in eight days",
            "Tokens verified by each key in the life of a token and a day. 0: the key may be removed, if there were "
            "metrics all the time (see the verdict unproven). other: a kid that no configured key has.",
            Query(f"sum by ({key}) (increase({raw(names.VERIFICATIONS)}[8d]))"),
            unit="short",
            columns={key: "key", "Value": "tokens"},
        ),
        width=6,
    )


def _remote_keys(board: Board) -> None:
    board.row("Are remote keys fetched?")
    board.add(
        curve(
            "Age of the remote keys",
            "Only with remote keys. Good: minutes. More than an hour: fetches of the key set fail (JwtKeySetStale).",
            Query(f"time() - max by (instance) ({raw(names.JWKS_LAST_SUCCESS)})", "{{instance}}"),
            unit="s",
            thresholds=steps((None, GREEN), (3600, RED)),
        ),
        width=12,
    )
    board.add(
        curve(
            "Fetches of remote keys",
            "Only with remote keys, in the hour before, by outcome. Good: all ok. Many: a client sends unknown kids.",
            Query(f"sum by ({OUTCOME}) ({hourly(names.JWKS_FETCHES)})", f"{{{{{OUTCOME}}}}}"),
            unit="short",
        ),
        width=12,
    )


def _signals(board: Board) -> None:
    event, reason = label(names.EVENT), label(names.DROP_REASON)
    board.row("Can these figures be trusted?")
    board.add(
        curve(
            "Signals lost",
            "In the hour before. rate_limited: refusal events above the limit. Good: no failed; a failed one means "
            "that an observer or a log processor raises.",
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
            "By job. Good: as many as are running. Fewer: see the alert JwtInstanceNotReporting.",
            Query(f"count by (job) (count by (job, instance) ({raw(names.PAYLOAD_INFO)}))", "{{job}}"),
            unit="none",
        ),
        width=12,
    )
