"""The last log events, for the live page: what ``telemetry`` writes to the log, kept in a bounded ring.

The events of ``jwt_middleware`` name nobody (``docs/telemetry.md``); of other loggers nothing is kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import MutableMapping
from typing import Any, Final

from jwt_middleware import names

MOST: Final = 100
_SHOWN: Final = (
    "timestamp",
    "level",
    "event",
    "claims",
    "sources",
    "outcome",
    "payload_version",
    "minted",
    "token_age_s",
    "lookup_ms",
    "reason",
    "status",
)


class Ring:
    """A structlog processor that changes nothing, and remembers. Events are numbered from 1."""

    def __init__(self) -> None:
        self._events: Final[deque[dict[str, Any]]] = deque(maxlen=MOST)
        self._number = 0

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if str(event.get("event", "")).startswith(f"{names.SCOPE}."):
            self._number += 1
            kept = {name: event[name] for name in _SHOWN if event.get(name) is not None}
            self._events.append({"number": self._number, **kept})
        return event

    def since(self, number: int, *, most: int) -> list[dict[str, Any]]:
        """Those with a higher number, and no more than the newest ``most``; the oldest first."""
        return [event for event in self._events if event["number"] > number][-most:]
