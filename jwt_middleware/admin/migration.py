"""The progress of the payload migration, as far as one process can know it.

Only the dashboards see every process for the whole window, so only they prove that a version is gone
(``docs/telemetry.md``). Here a version without requests stays "unproven".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from markupsafe import Markup

from .. import names
from ..authority import SessionAuthority
from ..payload.migration import Coverage
from ..types import moment
from .html import table, tag, time_of

_NO_COVERAGE: Final = Coverage(slots=0.0, accepted_recently=False)
"""One process, since its start: this proves no absence."""
_NOTE: Final = (
    "These are the requests of this process since it started. Only the dashboards, which watch all processes for the "
    "whole window, prove that a version is gone."
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
    """The plan, the evidence and the verdict for each version, as JSON."""
    schema, requests = authority.schema, _requests(authority)
    return {
        "reads": schema.version,
        "mints": schema.mints,
        "versions": [_version(authority, version, requests) for version in range(1, schema.version + 1)],
        "newer_requests": requests["newer"],
        "scope": _NOTE,
    }


def migration_page(facts: Mapping[str, Any]) -> list[Markup]:
    """The same facts as the body of a page."""
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
            coverage=_NO_COVERAGE,
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
    requests: Counter[str] = Counter()
    for metric, series, count in authority.parts.counters.series():
        attributes = dict(series)
        if metric is names.REQUESTS and attributes.get(names.RESULT) == "accepted":
            requests[attributes[names.PAYLOAD_VERSION]] += count
    return requests


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else moment(seconds).isoformat()


def _cell(value: Any) -> object:
    if value is None:
        return "none"
    return time_of(datetime.fromisoformat(value)) if isinstance(value, str) and value[:4].isdigit() else value
