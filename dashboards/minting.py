"""The lower rows of Payload migration: who mints what, and single cases."""

from __future__ import annotations

from typing import Final

from jwt_middleware import names

from .board import Board
from .panels import Query, curve, events, hourly, listing, recorded, seen, traces
from .promql import MINTS, VERSION
from .verdict import LAST_EXPIRY, LAST_MINTED

OLD: Final = f"version {{{{{VERSION}}}}}"
SUPERSEDED: Final = f"max by (job, {VERSION}) ({seen(names.PAYLOAD_SUPERSEDED)})"


def minting(board: Board) -> None:
    board.row("Who mints what")
    board.add(
        curve(
            "Tokens issued by instance",
            "In the hour before. Good: after the change no instance issues an older version. One that does runs old "
            "code or sets mints: deploy it.",
            Query(f"sum by (instance, {VERSION}) ({hourly(names.TOKENS_ISSUED)})", f"{{{{instance}}}} {OLD}"),
            unit="short",
        ),
        width=8,
    )
    board.add(
        listing(
            "What each instance reads and mints",
            "Its configuration as of now. Good: one row an instance, all alike. Two versions of mints: a rollout is "
            "under way, or stuck.",
            Query(f"max by (job, instance, {VERSION}, {MINTS}) ({seen(names.PAYLOAD_INFO)})"),
            unit="none",
            columns={VERSION: "reads", MINTS: "mints"},
            hidden=("Value",),
        ),
        width=8,
    )
    board.add(
        listing(
            "Newest mint and latest expiry of each version",
            "Of all instances, in eight days. Good: of an older version, the newest mint is before its change. If not, "
            "somebody still mints it; the latest expiry is when the last of these tokens dies.",
            Query(f"{recorded(LAST_MINTED)} * 1000"),
            Query(f"{recorded(LAST_EXPIRY)} * 1000"),
            Query(f"{SUPERSEDED} * 1000"),
            unit="dateTimeAsIso",
            columns={VERSION: "version", "Value #A": "newest mint", "Value #B": "latest expiry", "Value #C": "change"},
        ),
        width=8,
    )


def single_cases(board: Board) -> None:
    board.row("Single cases")
    board.add(
        events(
            "Fallback events",
            "One event for each request whose token lacked a claim. Warnings were minted after the change or could not "
            "be resolved: their kid says by whose key, their trace_id leads to the request.",
            f'{{service_name=~".+"}} |= "{names.EVENT_FALLBACK}" | json | event="{names.EVENT_FALLBACK}"',
        ),
        width=12,
        height=10,
    )
    board.add(
        traces(
            "Fallback traces",
            "Requests whose token lacked a claim, with the queries that they waited for. Good: short. Which ones are "
            "kept is your sampler's business: counts are on the panels above.",
            f'{{ name = "{names.SPAN_FALLBACK}" && span.{names.OUTCOME} != "" }}',
        ),
        width=12,
        height=10,
    )
