"""Both sides of every threshold, minimum and window: a wrong figure in a rule fails one of these cases."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from dashboards.alerts import FORGED, SIGNED, UNAVAILABLE
from jwt_middleware import names
from tests.support.promtool import Series, failures, series
from tests.support.shop import (
    LONG,
    WEEK,
    absent,
    accepted,
    breaker,
    counting,
    dropped,
    fallbacks,
    info,
    lookups,
    of_version,
    refused,
    still,
    then,
)


def phases(*parts: tuple[int, float]) -> str:
    """A counter that rises by ``each`` a minute in each phase."""
    values = [0.0]
    for minutes, each in parts:
        values += [values[-1] + each * (minute + 1) for minute in range(minutes)]
    return " ".join(f"{value:.6g}" for value in values)


def from_two_hours(each: float, before: float = 0) -> str:
    return phases((120, before), (LONG - 120, each))


def every(minutes: int, *, up_to: int = LONG) -> str:
    return " ".join(f"{count}x{minutes - 1}" for count in range(1, up_to // minutes + 1))


def of_two(accepts: float, refusals: dict[str, float], *, before: float | None = None) -> Series:
    """Two equal instances with many requests without a token; refusals begin after two hours."""
    began = accepts if before is None else before
    both: Series = {}
    for at in "ab":
        both[accepted(at=at)] = phases((120, began), (LONG - 120, accepts))
        both[refused("token_missing", at=at)] = counting(10000)
        both |= {refused(reason, at=at): from_two_hours(each) for reason, each in refusals.items()}
    return both


def queries(ok: float, failed: float, *, begins: int = 0) -> Series:
    outcomes = {"ok": phases((begins, ok + 2 * failed), (LONG - begins, ok))}
    outcomes |= {outcome: phases((begins, 0), (LONG - begins, failed)) for outcome in ("error", "timeout")}
    return {lookups(outcome, at=at): values for outcome, values in outcomes.items() for at in "ab"}


@pytest.mark.server
def test_thresholds_of_availability(tmp_path: Path) -> None:
    table = {
        **{
            f"1.5 percent {reason}": (
                of_two(985, {}) | {refused(reason, at=at): counting(15) for at in "ab"},
                "2h AuthenticationUnavailable",
            )
            for reason in UNAVAILABLE
        },
        "1.42 percent unavailable": (
            of_two(9858, {}) | {refused(UNAVAILABLE[0], at=at): counting(142) for at in "ab"},
            "2h",
        ),
        **{
            f"five percent {reason}, until the hour has 1.44": (
                of_two(9494, {reason: 506}, before=10000),
                "2h19m; 2h20m AuthenticationUnavailable",
            )
            for reason in UNAVAILABLE
        },
        **{
            f"a bad hour of {reason} and five good enough minutes": (
                {accepted(): counting(9858), refused(reason): phases((120, 1000), (80, 142))},
                "2h4m AuthenticationUnavailable; 2h6m; 2h30m",
            )
            for reason in UNAVAILABLE
        },
        "ten times 503 in ten minutes": (
            {accepted(): counting(1), refused(UNAVAILABLE[0]): counting(1)},
            "2h AuthenticationUnavailable InstanceUnavailable",
        ),
        "nine times 503 in ten minutes": (
            {accepted(): counting(1), refused(UNAVAILABLE[0]): counting(0.9), refused("token_missing"): counting(30)},
            "2h",
        ),
        **{
            f"{share} percent unavailable at one instance, {reason}": (
                {
                    accepted(at="big"): counting(100000),
                    refused("token_missing"): counting(10000),
                    accepted(): counting(100 - share),
                    refused(reason): counting(share),
                },
                f"2h {('InstanceUnavailable' if share > 20 else '')}",
            )
            for reason in UNAVAILABLE
            for share in (19, 21)
        },
        "three tenths unavailable at one instance, until ten minutes have two": (
            {
                accepted(at="big"): counting(100000),
                accepted(): phases((120, 100), (80, 70)),
                refused(UNAVAILABLE[0]): from_two_hours(30),
            },
            "2h11m; 2h13m InstanceUnavailable",
        ),
        "4.9 percent of queries fail": (queries(95.1, 2.45), "2h"),
        "5.1 percent of queries fail": (queries(94.9, 2.55), "2h LookupsFailing"),
        "a tenth of queries fail, until a quarter of an hour has 5 percent": (
            queries(90, 5, begins=120),
            "2h12m; 2h14m LookupsFailing",
        ),
        "three of many queries in a quarter of an hour": (
            {lookups("ok"): counting(1), lookups("error"): every(5)},
            "2h LookupsFailing",
        ),
        "two of many queries in a quarter of an hour": ({lookups("ok"): counting(1), lookups("error"): every(8)}, "2h"),
        "two breakers of one instance": (
            {breaker(lookup): still(1) for lookup in ("claims", "sessions")},
            "4m; 6m BreakerOpen BreakerOpen",
        ),
        "sessions pass unchecked, the first before the first scrape": (
            {info(): still(1), series(names.REVOCATION_STALE): then(absent(60), "1x8", "2x8", still(3))},
            "1h9m; 1h11m RevocationViewStale; 1h30m",
        ),
    }
    assert failures(table, tmp_path) == {}


@pytest.mark.server
def test_thresholds_of_refusals(tmp_path: Path) -> None:
    table = {
        **{
            f"signed and refused, {reason}": (
                of_two(60, {reason: 4}),
                f"2h5m; 2h12m {('SignedTokensRefused' if reason in SIGNED else '')}",
            )
            for reason in (*SIGNED, "session_revoked", "token_malformed", "signature_invalid")
        },
        **{f"4.9 percent signed and refused, {reason}": (of_two(95.1, {reason: 4.9}), "2h12m") for reason in SIGNED},
        **{
            f"signed and refused, three times the day, {reason}": (
                {accepted(): counting(20), refused(reason): from_two_hours(6, before=2)},
                "2h14m",
            )
            for reason in SIGNED
        },
        "5.1 percent signed and refused": (
            of_two(94.9, {"claims_invalid": 2.6, "payload_invalid": 2.5}),
            "2h12m SignedTokensRefused",
        ),
        "19 signed in five minutes": (of_two(9, {"claims_invalid": 1.9}), "2h12m"),
        "20 signed in five minutes": (of_two(9, {"claims_invalid": 2.05}), "2h12m SignedTokensRefused"),
        **{
            f"signed and refused, {times} times the day": (
                {
                    accepted(): counting(20),
                    refused("claims_invalid"): from_two_hours(1.1 * times, before=1.1),
                    refused("payload_invalid"): from_two_hours(1.1 * times, before=1.1),
                },
                f"2h14m {('SignedTokensRefused' if times > 4 else '')}",
            )
            for times in (3.8, 4.2)
        },
        **{
            f"a key removed, {reason}": (
                of_two(22, {reason: 8}, before=50),
                "2h4m; 2h12m KeysRefuseUsers; 2h30m KeysRefuseUsers RefusalSpike",
            )
            for reason in FORGED
        },
        **{
            f"accepted fell to {rest} percent while tokens are forged": (
                of_two(rest, {"key_unknown": 90}, before=100),
                f"2h12m {('KeysRefuseUsers' if rest < 50 else '')}",
            )
            for rest in (48, 52)
        },
        **{
            f"{share} percent forged while accepted fell, {reason}": (
                of_two(100 - share, {reason: share}, before=300),
                f"2h13m {('KeysRefuseUsers' if share > 20 else '')}",
            )
            for share in (19, 21)
            for reason in FORGED
        },
        **{
            f"{each} forged in five minutes while accepted fell": (
                of_two(1, {"key_unknown": each / 10}, before=20),
                f"2h13m {('KeysRefuseUsers' if each >= 20 else '')}",
            )
            for each in (19, 20.5)
        },
        "half an hour after accepted fell, that is what was": (
            of_two(10, {"key_unknown": 4}, before=100),
            "2h29m KeysRefuseUsers; 2h36m",
        ),
        "the last one was accepted two hours ago": (
            {accepted(): phases((60, 1), (140, 0)), refused("claims_invalid"): every(20)},
            "3h8m; 3h12m NothingAccepted",
        ),
        "five refused in two hours, of two reasons": (
            {
                accepted(): still(0),
                refused("claims_invalid"): still(3, after=149),
                refused("token_malformed"): still(2, after=149),
            },
            "2h38m; 2h42m NothingAccepted",
        ),
        "four refused in two hours, and many without a token or with an old one": (
            {
                accepted(): still(0),
                refused("claims_invalid"): every(35),
                refused("token_missing"): counting(2),
                refused("token_expired"): counting(2),
            },
            "3h15m",
        ),
        **{
            f"{each} of one reason in five minutes": (
                of_two(1000, {"session_revoked": each / 10, "token_malformed": 3}),
                f"2h30m {('RefusalSpike' if each >= 50 else '')}",
            )
            for each in (49, 51)
        },
        **{
            f"one reason, {times} times the day": (
                {accepted(): counting(1000), refused("session_revoked"): from_two_hours(20 * times, before=20)},
                f"2h30m {('RefusalSpike' if times > 5 else '')}",
            )
            for times in (4.8, 5.3)
        },
        "no reason that spikes: without a token, or 503": (
            {
                accepted(): counting(100000),
                **{refused(reason): from_two_hours(100) for reason in ("token_missing", *UNAVAILABLE)},
            },
            "2h30m",
        ),
    }
    assert failures(table, tmp_path) == {}


@pytest.mark.server
def test_thresholds_of_a_migration(tmp_path: Path) -> None:
    table = {
        "an hour past the sunset, of the longest life and the latest plan": (
            {
                accepted(1, minted="before_change"): every(10),
                accepted(1, minted="after_change"): still(0),
                **{of_version(names.PAYLOAD_SUPERSEDED, 1, at=at): still(when) for at, when in (("a", 600), ("b", 0))},
                **{series(names.TOKEN_MAX_LIFETIME, at=at): still(life) for at, life in (("a", 600), ("b", 1800))},
            },
            "1h44m; 1h47m OldPayloadAfterSunset",
        ),
        "refused old tokens after the sunset, and one accepted for an hour": (
            {
                of_version(names.PAYLOAD_SUPERSEDED, 1): still(-2 * WEEK),
                series(names.TOKEN_MAX_LIFETIME): still(WEEK),
                refused("token_expired", version="1"): counting(1),
                refused("token_expired", version="1", at="new"): still(5, born=90),
                accepted(1, minted="before_change"): still(1, after=119),
            },
            "1h40m; 2h57m OldPayloadAfterSunset; 3h2m",
        ),
        "a claim is still lacking an hour after the deploy": (
            {info(reads=1, mints=1): still(1, 59) + " stale", info(): still(1, born=60), fallbacks(2): every(10)},
            "1h50m; 2h10m CurrentPayloadLacksClaim",
        ),
    }
    assert failures(table, tmp_path) == {}


AT_ALL: Final[dict[str, tuple[str, Series]]] = {
    "TelemetryDropped": (dropped("request", "failed"), {}),
    "CurrentPayloadLacksClaim": (fallbacks(2), {info(): still(1)}),
    "OldPayloadAfterSunset": (
        accepted(1, minted="before_change"),
        {of_version(names.PAYLOAD_SUPERSEDED, 1): still(-2 * WEEK), series(names.TOKEN_MAX_LIFETIME): still(WEEK)},
    ),
}
"""Rules on any event within an hour: the series that they count, and other series that they need."""


@pytest.mark.server
def test_windows_of_rules_on_any_event(tmp_path: Path) -> None:
    table = {
        **{
            f"news for an hour, of a series born with it, {alert}": (
                {**needed, counted: still(1, born=65)},
                f"1h9m; 1h11m {alert}; 2h {alert}; 2h12m; 2h50m",
            )
            for alert, (counted, needed) in AT_ALL.items()
        },
        **{
            f"no news after a gap, {alert}": (
                {**needed, counted: then(still(9, 59), absent(24), still(9))},
                "1h40m; 2h10m; 2h20m; 2h40m",
            )
            for alert, (counted, needed) in AT_ALL.items()
        },
    }
    assert failures(table, tmp_path) == {}


@pytest.mark.server
def test_rules_that_look_back_a_day(tmp_path: Path) -> None:
    table = {
        "minted ten hours ago by an instance that is gone": (
            {
                of_version(names.PAYLOAD_SUPERSEDED, 1): still(0, 180),
                of_version(names.PAYLOAD_LAST_MINTED, 1): still(-600, 180),
                of_version(names.PAYLOAD_LAST_MINTED, 1, at="gone"): still(7200, 20) + " stale",
            },
            "13h OldPayloadStillMinted; 25h OldPayloadStillMinted; 26h10m",
        ),
        "minted at the very moment of the change": (
            {
                of_version(names.PAYLOAD_SUPERSEDED, 1): still(3600, 180),
                of_version(names.PAYLOAD_LAST_MINTED, 1): still(3600, 180),
            },
            "13h",
        ),
        "a plan of two instances, one of them older": (
            {
                **{
                    of_version(names.PAYLOAD_SUPERSEDED, 1, at=at): still(when, 180)
                    for at, when in (("a", 60), ("b", 9000))
                },
                of_version(names.PAYLOAD_LAST_MINTED, 1): still(7200, 180),
            },
            "13h",
        ),
        "metrics that are gone, for a day": (
            {info(): still(1, 10) + " stale", info(at="b"): still(1, 5) + " stale"},
            "2h; 2h30m TelemetryAbsent; 25h30m TelemetryAbsent; 26h",
        ),
    }
    assert failures(table, tmp_path, interval="10m") == {}
