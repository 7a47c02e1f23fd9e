"""The steps between payload versions: up to read older tokens, down to mint older ones while readers roll out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ConfigError, MintError, Reason, Refusal
from .fields import ClaimSpec

Step = Callable[[dict[str, Any]], dict[str, Any]]
"""A pure function from one version's claims to the next one's (or the one before)."""


class Versions:
    """The chain of steps. ``upgrades={1: step}`` leads from 1 to 2, ``downgrades={2: step}`` back."""

    def __init__(
        self,
        *,
        current: int,
        mints: int,
        upgrades: Mapping[int, Step],
        downgrades: Mapping[int, Step],
        claims: tuple[ClaimSpec, ...],
    ) -> None:
        self.current = current
        self.mints = mints
        self._upgrades = dict(upgrades)
        self._downgrades = dict(downgrades)
        self._claims = claims
        self._refuse_impossible()

    def up(self, payload: Mapping[str, Any], version: int) -> dict[str, Any]:
        """Today's claims from those of ``version``.

        Raises:
            Refusal: ``payload_invalid`` where a step fails; what it said is kept out of every signal.
        """
        claims = dict(payload)
        for step in [self._upgrades[n] for n in range(version, self.current) if n in self._upgrades]:
            try:
                claims = step(claims)
            except Exception:  # a step is the app's code and the payload was another release's: anything can happen
                raise Refusal(Reason.PAYLOAD_INVALID) from None
            if not isinstance(claims, dict):
                raise Refusal(Reason.PAYLOAD_INVALID)
        return claims

    def down(self, claims: dict[str, Any]) -> dict[str, Any]:
        """The claims of the version that is minted.

        Raises:
            MintError: A step fails.
        """
        for version in range(self.current, self.mints, -1):
            if version in self._downgrades:
                try:
                    claims = dict(self._downgrades[version](dict(claims)))
                except Exception:  # its text may quote a claim
                    raise MintError(f"the downgrade from payload version {version} failed") from None
            for claim in self._claims:
                if claim.since == version:
                    claims.pop(claim.name, None)
        return claims

    def begins_at(self, version: int) -> bool:
        """Whether payloads of that version pass through a step, which may know names that today's claims do not."""
        return any(step >= version for step in self._upgrades)

    def reaches(self, claim: ClaimSpec) -> bool:
        """Some step may bring the claim into a token minted just before it was added."""
        return self.begins_at(claim.since - 1)

    def _refuse_impossible(self) -> None:
        if not is_version(self.current):
            raise ConfigError("version must be an integer of at least 1")
        if not all(callable(step) for step in (*self._upgrades.values(), *self._downgrades.values())):
            raise ConfigError("a step is a function from claims to claims: upgrades={1: lambda claims: {…}}")
        if not is_version(self.mints) or self.mints > self.current:
            raise ConfigError(f"mints must lie between 1 and version ({self.current})")
        if wrong := [n for n in self._upgrades if not is_version(n) or n >= self.current]:
            raise ConfigError(f"upgrades={{{wrong[0]!r}: …}} starts at no older version: use 1 to {self.current - 1}")
        if wrong := [n for n in self._downgrades if not is_version(n) or not 1 < n <= self.current]:
            raise ConfigError(f"downgrades={{{wrong[0]!r}: …}} starts at no newer version: use 2 to {self.current}")
        for claim in self._claims:
            if not is_version(claim.since) or claim.since > self.current:
                raise ConfigError(
                    f"claim {claim.name!r} has since={claim.since!r}, which is no integer from 1 to version "
                    f"({self.current}): mend it, or raise version="
                )
        for version in range(self.mints + 1, self.current + 1):
            if version - 1 in self._upgrades and version not in self._downgrades:
                raise ConfigError(
                    f"mints={self.mints} needs downgrades={{{version}: …}}: the step from {version - 1} to {version} "
                    "is an upgrade function, and leaving claims out cannot undo it"
                )


def is_version(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
