"""What many tests share: clocks that stand still, an observer that writes down, a session class, an authority."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from jwt_middleware import Claim, Key, KeyRing, Outcome, SessionAuthority, SessionSchema, SilentObserver

SECRET = "0123456789abcdef0123456789abcdef-tests"
EPOCH = 1_795_600_000.0
"""A moment in November 2026."""


@dataclass
class FakeClock:
    """Both clocks stand still until a test moves them."""

    wall: float = EPOCH
    ticks: float = 1_000.0

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.ticks

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.ticks += seconds


@dataclass
class Recorder(SilentObserver):
    """Writes down every outcome."""

    outcomes: list[Outcome[Any]] = field(default_factory=list)

    def finished(self, outcome: Outcome[Any]) -> None:
        self.outcomes.append(outcome)

    @property
    def reasons(self) -> list[str | None]:
        return [None if outcome.reason is None else outcome.reason.value for outcome in self.outcomes]


@dataclass(slots=True, kw_only=True)
class Session:
    user_id: Annotated[str, Claim("userId")]
    company_id: Annotated[str, Claim("companyId")] = "none"
    role: str = "user"
    email: Annotated[str, Claim(since=2)] = "Unknown"
    permissions: list[str] = field(default_factory=lambda: ["read"])


def checked_out(engine: Any) -> int:
    """Connections that are not back in the pool; before SQLAlchemy 2.1 SQLite's had none."""
    return int(getattr(engine.pool, "checkedout", lambda: 0)())


def authority_of(cls: type[Any] = Session, *, schema: dict[str, Any] | None = None, **settings: Any) -> Any:
    """An authority of version 2 with one HMAC key and whatever else is given."""
    versions = {"version": 2, "subject": "userId", **(schema or {})}
    return SessionAuthority(SessionSchema(cls, **versions), **{"keys": KeyRing([Key.hmac(SECRET)]), **settings})
