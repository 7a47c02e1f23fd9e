"""An app as Prometheus sees it, minute by minute: the words of the cases for alerts."""

from __future__ import annotations

from collections.abc import Mapping

from jwt_middleware import names
from jwt_middleware.names import Metric
from tests.support.promtool import Series, series

WEEK = 604_800
HOUR = 60
LONG = 200
"""Minutes."""


def counting(each: float, minutes: int = LONG, *, start: float = 0, after: int = 0, born: int = 0) -> str:
    """A counter that rises by ``each`` a minute, after minutes at 0 (``after``) or without samples (``born``)."""
    return f"{before(after, born)}{start:g}+{each:g}x{minutes}"


def still(value: float, minutes: int = LONG, *, after: int = 0, born: int = 0) -> str:
    """A steady value; see :func:`counting`."""
    return f"{before(after, born)}{value:g}x{minutes}"


def before(after: int, born: int) -> str:
    return (f"_x{born} " if born else "") + (f"0x{after} " if after else "")


def absent(minutes: int) -> str:
    return f"_x{minutes}"


def then(*parts: str) -> str:
    """Parts in a row; each has one value more than its number of minutes."""
    return " ".join(parts)


def every_ten_minutes() -> str:
    """A counter that rises by one every ten minutes."""
    return " ".join(f"{count}x9" for count in range(LONG // 10))


def accepted(version: int = 2, *, at: str = "a", minted: str = "") -> str:
    attributes = {names.RESULT: "accepted", names.PAYLOAD_VERSION: str(version)}
    return series(names.REQUESTS, {**attributes, names.MINTED: minted} if minted else attributes, at=at)


def refused(reason: str, *, at: str = "a", version: str = "") -> str:
    attributes = {names.RESULT: "refused", names.ERROR_TYPE: reason}
    return series(names.REQUESTS, {**attributes, names.PAYLOAD_VERSION: version} if version else attributes, at=at)


def info(*, reads: int = 2, mints: int = 2, at: str = "a") -> str:
    return series(names.PAYLOAD_INFO, {names.PAYLOAD_VERSION: str(reads), names.PAYLOAD_MINTS: str(mints)}, at=at)


def of_version(metric: Metric, version: int, *, at: str = "a") -> str:
    return series(metric, {names.PAYLOAD_VERSION: str(version)}, at=at)


def fallbacks(version: int, *, at: str = "a", outcome: str = "resolved") -> str:
    return series(names.FALLBACKS, {names.PAYLOAD_VERSION: str(version), names.OUTCOME: outcome}, at=at)


def lookups(outcome: str, *, at: str = "a", lookup: str = "claims") -> str:
    return series(names.LOOKUPS, {names.LOOKUP: lookup, names.OUTCOME: outcome}, at=at)


def breaker(lookup: str, *, at: str = "a") -> str:
    return series(names.LOOKUP_BREAKER_OPEN, {names.LOOKUP: lookup}, at=at)


def dropped(event: str, reason: str, *, at: str = "a") -> str:
    return series(names.TELEMETRY_DROPPED, {names.EVENT: event, names.DROP_REASON: reason}, at=at)


def up(*, at: str = "a") -> str:
    return f'up{{job="app", instance="{at}"}}'


def shop(changes: Mapping[str, str] | None = None, *, minutes: int = LONG, at: str = "a", rate: float = 60) -> Series:
    """One healthy instance, with the change from version 1 planned for an hour after the epoch; and ``changes``."""
    zero = still(0, minutes)
    healthy = {
        up(at=at): still(1, minutes),
        info(at=at): still(1, minutes),
        of_version(names.PAYLOAD_SUPERSEDED, 1, at=at): still(3600, minutes),
        of_version(names.PAYLOAD_LAST_MINTED, 1, at=at): still(3000, minutes),
        series(names.TOKEN_MAX_LIFETIME, at=at): still(WEEK, minutes),
        accepted(at=at): counting(rate, minutes),
        accepted(1, at=at, minted="before_change"): zero,
        accepted(1, at=at, minted="after_change"): zero,
        fallbacks(1, at=at): zero,
        fallbacks(2, at=at): zero,
        lookups("ok", at=at): counting(2, minutes),
        lookups("error", at=at): zero,
        lookups("timeout", at=at): zero,
        breaker("claims", at=at): zero,
        series(names.REVOCATION_STALE, at=at): zero,
        dropped("request", "failed", at=at): zero,
        refused("token_missing", at=at): counting(30, minutes),
        refused("token_expired", at=at, version="2"): counting(1, minutes),
    }
    for reason in ("signature_invalid", "claims_invalid", "claims_unavailable", "session_unknown"):
        healthy[refused(reason, at=at)] = zero
    return {**healthy, **(changes or {})}


def fleet(size: int, minutes: int, *, rate: float = 60) -> Series:
    """A number of healthy instances."""
    instances = (shop(minutes=minutes, at=f"i{number}", rate=rate) for number in range(size))
    return {name: values for instance in instances for name, values in instance.items()}
