"""Both sides of every threshold, floor and window: what a slip of one figure in a rule would turn over."""

from __future__ import annotations

from typing import Final

from dashboards.alerts import FORGED, SIGNED, UNAVAILABLE
from jwt_middleware import names
from tests.support.promtool import Case, Series, series
from tests.support.shop import (
    WEEK,
    absent,
    accepted,
    counting,
    fallbacks,
    info,
    lookups,
    of_version,
    refused,
    still,
    then,
)

LONG: Final = 200
QUIET: Final[list[str]] = []


def phases(*parts: tuple[int, float]) -> str:
    """A counter that rises by so much a minute, for so many minutes each."""
    values = [0.0]
    for minutes, each in parts:
        values += [values[-1] + each * (minute + 1) for minute in range(minutes)]
    return " ".join(f"{value:.6g}" for value in values)


def from_two_hours(each: float, before: float = 0) -> str:
    return phases((120, before), (LONG - 120, each))


def every(minutes: int, *, up_to: int = LONG) -> str:
    return " ".join(f"{count}x{minutes - 1}" for count in range(1, up_to // minutes + 1))


def of_two(accepts: float, refusals: dict[str, float], *, before: float | None = None) -> Series:
    """Two instances alike, and many requests without a token; refusals begin after two hours."""
    began = accepts if before is None else before
    both: Series = {}
    for at in "ab":
        both[accepted(at=at)] = phases((120, began), (LONG - 120, accepts))
        both[refused("token_missing", at=at)] = counting(10_000, LONG)
        both |= {refused(reason, at=at): from_two_hours(each) for reason, each in refusals.items()}
    return both


def queries(ok: float, failed: float, *, begins: int = 0) -> Series:
    outcomes = {"ok": phases((begins, ok + 2 * failed), (LONG - begins, ok))}
    outcomes |= {outcome: phases((begins, 0), (LONG - begins, failed)) for outcome in ("error", "timeout")}
    return {lookups(outcome, at=at): values for outcome, values in outcomes.items() for at in "ab"}


UNAVAILABILITY: Final = [
    *(
        Case(
            name=f"1.5 percent {reason}",
            given=of_two(985, {}) | {refused(reason, at=at): counting(15, LONG) for at in "ab"},
            fires={"2h": ["JwtAuthenticationUnavailable"]},
        )
        for reason in UNAVAILABLE
    ),
    Case(
        name="1.42 percent unavailable",
        given=of_two(9858, {}) | {refused(UNAVAILABLE[0], at=at): counting(142, LONG) for at in "ab"},
        fires={"2h": QUIET},
    ),
    *(
        Case(
            name=f"five percent {reason}, until the hour has 1.44",
            given=of_two(9494, {reason: 506}, before=10_000),
            fires={"2h19m": QUIET, "2h20m": ["JwtAuthenticationUnavailable"]},
        )
        for reason in UNAVAILABLE
    ),
    *(
        Case(
            name=f"a bad hour of {reason} and five good enough minutes",
            given={accepted(): counting(9858, LONG), refused(reason): phases((120, 1000), (80, 142))},
            fires={"2h4m": ["JwtAuthenticationUnavailable"], "2h6m": QUIET, "2h30m": QUIET},
        )
        for reason in UNAVAILABLE
    ),
    Case(
        name="ten times 503 in ten minutes",
        given={accepted(): counting(1, LONG), refused(UNAVAILABLE[0]): counting(1, LONG)},
        fires={"2h": ["JwtAuthenticationUnavailable", "JwtInstanceUnavailable"]},
    ),
    Case(
        name="nine times 503 in ten minutes",
        given={
            accepted(): counting(1, LONG),
            refused(UNAVAILABLE[0]): counting(0.9, LONG),
            refused("token_missing"): counting(30, LONG),
        },
        fires={"2h": QUIET},
    ),
    *(
        Case(
            name=f"{share} percent unavailable at one instance, {reason}",
            given={
                accepted(at="big"): counting(100_000, LONG),
                refused("token_missing"): counting(10_000, LONG),
                accepted(): counting(100 - share, LONG),
                refused(reason): counting(share, LONG),
            },
            fires={"2h": ["JwtInstanceUnavailable"] if share > 20 else QUIET},
        )
        for reason in UNAVAILABLE
        for share in (19, 21)
    ),
    Case(
        name="three tenths unavailable at one instance, until ten minutes have two",
        given={
            accepted(at="big"): counting(100_000, LONG),
            accepted(): phases((120, 100), (80, 70)),
            refused(UNAVAILABLE[0]): from_two_hours(30),
        },
        fires={"2h11m": QUIET, "2h13m": ["JwtInstanceUnavailable"]},
    ),
    Case(name="4.9 percent of queries fail", given=queries(95.1, 2.45), fires={"2h": QUIET}),
    Case(name="5.1 percent of queries fail", given=queries(94.9, 2.55), fires={"2h": ["JwtLookupsFailing"]}),
    Case(
        name="a tenth of queries fail, until a quarter of an hour has 5 percent",
        given=queries(90, 5, begins=120),
        fires={"2h12m": QUIET, "2h14m": ["JwtLookupsFailing"]},
    ),
    Case(
        name="three of many queries in a quarter of an hour",
        given={lookups("ok"): counting(1, LONG), lookups("error"): every(5)},
        fires={"2h": ["JwtLookupsFailing"]},
    ),
    Case(
        name="two of many queries in a quarter of an hour",
        given={lookups("ok"): counting(1, LONG), lookups("error"): every(8)},
        fires={"2h": QUIET},
    ),
    Case(
        name="two breakers of one instance",
        given={
            series(names.LOOKUP_BREAKER_OPEN, {names.LOOKUP: lookup}): still(1, LONG)
            for lookup in ("claims", "sessions")
        },
        fires={"4m": QUIET, "6m": ["JwtBreakerOpen", "JwtBreakerOpen"]},
    ),
    Case(
        name="sessions pass unchecked, the first before the first scrape",
        given={info(): still(1, LONG), series(names.REVOCATION_STALE): then(absent(60), "1x8", "2x8", still(3, LONG))},
        fires={"1h9m": QUIET, "1h11m": ["JwtRevocationViewStale"], "1h30m": QUIET},
    ),
]

REFUSED: Final = [
    *(
        Case(
            name=f"signed and refused, {reason}",
            given=of_two(60, {reason: 4}),
            fires={"2h5m": QUIET, "2h12m": ["JwtSignedTokensRefused"] if reason in SIGNED else QUIET},
        )
        for reason in (*SIGNED, "session_revoked", "token_malformed", "signature_invalid")
    ),
    *(
        Case(
            name=f"4.9 percent signed and refused, {reason}", given=of_two(95.1, {reason: 4.9}), fires={"2h12m": QUIET}
        )
        for reason in SIGNED
    ),
    *(
        Case(
            name=f"signed and refused, three times the day, {reason}",
            given={accepted(): counting(20, LONG), refused(reason): from_two_hours(6, before=2)},
            fires={"2h14m": QUIET},
        )
        for reason in SIGNED
    ),
    Case(
        name="5.1 percent signed and refused",
        given=of_two(94.9, {"claims_invalid": 2.6, "payload_invalid": 2.5}),
        fires={"2h12m": ["JwtSignedTokensRefused"]},
    ),
    Case(name="19 signed in five minutes", given=of_two(9, {"claims_invalid": 1.9}), fires={"2h12m": QUIET}),
    Case(
        name="20 signed in five minutes",
        given=of_two(9, {"claims_invalid": 2.05}),
        fires={"2h12m": ["JwtSignedTokensRefused"]},
    ),
    *(
        Case(
            name=f"signed and refused, {times} times the day",
            given={
                accepted(): counting(20, LONG),
                refused("claims_invalid"): from_two_hours(1.1 * times, before=1.1),
                refused("payload_invalid"): from_two_hours(1.1 * times, before=1.1),
            },
            fires={"2h14m": ["JwtSignedTokensRefused"] if times > 4 else QUIET},
        )
        for times in (3.8, 4.2)
    ),
    *(
        Case(
            name=f"a key removed, {reason}",
            given=of_two(22, {reason: 8}, before=50),
            fires={"2h4m": QUIET, "2h12m": ["JwtKeysRefuseUsers"], "2h30m": ["JwtKeysRefuseUsers", "JwtRefusalSpike"]},
        )
        for reason in FORGED
    ),
    *(
        Case(
            name=f"accepted fell to {rest} percent while tokens are forged",
            given=of_two(rest, {"key_unknown": 90}, before=100),
            fires={"2h12m": ["JwtKeysRefuseUsers"] if rest < 50 else QUIET},
        )
        for rest in (48, 52)
    ),
    *(
        Case(
            name=f"{share} percent forged while accepted fell, {reason}",
            given=of_two(100 - share, {reason: share}, before=300),
            fires={"2h13m": ["JwtKeysRefuseUsers"] if share > 20 else QUIET},
        )
        for share in (19, 21)
        for reason in FORGED
    ),
    *(
        Case(
            name=f"{each} forged in five minutes while accepted fell",
            given=of_two(1, {"key_unknown": each / 10}, before=20),
            fires={"2h13m": ["JwtKeysRefuseUsers"] if each >= 20 else QUIET},
        )
        for each in (19, 20.5)
    ),
    Case(
        name="half an hour after accepted fell, that is what was",
        given=of_two(10, {"key_unknown": 4}, before=100),
        fires={"2h29m": ["JwtKeysRefuseUsers"], "2h36m": QUIET},
    ),
    Case(
        name="the last one was accepted two hours ago",
        given={accepted(): phases((60, 1), (140, 0)), refused("claims_invalid"): every(20)},
        fires={"3h8m": QUIET, "3h12m": ["JwtNothingAccepted"]},
    ),
    Case(
        name="five refused in two hours, of two reasons",
        given={
            accepted(): still(0, LONG),
            refused("claims_invalid"): then(still(0, 149), still(3, LONG)),
            refused("token_malformed"): then(still(0, 149), still(2, LONG)),
        },
        fires={"2h38m": QUIET, "2h42m": ["JwtNothingAccepted"]},
    ),
    Case(
        name="four refused in two hours, and many without a token or with an old one",
        given={
            accepted(): still(0, LONG),
            refused("claims_invalid"): every(35),
            refused("token_missing"): counting(2, LONG),
            refused("token_expired"): counting(2, LONG),
        },
        fires={"3h15m": QUIET},
    ),
    *(
        Case(
            name=f"{each} of one reason in five minutes",
            given=of_two(1000, {"session_revoked": each / 10, "token_malformed": 3}),
            fires={"2h30m": ["JwtRefusalSpike"] if each >= 50 else QUIET},
        )
        for each in (49, 51)
    ),
    *(
        Case(
            name=f"one reason, {times} times the day",
            given={accepted(): counting(1000, LONG), refused("session_revoked"): from_two_hours(20 * times, before=20)},
            fires={"2h30m": ["JwtRefusalSpike"] if times > 5 else QUIET},
        )
        for times in (4.8, 5.3)
    ),
    Case(
        name="no reason that spikes: without a token, or 503",
        given={
            accepted(): counting(100_000, LONG),
            **{refused(reason): from_two_hours(100) for reason in ("token_missing", *UNAVAILABLE)},
        },
        fires={"2h30m": QUIET},
    ),
]

MIGRATING: Final = [
    Case(
        name="an hour past the sunset, of the longest life and the latest plan",
        given={
            accepted(1, minted="before_change"): every(10),
            accepted(1, minted="after_change"): still(0, LONG),
            **{
                of_version(names.PAYLOAD_SUPERSEDED, 1, at=at): still(when, LONG) for at, when in (("a", 600), ("b", 0))
            },
            **{series(names.TOKEN_MAX_LIFETIME, at=at): still(life, LONG) for at, life in (("a", 600), ("b", 1800))},
        },
        fires={"1h44m": QUIET, "1h47m": ["JwtOldPayloadAfterSunset"]},
    ),
    Case(
        name="refused old tokens after the sunset, and one accepted for an hour",
        given={
            of_version(names.PAYLOAD_SUPERSEDED, 1): still(-2 * WEEK, LONG),
            series(names.TOKEN_MAX_LIFETIME): still(WEEK, LONG),
            refused("token_expired", version="1"): counting(1, LONG),
            refused("token_expired", version="1", at="new"): then(absent(90), still(5, LONG)),
            accepted(1, minted="before_change"): then(still(0, 119), still(1, LONG)),
        },
        fires={"1h40m": QUIET, "2h57m": ["JwtOldPayloadAfterSunset"], "3h2m": QUIET},
    ),
    Case(
        name="a claim is still lacking an hour after the deploy",
        given={
            info(reads=1, mints=1): still(1, 59) + " stale",
            info(): then(absent(60), still(1, LONG)),
            fallbacks(2): every(10),
        },
        fires={"1h50m": QUIET, "2h10m": ["JwtCurrentPayloadLacksClaim"]},
    ),
]

AT_ALL: Final[dict[str, tuple[str, Series]]] = {
    "JwtTelemetryDropped": (series(names.TELEMETRY_DROPPED, {names.EVENT: "request", names.DROP_REASON: "failed"}), {}),
    "JwtCurrentPayloadLacksClaim": (fallbacks(2), {info(): still(1, LONG)}),
    "JwtOldPayloadAfterSunset": (
        accepted(1, minted="before_change"),
        {
            of_version(names.PAYLOAD_SUPERSEDED, 1): still(-2 * WEEK, LONG),
            series(names.TOKEN_MAX_LIFETIME): still(WEEK, LONG),
        },
    ),
}
"""Rules on anything at all within an hour: what they count, and what else they need."""

NEWS: Final = [
    *(
        Case(
            name=f"news for an hour, of a series born with it, {alert}",
            given={**needed, counted: then(absent(65), still(1, LONG))},
            fires={"1h9m": QUIET, "1h11m": [alert], "2h": [alert], "2h12m": QUIET, "2h50m": QUIET},
        )
        for alert, (counted, needed) in AT_ALL.items()
    ),
    *(
        Case(
            name=f"no news after a gap, {alert}",
            given={**needed, counted: then(still(9, 59), absent(24), still(9, LONG))},
            fires={"1h40m": QUIET, "2h10m": QUIET, "2h20m": QUIET, "2h40m": QUIET},
        )
        for alert, (counted, needed) in AT_ALL.items()
    ),
]

DAYS: Final = [
    Case(
        name="minted ten hours ago by an instance that is gone",
        given={
            of_version(names.PAYLOAD_SUPERSEDED, 1): still(0, 180),
            of_version(names.PAYLOAD_LAST_MINTED, 1): still(-600, 180),
            of_version(names.PAYLOAD_LAST_MINTED, 1, at="gone"): still(7200, 20) + " stale",
        },
        fires={"13h": ["JwtOldPayloadStillMinted"], "25h": ["JwtOldPayloadStillMinted"], "26h10m": QUIET},
    ),
    Case(
        name="minted at the very moment from which nobody may",
        given={
            of_version(names.PAYLOAD_SUPERSEDED, 1): still(3600, 180),
            of_version(names.PAYLOAD_LAST_MINTED, 1): still(3600, 180),
        },
        fires={"13h": QUIET},
    ),
    Case(
        name="a plan of two instances, one of them older",
        given={
            **{
                of_version(names.PAYLOAD_SUPERSEDED, 1, at=at): still(when, 180)
                for at, when in (("a", 60), ("b", 9000))
            },
            of_version(names.PAYLOAD_LAST_MINTED, 1): still(7200, 180),
        },
        fires={"13h": QUIET},
    ),
    Case(
        name="metrics that are gone, for a day",
        given={info(): still(1, 10) + " stale", info(at="b"): still(1, 5) + " stale"},
        fires={"2h": QUIET, "2h30m": ["JwtTelemetryAbsent"], "25h30m": ["JwtTelemetryAbsent"], "26h": QUIET},
    ),
]
"""Told in steps of ten minutes."""

EDGES: Final = [*UNAVAILABILITY, *REFUSED, *MIGRATING, *NEWS]
