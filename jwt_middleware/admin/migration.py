"""How far the migration of the payload is, as far as this one process can say.

Whether a version is gone is for the dashboards to judge, which see every process for the whole window
(``docs/telemetry.md``): here a version that nobody was seen using stays "unproven".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from .. import names
from ..authority import SessionAuthority
from ..payload.migration import Coverage
from ..types import moment
from .html import Html, clock_time, table, tag

_UNWATCHED: Final = Coverage(slots=0.0, accepted_recently=False)
"""What one process saw since its start proves no absence."""
_NOTE: Final = (
    "Seen by this process since it started. That a version is gone is for the dashboards to prove, which watch all "
    "processes for the whole window."
)
_HEADS: Final = (
    ("requests", "Requests accepted"),
    ("last_minted", "Last minted"),
    ("last_expiry", "Last expiry"),
    ("effective_at", "Next version planned for"),
    ("superseded", "Superseded"),
    ("sunset", "Sunset"),
    ("verdict", "Verdict"),
)


def migration_facts(authority: SessionAuthority[Any]) -> dict[str, Any]:
    """The plan, the evidence and the verdict, version by version."""
    schema, requests = authority.schema, _requests(authority)
    return {
        "reads": schema.version,
        "mints": schema.mints,
        "versions": [_version(authority, version, requests) for version in range(1, schema.version + 1)],
        "newer_requests": requests["newer"],
        "scope": _NOTE,
    }


def migration_page(facts: Mapping[str, Any]) -> list[Html]:
    rows = [
        [f"Version {version['version']}", *(_cell(version[name]) for name, _ in _HEADS)]
        for version in facts["versions"]
    ]
    return [
        tag("p", f"This process reads version {facts['reads']} and mints version {facts['mints']}."),
        table("Payload versions", ["Payload", *(head for _, head in _HEADS)], rows),
        tag("p", f"Requests with a payload newer than this process reads: {facts['newer_requests']}."),
        tag("p", facts["scope"]),
    ]


def _version(authority: SessionAuthority[Any], version: int, requests: Mapping[str, int]) -> dict[str, Any]:
    migration, schema = authority.migration, authority.schema
    verdict = sunset = None
    if version < schema.version:
        verdict = migration.verdict(
            version,
            now=authority.clock.now(),
            coverage=_UNWATCHED,
            day=authority.window.total_seconds() / 7,
            minted_by_plan=schema.mints != version,
        ).value
        sunset = migration.sunset(version)
    return {
        "version": version,
        "requests": requests[str(version)],
        "last_minted": _iso(migration.last_minted.get(version)),
        "last_expiry": _iso(migration.last_expiry.get(version)),
        "effective_at": _iso(migration.effective_at(version)),
        "superseded": _iso(migration.superseded(version)),
        "sunset": None if sunset is None else sunset.isoformat(),
        "verdict": verdict,
    }


def _requests(authority: SessionAuthority[Any]) -> Counter[str]:
    """Accepted requests by the payload version of their tokens."""
    counts: Counter[str] = Counter()
    for metric, attributes, count in authority.parts.counters.series():
        said = dict(attributes)
        if metric is names.REQUESTS and said.get(names.RESULT) == "accepted":
            counts[said[names.PAYLOAD_VERSION]] += count
    return counts


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else moment(seconds).isoformat()


def _cell(value: Any) -> object:
    if value is None:
        return "none"
    return clock_time(datetime.fromisoformat(value)) if isinstance(value, str) and value[:4].isdigit() else value
