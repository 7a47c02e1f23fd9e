"""One process of the app: its authority, its middleware, its meter provider, and what was read from it.

A collection by OpenTelemetry's SDK costs milliseconds and a history has twenty thousand, so a scrape copies the
counters that the SDK's callbacks read. That the SDK says the same, series by series, is verified again and again on
the way (:meth:`Process.verify`).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import Annotated, Any, Final

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import NoOpTracerProvider
from starlette.types import Receive, Scope, Send

from jwt_middleware import (
    Adoption,
    Claim,
    JWTSessionMiddleware,
    LookupLimits,
    Revocation,
    SessionAuthority,
    SessionSchema,
    Telemetry,
)

from ..session import Session
from .durations import Durations
from .readings import Series, collected
from .scenarios import Deploy
from .world import World

LEEWAY: Final = 30.0
STALENESS: Final = timedelta(minutes=3)
NEVER: Final = timedelta(hours=1)
"""A query times out by the real clock, which a busy machine would write into the history."""
_STARTS: Final = {"type": "http.response.start", "status": 204, "headers": []}
_ENDS: Final = {"type": "http.response.body"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionWithLocale(Session):
    """Version 3 of the payload."""

    locale: Annotated[str, Claim(since=3)] = "en"


class Process:
    """From its start to its end."""

    def __init__(self, world: World, deploy: Deploy) -> None:
        self._reader: Final = InMemoryMetricReader()
        self._meters: Final = MeterProvider([self._reader], shutdown_on_exit=False)
        self._durations: Final = Durations()
        self.session: Final = _sessions(deploy)
        """The class of its sessions."""
        self.authority: Final = _authority(world, deploy, self._meters, self._durations)
        self.middleware: Final = JWTSessionMiddleware(_app, authority=self.authority)
        self._counters: Final = self.authority.parts.counters
        self._gauges: Final = list(self._counters.gauges())
        self.times: Final[list[float]] = []
        self._counted: Final[list[array[float]]] = []
        self._read: Final[list[list[float | None]]] = []
        self._timed: Final[list[list[float | None]]] = []

    def scrape(self, at: float) -> None:
        """Write down what everything is now."""
        self.times.append(at)
        self._counted.append(array("d", self._counters.counts))
        self._read.append([read() for _, _, read in self._gauges])
        self._timed.append(self._durations.values())

    def series(self) -> Iterator[tuple[Series, tuple[float | None, ...]]]:
        """Everything that was written down, a value for each of ``times``; None where there was none."""
        columns = [
            *zip_longest(*self._counted),  # a series that is declared late begins late
            *zip(*self._read, strict=True),
            *zip(*self._timed, strict=True),
        ]
        return zip(self._keys(), columns, strict=True)

    def verify(self) -> None:
        """That the last scrape, taken just now, is what the meter provider says.

        Raises:
            RuntimeError: It is not: the history would be of something else.
        """
        last = [*self._counted[-1], *self._read[-1], *self._timed[-1]]
        written = {key: float(value) for key, value in zip(self._keys(), last, strict=True) if value is not None}
        says = collected(self._reader)
        if differing := sorted(str(key) for key in written.keys() | says.keys() if written.get(key) != says.get(key)):
            raise RuntimeError(f"a scrape differs from what the meter provider says: {differing}")

    async def aclose(self) -> None:
        await self.authority.aclose()
        self._meters.shutdown()

    def _keys(self) -> list[Series]:
        return [
            *(Series.of(metric, attributes) for metric, attributes, _ in self._counters.series()),
            *(Series.of(metric, attributes) for metric, attributes, _ in self._gauges),
            *self._durations.keys(),
        ]


def _authority(world: World, deploy: Deploy, meters: MeterProvider, durations: Durations) -> SessionAuthority[Any]:
    scenario = world.scenario
    accepted = scenario.accepted_lifetime
    return SessionAuthority(
        SessionSchema(_sessions(deploy), version=deploy.reads, subject="userId", mints=deploy.mints),
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
        adoption=Adoption()
        if accepted is None
        else Adoption(accepted_lifetime=timedelta(hours=accepted), sessions="marks"),
        revocation=Revocation(max_staleness=STALENESS),
        lookups=LookupLimits(timeout=NEVER),
        telemetry=Telemetry(meter_provider=meters, tracer_provider=NoOpTracerProvider()),
        observers=[durations],
        clock=world.clock,
    )


def _sessions(deploy: Deploy) -> type[Session]:
    return SessionWithLocale if deploy.reads > 2 else Session


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    """The app inside: it has nothing to say."""
    await send(dict(_STARTS))
    await send(dict(_ENDS))
