"""The steps between payload versions: up, to read older tokens; down, to mint older ones while readers roll out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

from ..errors import ConfigError, MintError, Reason, Refusal
from ..types import is_async, is_version, name_of_type

Step = Callable[[dict[str, Any]], dict[str, Any]]
"""A pure function from the claims of one version to those of the next or the previous one. It must not be async."""


class Versions:
    """The steps of a schema: ``upgrades={1: step}`` leads from 1 to 2, ``downgrades={2: step}`` back.

    Args:
        current: Today's version.
        mints: The version that is minted.
        upgrades, downgrades: The steps.
        since: By wire name, the version that added each claim.

    Raises:
        ConfigError: The steps, the versions and the claims contradict each other.
    """

    def __init__(
        self,
        *,
        current: int,
        mints: int,
        upgrades: Mapping[int, Step],
        downgrades: Mapping[int, Step],
        since: Mapping[str, int],
    ) -> None:
        self._current: Final = current
        self._mints: Final = mints
        self._upgrades: Final = dict(upgrades)
        self._downgrades: Final = dict(downgrades)
        self._since: Final = since
        self._refuse_wrong_versions()
        self._refuse_wrong_steps()

    def up(self, payload: Mapping[str, Any], version: int) -> dict[str, Any]:
        """Today's claims from those of ``version``.

        Raises:
            Refusal: ``payload_invalid`` if a step fails, without the text of its exception.
        """
        claims = dict(payload)
        for older in range(version, self._current):
            if older not in self._upgrades:
                continue
            try:
                claims = self._upgrades[older](claims)
            except Exception:  # a step is code of the app, and another release minted the payload
                raise Refusal(Reason.PAYLOAD_INVALID) from None
            if not isinstance(claims, dict):
                raise Refusal(Reason.PAYLOAD_INVALID)
        return claims

    def down(self, claims: dict[str, Any]) -> dict[str, Any]:
        """The claims of the version to mint from today's.

        Raises:
            MintError: A step fails.
        """
        for version in range(self._current, self._mints, -1):
            if version in self._downgrades:
                try:
                    claims = dict(self._downgrades[version](dict(claims)))
                except Exception:  # from None: its text may quote a claim
                    raise MintError(f"the downgrade from payload version {version} failed") from None
            for name, since in self._since.items():
                if since == version:
                    claims.pop(name, None)
        return claims

    def has_step_from(self, version: int) -> bool:
        """True if payloads of that version pass a step, which may read and write any claim."""
        return any(step >= version for step in self._upgrades)

    def _refuse_wrong_versions(self) -> None:
        if not is_version(self._current):
            raise ConfigError(f"version must be an integer of at least 1, got {self._current!r}")
        if not is_version(self._mints) or self._mints > self._current:
            raise ConfigError(f"mints must be an integer from 1 to version ({self._current}), got {self._mints!r}")
        for name, since in self._since.items():
            if not is_version(since) or since > self._current:
                raise ConfigError(
                    f"claim {name!r} has since={since!r}: use an integer from 1 to version "
                    f"({self._current}), or raise version="
                )

    def _refuse_wrong_steps(self) -> None:
        for step in (*self._upgrades.values(), *self._downgrades.values()):
            if not _is_step(step):
                raise ConfigError(
                    f"a step must be a plain function of one mapping, not async, got {name_of_type(step)}; "
                    "use upgrades={1: lambda claims: {…}}, and a source for what a database knows"
                )
        if wrong := [n for n in self._upgrades if not is_version(n) or n >= self._current]:
            raise ConfigError(f"upgrades={{{wrong[0]!r}: …}} starts at no older version: use 1 to {self._current - 1}")
        if wrong := [n for n in self._downgrades if not is_version(n) or not 1 < n <= self._current]:
            raise ConfigError(f"downgrades={{{wrong[0]!r}: …}} starts at no newer version: use 2 to {self._current}")
        for version in range(self._mints + 1, self._current + 1):
            if version - 1 in self._upgrades and version not in self._downgrades:
                raise ConfigError(
                    f"mints={self._mints} requires downgrades={{{version}: …}}: upgrades={{{version - 1}: …}} is a "
                    "function, and leaving claims out does not undo it"
                )


def _is_step(step: object) -> bool:
    """True for a function that can be called with one mapping, and returns no coroutine."""
    if not callable(step) or is_async(step):
        return False
    try:
        inspect.signature(step).bind({})
    except TypeError:
        return False
    except ValueError:  # a built-in without a signature
        return True
    return True
