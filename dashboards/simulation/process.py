"""One simulated process of the app: its authority, its middleware, its meter provider, and its scrapes.

A collection by OpenTelemetry's SDK costs milliseconds, and a simulation has twenty thousand scrapes. A scrape therefore
copies the counters that the SDK's callbacks read; :meth:`Process.verify` compares it with the SDK now and then.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import accumulate, zip_longest
from typing import Annotated, Any, Final

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import NoOpTracerProvider
from starlette.types import Receive, Scope, Send

from jwt_middleware import (
    Claim,
    Envelope,
    JWTSessionMiddleware,
    LookupLimits,
    Revocation,
    SessionAuthority,
    SessionSchema,
    SilentObserver,
    Telemetry,
    names,
)
from jwt_middleware.types import LookupFacts

from .openmetrics import Series, collected, histogram
from .scenarios import Deploy
from .world import World

LEEWAY: Final = 30.0
STALENESS: Final = timedelta(minutes=3)
PATIENT: Final = LookupLimits(timeout=timedelta(hours=1))
"""Time-outs run on the real clock: a busy machine must not change the simulation."""
_LOOKUPS: Final = ("sessions", "claims")
_HISTOGRAM_SERIES: Final = len(names.DURATION_BUCKETS) + 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Version 2 of the payload, which added the email."""

    user_id: Annotated[str, Claim("userId")]
    company_id: Annotated[str, Claim("companyId")]
    role: str = "user"
    email: Annotated[str, Claim(since=2)] = "Unknown"
    permissions: list[str] = field(default_factory=lambda: ["read"])
    environment: str = "production"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionWithLocale(Session):
    """Version 3 of the payload."""

    locale: Annotated[str, Claim(since=3)] = "en"


class Durations(SilentObserver):
    """The histogram of query durations, kept beside the SDK's: it is the only metric that is not a counter."""

    def __init__(self) -> None:
        self._buckets: Final = {lookup: [0] * (len(names.DURATION_BUCKETS) + 1) for lookup in _LOOKUPS}
        self._sums: Final = dict.fromkeys(_LOOKUPS, 0.0)

    def looked_up(self, handle: object, facts: LookupFacts) -> None:
        self._buckets[facts.lookup][bisect_left(names.DURATION_BUCKETS, facts.duration)] += 1
        self._sums[facts.lookup] += facts.duration

    def series(self) -> list[Series]:
        """The series of both lookups."""
        return [each for lookup in _LOOKUPS for each in histogram(names.LOOKUP_DURATION, [(names.LOOKUP, lookup)])]

    def values(self) -> list[float | None]:
        """A value for each of :meth:`series`; None before the first query, like OpenTelemetry's histograms."""
        values: list[float | None] = []
        for lookup in _LOOKUPS:
            counts = list(accumulate(self._buckets[lookup]))
            values += [*counts, counts[-1], self._sums[lookup]] if counts[-1] else [None] * _HISTOGRAM_SERIES
        return values


class Process:
    """A process from its start to its end."""

    def __init__(self, world: World, deploy: Deploy) -> None:
        self._reader: Final = InMemoryMetricReader()
        self._meters: Final = MeterProvider([self._reader], shutdown_on_exit=False)
        self._durations: Final = Durations()
        self.session: Final = _session_class(deploy)
        """The class of its sessions."""
        self.authority: Final = _authority(world, deploy, self._meters, self._durations)
        self.middleware: Final = JWTSessionMiddleware(_app, authority=self.authority)
        self._counters: Final = self.authority.parts.counters
        self._gauges: Final = list(self._counters.gauges())
        self.times: Final[list[float]] = []
        self._counts: Final[list[array[float]]] = []
        self._gauge_values: Final[list[list[float | None]]] = []
        self._duration_values: Final[list[list[float | None]]] = []

    def scrape(self, at: float) -> None:
        """Copy all current values."""
        self.times.append(at)
        self._counts.append(array("d", self._counters.counts))
        self._gauge_values.append([read() for _, _, read in self._gauges])
        self._duration_values.append(self._durations.values())

    def series(self) -> Iterator[tuple[Series, tuple[float | None, ...]]]:
        """Each series with a value for each of ``times``; None where it had none."""
        columns = [
            *zip_longest(*self._counts),  # a counter that is declared late has no values before
            *zip(*self._gauge_values, strict=True),
            *zip(*self._duration_values, strict=True),
        ]
        return zip(self._all_series(), columns, strict=True)

    def verify(self) -> None:
        """Compare the last scrape, taken just now, with a collection by the SDK.

        Raises:
            RuntimeError: They differ: the simulation would not be of the real metrics.
        """
        last = [*self._counts[-1], *self._gauge_values[-1], *self._duration_values[-1]]
        copied = {key: float(value) for key, value in zip(self._all_series(), last, strict=True) if value is not None}
        exported = collected(self._reader)
        series = copied.keys() | exported.keys()
        if differing := sorted(str(key) for key in series if copied.get(key) != exported.get(key)):
            raise RuntimeError(f"a scrape differs from what the meter provider exports: {differing}")

    async def aclose(self) -> None:
        await self.authority.aclose()
        self._meters.shutdown()

    def _all_series(self) -> list[Series]:
        return [
            *(Series.of(metric, attributes) for metric, attributes, _ in self._counters.series()),
            *(Series.of(metric, attributes) for metric, attributes, _ in self._gauges),
            *self._durations.series(),
        ]


def _authority(world: World, deploy: Deploy, meters: MeterProvider, durations: Durations) -> SessionAuthority[Any]:
    scenario = world.scenario
    return SessionAuthority(
        SessionSchema(_session_class(deploy), version=deploy.reads, subject="userId", mints=deploy.mints),
        keys=world.keys,
        sources=world.sources[: deploy.reads - 1],
        store=world.store,
        window=timedelta(hours=scenario.window),
        leeway=timedelta(seconds=LEEWAY),
        effective_at={
            version: datetime.fromtimestamp(world.moment(at), UTC)
            for version, at in scenario.plan.items()
            if version <= deploy.reads
        },
        also_accept=_lines(world),
        revocation=Revocation(max_staleness=STALENESS),
        lookups=PATIENT,
        telemetry=Telemetry(meter_provider=meters, tracer_provider=NoOpTracerProvider()),
        observers=[durations],
        clock=world.clock,
    )


def _lines(world: World) -> list[Envelope]:
    """What else is alive: the tokens of an app without this package, until its last instance is gone."""
    issuer = world.scenario.issuer
    if issuer is None or issuer.lifetime is None:
        return []
    gone = datetime.fromtimestamp(world.moment(issuer.until), UTC)
    return [Envelope.foreign(before=gone, window=timedelta(hours=issuer.lifetime))]


def _session_class(deploy: Deploy) -> type[Session]:
    return SessionWithLocale if deploy.reads > 2 else Session


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    """The app behind the middleware: an empty response."""
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})
