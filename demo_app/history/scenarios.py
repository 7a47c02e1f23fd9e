"""What happens in a history, as data: deployments, the plan, an issuer nobody thought of, gaps and restarts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

DAY: Final = 24.0
"""Hours; every moment of a scenario is given in hours since the beginning, a Monday at midnight."""
RELEASE: Final = 1 * DAY + 18
"""After two working days: the evening of the second day."""
BEFORE: Final = -1_000.0
"""A moment before everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deploy:
    """What every instance runs from that moment on; one after the other, five minutes apart."""

    at: float
    reads: int = 2
    mints: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """One who mints version 1 outside of what is deployed, and whom nobody scrapes: a forgotten worker."""

    share: float
    """Of all log-ins."""
    until: float = float("inf")
    lifetime: float | None = None
    """Hours, of tokens of an app that did not have this package; None: it has, and the window is the lifetime."""


READERS_FIRST: Final = Deploy(at=BEFORE, mints=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One history."""

    about: str
    days: float = 9
    deploys: tuple[Deploy, ...] = (READERS_FIRST, Deploy(at=RELEASE))
    plan: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({2: RELEASE}))
    """From when on every issuer is to mint a version."""
    window: float = 7 * DAY
    accepted_lifetime: float | None = None
    """Of tokens that are older than this package."""
    issuer: Issuer | None = None
    gap: tuple[float, float] | None = None
    """From when to when nothing is scraped."""
    quiet_after: float = float("inf")
    """Nobody comes from then on."""
    restarts: tuple[float, ...] = ()


SCENARIOS: Final[Mapping[str, Scenario]] = MappingProxyType(
    {
        "happy": Scenario(about="readers first, then the release after two working days; gone a week later"),
        "still-minting": Scenario(
            about="the release never happens: every instance goes on minting version 1", deploys=(READERS_FIRST,)
        ),
        "forgotten-issuer": Scenario(
            about="one log-in of twenty goes through a worker that nobody updated", issuer=Issuer(share=0.05)
        ),
        "rollback": Scenario(
            about="taken back the morning after, released again in the evening; the plan stays as it was",
            days=11,
            deploys=(
                READERS_FIRST,
                Deploy(at=RELEASE),
                Deploy(at=2 * DAY + 8, mints=1),
                Deploy(at=2 * DAY + 18),
            ),
        ),
        "overlapping": Scenario(
            about="version 3 comes two days after version 2",
            days=11,
            deploys=(
                READERS_FIRST,
                Deploy(at=RELEASE),
                Deploy(at=RELEASE + 12, reads=3),
                Deploy(at=RELEASE + 2 * DAY, reads=3, mints=3),
            ),
            plan=MappingProxyType({2: RELEASE, 3: RELEASE + 2 * DAY}),
        ),
        "short-lived": Scenario(about="tokens live for half a day", window=12),
        "long-lived": Scenario(
            about="until the release another app minted tokens of nine days",
            days=12,
            accepted_lifetime=9 * DAY,
            issuer=Issuer(share=0.2, until=RELEASE, lifetime=9 * DAY),
        ),
        "scrape-gap": Scenario(about="nothing is scraped for five days", gap=(3 * DAY, 8 * DAY)),
        "no-traffic": Scenario(about="nobody comes from the fifth day on", quiet_after=4 * DAY),
        "restarts": Scenario(
            about="every instance is restarted in the middle of each day",
            restarts=tuple(day * DAY + 13 for day in range(9)),
        ),
    }
)
