"""What operators see: metrics from counters, one log event and one span for each fallback, one span for each query.

The library depends on OpenTelemetry's API and calls ``structlog.get_logger`` once; it configures neither. Providers
that are set after an authority was made are found.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from ..counters import Counters
from ..errors import ConfigError
from ..protocols import Clock, Observer
from . import metrics
from .logs import EventLog
from .metrics import DurationHistogram
from .spans import Spans


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """Where signals go.

    Raises:
        ConfigError: A pseudonym key that can be guessed.
    """

    meter_provider: MeterProvider | None = None
    """None means the global one."""
    tracer_provider: TracerProvider | None = None
    """None means the global one."""
    pseudonym_key: bytes | None = field(default=None, repr=False)
    """Adds ``enduser.pseudo.id`` to events and spans, a keyed HMAC of the subject; None: nothing about the user."""

    def __post_init__(self) -> None:
        key = self.pseudonym_key
        if key is not None and (not isinstance(key, bytes) or len(key) < 32):
            raise ConfigError("pseudonym_key has at least 32 bytes: make one with secrets.token_bytes(32)")

    def observers(self, counters: Counters, clock: Clock) -> list[Observer]:
        """The span first: an event may then be read beside it."""
        return [
            Spans(self.tracer_provider, self._pseudonym),
            EventLog(counters, clock, self._pseudonym),
            DurationHistogram(metrics.bind(self.meter_provider).durations),
        ]

    def attach(self, counters: Counters, owner: object) -> None:
        """Show the counters at each collection: counts for good, gauges for as long as ``owner`` lives."""
        metrics.add(counters, owner, self.meter_provider)

    def _pseudonym(self, subject: str | None) -> str | None:
        if self.pseudonym_key is None or subject is None:
            return None
        return hmac.digest(self.pseudonym_key, subject.encode("utf-8"), "sha256").hex()[:32]
