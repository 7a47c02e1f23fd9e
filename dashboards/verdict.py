"""The verdict on each older payload in PromQL: may its fallback be deleted?

The verdict is the first condition of a chain that holds. It says what ``Migration.verdict`` says of one process, but
for all instances: the plan as of now, the evidence and its coverage over a lookback of eight days. Absence of data is
not zero: a gap, or a day without traffic, makes the verdict "unproven". The evidence is computed from raw series, so it
is right from the moment when the rules are installed.
"""

from __future__ import annotations

from typing import Final

from jwt_middleware import Verdict, names

from .promql import ACCEPTED, MINTS, VERSION, select

NO_DATA: Final = "no data: no metrics, or the recording rules are not loaded"
STATES: Final = {
    Verdict.SCHEDULED: 1,
    Verdict.STILL_MINTED: 2,
    Verdict.LATE_DRAINING: 3,
    Verdict.DRAINING: 4,
    Verdict.DRAINED: 5,
    Verdict.UNPROVEN: 6,
    Verdict.NO_PLAN: 7,
}
"""The value of the series for each verdict; panels draw 0 where there is no data."""

DAYS: Final = 8
"""Lookback: the longest accepted lifetime, 7 days, and a day."""
SLOT_MINUTES: Final = 15
SLOTS: Final = DAYS * 24 * 60 // SLOT_MINUTES
ENOUGH: Final = 0.95
LEEWAY: Final = 300
"""Seconds that a token may be accepted after its ``exp``: more than any sensible leeway, because waiting is safe."""

LAST_MINTED: Final = f"jwt_middleware:payload_last_minted_timestamp_seconds:max{DAYS}d"
LAST_EXPIRY: Final = f"jwt_middleware:payload_last_expiry_timestamp_seconds:max{DAYS}d"
SUNSET: Final = "jwt_middleware:payload_sunset_timestamp_seconds:max"
COVERAGE: Final = f"jwt_middleware:payload_info:coverage{DAYS}d"
VERDICT: Final = "jwt_middleware:payload:verdict"

_BY: Final = f"job, {VERSION}"
_PLAN: Final = f"max by ({_BY}) ({select(names.PAYLOAD_SUPERSEDED)})"
_INFO: Final = select(names.PAYLOAD_INFO)
_LIFETIME: Final = f"on (job) group_left () max by (job) ({select(names.TOKEN_MAX_LIFETIME)})"
_MINTED_BY_PLAN: Final = (
    f'max by ({_BY}) (label_replace(max by (job, {MINTS}) ({_INFO}), "{VERSION}", "$1", "{MINTS}", "(.+)"))'
)
"""The versions that instances say they mint. ``max by`` comes first: in a rollout two versions of readers may mint the
same, and ``label_replace`` would make two identical series of them, which is an error (422)."""

_LATE: Final = f"{LAST_MINTED} > ({_PLAN})"
_ALIVE: Final = f"time() < {LAST_EXPIRY} + {LEEWAY}"
_PLANNED_END: Final = f"({_PLAN} + {_LIFETIME})"


def evidence() -> dict[str, str]:
    """The evidence, recorded just before the verdict, so that eight days of raw series are read only once."""
    newest, latest = (
        f"max by ({_BY}) (max_over_time({select(metric)}[{DAYS}d]))"
        for metric in (names.PAYLOAD_LAST_MINTED, names.PAYLOAD_LAST_EXPIRY)
    )
    return {
        LAST_MINTED: newest,
        LAST_EXPIRY: latest,
        SUNSET: f"({LAST_EXPIRY} + {LEEWAY} > {_PLANNED_END})\nor {_PLANNED_END}",
        COVERAGE: f"count_over_time((max by (job) ({_INFO}))[{DAYS}d:{SLOT_MINUTES}m]) / {SLOTS}",
    }


def verdict() -> str:
    """The chain; each link is the plan's series with the state as its value, where its condition holds."""
    conditions = {
        Verdict.SCHEDULED: f"time() < ({_PLAN})",
        Verdict.STILL_MINTED: (
            f"(({_LATE}) > time() - 86400\n    or {_MINTED_BY_PLAN} and on ({_BY}) (({_PLAN}) < time()))"
        ),
        Verdict.LATE_DRAINING: f"({_LATE} and on ({_BY}) ({_ALIVE}))",
        Verdict.DRAINING: f"(time() < {_PLANNED_END} or {_ALIVE})",
    }
    links = [
        f"({STATES[state]} + 0 * {_PLAN}\n  and on ({_BY}) {condition})" for state, condition in conditions.items()
    ]
    links.append(f"({STATES[Verdict.DRAINED]} + 0 * {_PLAN}\n  {_proven()})")
    links.append(f"({STATES[Verdict.UNPROVEN]} + 0 * {_PLAN})")
    return "\nor ".join(links) + f"\nor on (job) ({STATES[Verdict.NO_PLAN]} + 0 * max by (job) ({_INFO}))"


def _proven() -> str:
    """The evidence covers the lookback, there was traffic to see, and no token lives longer than the lookback."""
    covered = f"and on (job) ({COVERAGE} > {ENOUGH})"
    used = f"and on (job) (sum by (job) (increase({select(names.REQUESTS, ACCEPTED)}[1d])) > 0)"
    short_lived = f"and on (job) (max by (job) ({select(names.TOKEN_MAX_LIFETIME)}) <= {(DAYS - 1) * 86_400})"
    return f"{covered}\n  {used}\n  {short_lived}"
