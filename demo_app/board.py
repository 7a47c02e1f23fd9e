"""What the live page shows to everybody: figures, curves, log events and the verdict, as one JSON object.

A page asks again and again, and says what it has: only what is newer goes over the wire.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, astuple, fields
from typing import Any, Final

from .curves import Point
from .database import email_of, role_of
from .lines import sentence
from .release import Deployment
from .ring import Ring
from .settings import Settings
from .watch import Figures, Watch

_EVENTS: Final = 40
"""Events of one answer."""
_USERS: Final = 12
"""How many users a page offers to log in as."""


class Board:
    """Reads what others keep; changes nothing."""

    def __init__(self, settings: Settings, deployment: Deployment, watch: Watch, ring: Ring) -> None:
        self._settings: Final = settings
        self._deployment: Final = deployment
        self._watch: Final = watch
        self._ring: Final = ring
        self._run: Final = secrets.token_hex(4)

    def facts(self, *, since: float, event: int) -> dict[str, Any]:
        """Everything that holds now, the points later than ``since``, the events after number ``event``."""
        figures = self._watch.figures()
        return {
            "run": self._run,
            "window": self._settings.window,
            "day": self._settings.day,
            "planned": self._deployment.planned,
            "released": self._deployment.released_at is not None,
            "mints": self._deployment.authority.schema.mints,
            "figures": None if figures is None else _said(figures),
            "columns": [field.name for field in fields(Point)],
            "points": [astuple(point) for point in self._watch.curves.since(since)],
            "events": self._ring.since(event, most=_EVENTS),
            "users": [
                {"email": email_of(number), "role": role_of(number)}
                for number in range(1, min(_USERS, self._settings.users) + 1)
            ],
        }


def _said(figures: Figures) -> dict[str, Any]:
    return {**asdict(figures), "verdict": figures.verdict.value, "sentence": sentence(figures.verdict)}
