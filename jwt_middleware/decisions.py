"""The end of the path: what was decided about a request is counted, put into one Outcome and shown to observers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Generic

from . import names
from .errors import Reason
from .ports import Observer
from .schema import SessionSchema
from .tallies import Tallies
from .types import Carrier, Due, Fallback, Minted, Outcome, Result, S, TokenInfo

DECIDED: Final = "jwt_middleware"
"""The ASGI scope's key under which a nested middleware finds which authority decided, and what."""
UNKNOWN: Final = "unknown"
"""The payload version of a token whose signature holds and whose version claim cannot be read."""


@dataclass(slots=True)
class Trail:
    """What is known of a request so far: whatever ends it, the Outcome says this much."""

    carrier: Carrier | None = None
    key_id: str | None = None
    label: str | None = None
    subject: str | None = None
    minted: Minted | None = None
    age: float | None = None
    auth_time: float | None = None
    fallback: Fallback | None = None
    stale: bool = False
    due: Due | None = None
    claim: str | None = None


class Decisions(Generic[S]):
    """Ends requests; every cell of ``requests`` is zero from the start."""

    def __init__(self, schema: SessionSchema[S], tallies: Tallies, observer: Observer) -> None:
        self._expected: Final = schema.version
        self._cells: Final = tallies.cells
        self._observer: Final = observer
        versions = [str(version) for version in range(1, schema.version + 1)] + ["newer"]
        older = set(versions[: schema.version - 1])
        shapes: list[tuple[str, Minted | None]] = [
            (version, minted)
            for version in versions
            for minted in (("before_change", "after_change", UNKNOWN) if version in older else (None,))
        ]

        def cell(**attributes: str | None) -> int:
            named = {_KEYS[key]: value for key, value in attributes.items() if value is not None}
            return tallies.cell(names.REQUESTS, named)

        self._accepted: Final = {
            (version, minted): cell(result="accepted", version=version, minted=minted) for version, minted in shapes
        }
        self._refused: Final = {
            (reason, version): cell(result="refused", error=reason, version=version)
            for reason in Reason
            for version in ((*versions, UNKNOWN) if reason.verified else (None,))
        }
        self._anonymous: Final = cell(result="anonymous")

    def cell(self, trail: Trail) -> int:
        """The cell of an accepted request: what a plain hit raises."""
        return self._accepted[trail.label or UNKNOWN, trail.minted]

    def accept(self, trail: Trail, session: S, token: TokenInfo) -> Outcome[S]:
        return self._finish(trail, "accepted", self.cell(trail), session=session, token=token)

    def refuse(self, trail: Trail, reason: Reason, *, optional: bool) -> Outcome[S]:
        """Turned away; or anonymous, where that is allowed and no Bearer token was shown."""
        if optional and trail.carrier is not Carrier.BEARER and reason.status == 401:
            return self._finish(trail, "anonymous", self._anonymous, reason=reason)
        version = (trail.label or UNKNOWN) if reason.verified else None
        return self._finish(trail, "refused", self._refused[reason, version], reason=reason)

    def _finish(
        self,
        trail: Trail,
        result: Result,
        cell: int,
        *,
        reason: Reason | None = None,
        session: S | None = None,
        token: TokenInfo | None = None,
    ) -> Outcome[S]:
        self._cells[cell] += 1
        outcome = Outcome(
            result=result,
            reason=reason,
            session=session,
            token=token,
            subject=trail.subject,
            carrier=trail.carrier,
            key_id=trail.key_id,
            payload_version=trail.label,
            payload_expected=self._expected,
            minted=trail.minted,
            token_age=trail.age,
            fallback=trail.fallback,
            auth_time=trail.auth_time,
            stale=trail.stale,
            due=trail.due,
            claim=trail.claim,
        )
        self._observer.finished(outcome)
        return outcome


_KEYS: Final = {
    "result": names.RESULT,
    "error": names.ERROR_TYPE,
    "version": names.PAYLOAD_VERSION,
    "minted": names.MINTED,
}
