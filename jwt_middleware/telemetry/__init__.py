"""What operators see: metrics, one log event and one span for each fallback, one span for each query.

The package depends on OpenTelemetry's API and on structlog, and configures neither. It also uses global providers that
the app sets after it made an authority.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from ..counters import Counters
from ..errors import ConfigError
from ..protocols import Clock, Observer
from .logs import EventLog
from .metrics import DurationHistogram, registry
from .spans import Spans


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """Where metrics and spans go, and whether they may tell users apart.

    Raises:
        ConfigError: ``pseudonym_key`` is not a bytes object of at least 32 bytes.
    """

    meter_provider: MeterProvider | None = None
    """None means the global one."""
    tracer_provider: TracerProvider | None = None
    """None means the global one."""
    pseudonym_key: bytes | None = field(default=None, repr=False)
    """Adds ``enduser.pseudo.id`` to events and spans, a keyed HMAC of the subject. None: no signal is about a user."""

    def __post_init__(self) -> None:
        key = self.pseudonym_key
        if key is not None and (not isinstance(key, bytes) or len(key) < 32):
            got = f"{len(key)} bytes" if isinstance(key, bytes) else type(key).__name__
            raise ConfigError(f"pseudonym_key must be at least 32 bytes, got {got}; use secrets.token_bytes(32)")

    def observers(self, counters: Counters, clock: Clock) -> list[Observer]:
        """The observers of one authority."""
        pseudonym = None if self.pseudonym_key is None else self._pseudonym_of
        return [  # spans first, so that a span has ended when the log shows its event
            Spans(self.tracer_provider, pseudonym),
            EventLog(counters, clock, pseudonym),
            DurationHistogram(registry.instruments_of(self.meter_provider).durations),
        ]

    def attach(self, counters: Counters, owner: object) -> None:
        """Show the counters at each collection: counts for good, gauges as long as ``owner`` lives."""
        registry.add(counters, owner, self.meter_provider)

    def _pseudonym_of(self, subject: str) -> str:
        return hmac.digest(self.pseudonym_key or b"", subject.encode("utf-8"), "sha256").hex()[:32]
