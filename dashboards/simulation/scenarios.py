"""The scenarios as data: deployments, the plan, a forgotten issuer, scrape gaps and restarts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

DAY: Final = 24.0
"""Hours. Every moment of a scenario is in hours since its start, a Monday at midnight."""
RELEASE: Final = 1 * DAY + 18
"""The evening of the second working day."""
BEFORE: Final = -1_000.0
"""A moment before the start: deployed from the beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deploy:
    """The release that every instance runs from a moment on; instances restart one by one, five minutes apart."""

    at: float
    reads: int = 2
    mints: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """An issuer outside of the deployment that mints version 1 and is not scraped: a forgotten worker."""

    share: float
    """Its share of all log-ins, 0 to 1."""
    until: float = float("inf")
    lifetime: float | None = None
    """Hours that tokens of an app without this package live, which needs ``until`` too; None: the app has it, and
    tokens live one window."""


READERS_FIRST: Final = Deploy(at=BEFORE, mints=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One scenario."""

    about: str
    days: float = 9
    deploys: tuple[Deploy, ...] = (READERS_FIRST, Deploy(at=RELEASE))
    plan: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({2: RELEASE}))
    """The moment from which every issuer must mint a version, by version."""
    window: float = 7 * DAY
    issuer: Issuer | None = None
    gap: tuple[float, float] | None = None
    """Nothing is scraped between these two moments."""
    quiet_after: float = float("inf")
    """No user comes from then on."""
    restarts: tuple[float, ...] = ()


SCENARIOS: Final[Mapping[str, Scenario]] = MappingProxyType(
    {
        "happy": Scenario(
            about="readers first, the release after two working days; a week later the old payload is gone"
        ),
        "still-minting": Scenario(
            about="the release never happens: every instance keeps minting version 1", deploys=(READERS_FIRST,)
        ),
        "forgotten-issuer": Scenario(
            about="one log-in of twenty goes through a worker without the update", issuer=Issuer(share=0.05)
        ),
        "rollback": Scenario(
            about="rolled back the next morning, released again in the evening; the plan does not change",
            days=11,
            deploys=(
                READERS_FIRST,
                Deploy(at=RELEASE),
                Deploy(at=2 * DAY + 8, mints=1),
                Deploy(at=2 * DAY + 18),
            ),
        ),
        "overlapping": Scenario(
            about="version 3 follows two days after version 2",
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
            about="until the release another app mints tokens that live nine days",
            days=12,
            issuer=Issuer(share=0.2, until=RELEASE, lifetime=9 * DAY),
        ),
        "scrape-gap": Scenario(about="nothing is scraped for five days", gap=(3 * DAY, 8 * DAY)),
        "no-traffic": Scenario(about="no user comes from the fifth day on", quiet_after=4 * DAY),
        "restarts": Scenario(
            about="every instance is restarted in the middle of each day",
            restarts=tuple(day * DAY + 13 for day in range(9)),
        ),
    }
)
