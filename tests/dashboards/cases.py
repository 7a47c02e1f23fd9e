"""What each alert must do: fire, stay silent, and hold its own in the situations that fool a rule.

Each case names every alert that fires at each moment; an alert that is not named must not fire.
"""

from __future__ import annotations

from jwt_middleware import names
from tests.dashboards.edges import EDGES
from tests.support.promtool import Case, series
from tests.support.shop import (
    HOUR,
    WEEK,
    absent,
    accepted,
    counting,
    every_ten_minutes,
    fallbacks,
    fleet,
    info,
    lookups,
    of_version,
    refused,
    shop,
    still,
    then,
    up,
)

LONG = 200
QUIET: list[str] = []
MINTED = of_version(names.PAYLOAD_LAST_MINTED, 1)
STALE = series(names.REVOCATION_STALE)
BREAKER = series(names.LOOKUP_BREAKER_OPEN, {names.LOOKUP: "claims"})
LOST = series(names.TELEMETRY_DROPPED, {names.EVENT: "request", names.DROP_REASON: "failed"})
FETCHED = series(names.JWKS_LAST_SUCCESS)
AFTER_SUNSET = {of_version(names.PAYLOAD_SUPERSEDED, 1): still(-WEEK, LONG), MINTED: still(-2 * WEEK, LONG)}
"""The plan's last token died at the epoch."""


def reset_at(minute: int, rate: float) -> str:
    """A counter whose process starts anew."""
    return then(counting(rate, minute - 1), counting(rate, LONG - minute))


def gap(value: str, *, start: int, end: int) -> str:
    """A steady value with a hole."""
    return then(f"{value}x{start - 1}", absent(end - start), f"{value}x{LONG}")


HEALTHY = [
    Case(name="a healthy app", given=shop(LONG), fires={"5m": QUIET, "1h": QUIET, "3h20m": QUIET}),
    Case(
        name="a healthy app with one request in ten minutes",
        given=shop(LONG, {accepted(): every_ten_minutes(LONG)}),
        fires={"1h": QUIET, "3h": QUIET, "3h15m": QUIET},
    ),
    Case(
        name="a restart, that sets every counter to zero",
        given=shop(
            LONG,
            {
                accepted(): reset_at(120, 60),
                lookups("ok"): reset_at(120, 2),
                refused("token_missing"): reset_at(120, 30),
                MINTED: then(still(3000, 119), absent(30), still(3000, LONG)),
            },
        ),
        fires={"1h59m": QUIET, "2h5m": QUIET, "3h": QUIET},
    ),
    Case(
        name="a scrape gap of five minutes",
        given={name: then(value.replace(f"x{LONG}", "x119"), absent(10), value) for name, value in shop(LONG).items()},
        fires={"2h5m": QUIET, "2h10m": QUIET, "2h30m": QUIET, "3h20m": QUIET},
    ),
    Case(
        name="a rolling deploy: old series end, new ones begin",
        given={
            **{name: value.replace(f"x{LONG}", "x120") for name, value in shop(LONG, at="old").items()},
            **{name: then(absent(115), value) for name, value in shop(LONG, at="new").items()},
        },
        fires={"1h55m": QUIET, "2h": QUIET, "2h10m": QUIET, "3h10m": QUIET, "3h20m": QUIET},
    ),
    Case(name="a healthy fleet", given=fleet(5, 2 * HOUR), fires={"1h": QUIET, "2h": QUIET}),
]

MIGRATION = [
    Case(
        name="an old payload minted after the change, until a day after the last mint",
        given=shop(
            LONG,
            {
                of_version(names.PAYLOAD_SUPERSEDED, 1): still(-30 * 3600, LONG),
                MINTED: then(still(-40 * 3600, 29), still(-23 * 3600, LONG)),
            },
        ),
        fires={"34m": QUIET, "36m": ["JwtOldPayloadStillMinted"], "59m": ["JwtOldPayloadStillMinted"], "1h1m": QUIET},
    ),
    Case(
        name="an old payload minted in the rollout, before nobody may",
        given=shop(LONG, {MINTED: then(still(3000, 55), still(3599, LONG))}),
        fires={"1h": QUIET, "3h20m": QUIET},
    ),
    Case(
        name="one bad instance of many mints the old payload, and restarts",
        given={
            **fleet(5, LONG),
            of_version(names.PAYLOAD_LAST_MINTED, 1, at="i3"): then(still(3000, 119), still(7200, 20), absent(60)),
        },
        fires={
            "2h": QUIET,
            "2h10m": ["JwtOldPayloadStillMinted"],
            "3h": ["JwtOldPayloadStillMinted"],
            "3h15m": ["JwtOldPayloadStillMinted"],
        },
    ),
    Case(
        name="an issuer that keeps minting the old payload once in ten minutes",
        given=shop(LONG, {MINTED: " ".join(f"{600 * count}x9" for count in range(LONG // 10))}),
        fires={"1h": QUIET, "1h20m": ["JwtOldPayloadStillMinted"], "3h15m": ["JwtOldPayloadStillMinted"]},
    ),
    Case(
        name="a plan that slips",
        given=shop(
            LONG,
            {
                MINTED: then(still(3000, 119), still(7200, LONG)),
                of_version(names.PAYLOAD_SUPERSEDED, 1): then(still(3600, 150), still(90_000, LONG)),
            },
        ),
        fires={"2h10m": ["JwtOldPayloadStillMinted"], "2h35m": QUIET},
    ),
    Case(
        name="one request with an old payload after its sunset, for an hour",
        given=shop(LONG, {**AFTER_SUNSET, accepted(1, minted="before_change"): then(still(0, 119), still(1, LONG))}),
        fires={"2h4m": QUIET, "2h6m": ["JwtOldPayloadAfterSunset"], "3h2m": QUIET},
    ),
    Case(
        name="one old request in ten minutes after the sunset",
        given=shop(LONG, {**AFTER_SUNSET, accepted(1, minted="before_change"): every_ten_minutes(LONG)}),
        fires={"55m": QUIET, "2h": ["JwtOldPayloadAfterSunset"], "3h15m": ["JwtOldPayloadAfterSunset"]},
    ),
    Case(
        name="an old request at a new instance, before its first scrape",
        given={
            **shop(LONG, AFTER_SUNSET),
            accepted(1, at="new", minted="before_change"): then(absent(120), still(1, LONG)),
        },
        fires={"2h": QUIET, "2h10m": ["JwtOldPayloadAfterSunset"], "3h5m": QUIET},
    ),
    Case(
        name="old requests that were counted before the sunset are no news after a scrape gap",
        given={
            **{name: then(still(0, 60), absent(90), value) for name, value in shop(LONG, AFTER_SUNSET).items()},
            of_version(names.PAYLOAD_SUPERSEDED, 1): then(still(-WEEK, 60), absent(90), still(-WEEK, LONG)),
            MINTED: then(still(-2 * WEEK, 60), absent(90), still(-2 * WEEK, LONG)),
            info(): then(still(1, 60), absent(90), still(1, LONG)),
            up(): then(still(1, 60), absent(90), still(1, LONG)),
            series(names.TOKEN_MAX_LIFETIME): then(still(WEEK, 60), absent(90), still(WEEK, LONG)),
            accepted(1, minted="before_change"): then(still(500, 60), absent(90), still(500, LONG)),
            accepted(): then(counting(60, 60), absent(90), counting(60, LONG, start=9000)),
        },
        fires={"2h": ["JwtTelemetryAbsent"], "2h40m": QUIET, "3h": QUIET, "3h20m": QUIET},
    ),
    Case(
        name="old requests before the sunset",
        given=shop(LONG, {accepted(1, minted="before_change"): counting(20, LONG), fallbacks(1): counting(20, LONG)}),
        fires={"1h": QUIET, "3h20m": QUIET},
    ),
    Case(
        name="today's payload lacks a claim",
        given=shop(LONG, {fallbacks(2): then(still(0, 119), still(1, LONG))}),
        fires={"2h4m": QUIET, "2h6m": ["JwtCurrentPayloadLacksClaim"], "3h2m": QUIET},
    ),
    Case(
        name="today's payload lacks a claim at one of five instances, once in ten minutes",
        given={**fleet(5, LONG), fallbacks(2, at="i4"): every_ten_minutes(LONG)},
        fires={"3h": ["JwtCurrentPayloadLacksClaim"]},
    ),
    Case(
        name="a rolling deploy of one instance's name: the old code's payload was that of its time",
        given=shop(
            LONG,
            {
                info(): then(absent(120), still(1, LONG)),
                info(reads=1, mints=1): still(1, 119) + " stale",
                fallbacks(1): then(still(0, 120), counting(10, LONG)),
            },
        ),
        fires={"2h": QUIET, "2h10m": QUIET, "3h": QUIET, "3h20m": QUIET},
    ),
    Case(
        name="a rollback: the fallbacks of the code before are no fault of the code after",
        given=shop(
            LONG,
            {
                info(): still(1, 119) + " stale",
                info(reads=1, mints=1): then(absent(120), still(1, LONG)),
                fallbacks(1): then(counting(10, 120), absent(LONG)),
            },
        ),
        fires={"1h59m": QUIET, "2h10m": QUIET, "3h": QUIET, "3h20m": QUIET},
    ),
]

UNAVAILABLE = [
    Case(
        name="every twentieth request is answered with 503",
        given=shop(LONG, {refused("claims_unavailable", version="1"): then(still(0, 119), counting(3, LONG))}),
        fires={"2h1m": QUIET, "2h30m": ["JwtAuthenticationUnavailable"], "3h20m": ["JwtAuthenticationUnavailable"]},
    ),
    Case(
        name="a short burst of 503 does not touch the hour",
        given=shop(LONG, {refused("sessions_unavailable"): then(still(0, 119), "10 20 30", still(30, LONG))}),
        fires={"2h3m": QUIET, "2h6m": QUIET, "2h30m": QUIET},
    ),
    Case(
        name="503 for one request in ten minutes is too few to tell",
        given=shop(
            LONG,
            {accepted(): every_ten_minutes(LONG), refused("claims_unavailable", version="1"): every_ten_minutes(LONG)},
        ),
        fires={"2h": QUIET, "3h20m": QUIET},
    ),
    Case(
        name="one bad instance of twenty is a page and a ticket",
        given={
            **fleet(20, 2 * HOUR),
            accepted(at="i4"): then(counting(60, 59), still(3540, HOUR)),
            refused("sessions_unavailable", at="i4"): then(still(0, 59), counting(60, HOUR)),
        },
        fires={"59m": QUIET, "1h40m": ["JwtAuthenticationUnavailable", "JwtInstanceUnavailable"]},
    ),
    Case(
        name="one bad instance of a hundred is a ticket",
        given={
            **{accepted(at=f"i{number}"): counting(60, 2 * HOUR) for number in range(100)},
            accepted(at="i4"): then(counting(60, 59), still(3540, HOUR)),
            refused("sessions_unavailable", at="i4"): then(still(0, 59), counting(60, HOUR)),
        },
        fires={"59m": QUIET, "1h40m": ["JwtInstanceUnavailable"]},
    ),
    Case(
        name="503 that ended before a restart",
        given=shop(
            LONG,
            {
                accepted(): reset_at(120, 60),
                refused("claims_unavailable"): then(counting(30, 30), still(900, 88), still(0, LONG)),
            },
        ),
        fires={"25m": ["JwtAuthenticationUnavailable", "JwtInstanceUnavailable"], "1h": QUIET, "2h30m": QUIET},
    ),
    Case(
        name="every tenth query fails",
        given=shop(LONG, {lookups("error"): then(still(0, 119), counting(0.25, LONG))}),
        fires={"2h2m": QUIET, "2h40m": ["JwtLookupsFailing"], "3h20m": ["JwtLookupsFailing"]},
    ),
    Case(
        name="two failed queries are too few to tell, time-outs or not",
        given=shop(
            LONG,
            {
                lookups("ok"): still(0, LONG),
                lookups("error"): then(still(0, 119), still(1, LONG)),
                lookups("timeout"): then(still(0, 125), still(1, LONG)),
            },
        ),
        fires={"2h10m": QUIET, "2h20m": QUIET},
    ),
    Case(
        name="all session queries of a deploy's new series time out",
        given={
            **shop(LONG),
            lookups("ok", at="new", lookup="sessions"): then(absent(120), still(0, LONG)),
            lookups("timeout", at="new", lookup="sessions"): then(absent(120), counting(1, LONG)),
        },
        fires={"2h": QUIET, "2h30m": ["JwtLookupsFailing"]},
    ),
    Case(
        name="a breaker that stays open, at one instance of five",
        given={
            **fleet(5, 2 * HOUR),
            series(names.LOOKUP_BREAKER_OPEN, {names.LOOKUP: "claims"}, at="i2"): then(still(0, 59), still(1, HOUR)),
        },
        fires={"1h4m": QUIET, "1h6m": ["JwtBreakerOpen"], "2h": ["JwtBreakerOpen"]},
    ),
    Case(
        name="a breaker that opens for four minutes",
        given=shop(LONG, {BREAKER: then(still(0, 119), still(1, 3), still(0, LONG))}),
        fires={"2h3m": QUIET, "2h6m": QUIET},
    ),
    Case(
        name="sessions pass unchecked for a quarter of an hour",
        given=shop(LONG, {STALE: then(still(0, 119), counting(4, 15), still(60, LONG))}),
        fires={"2h9m": QUIET, "2h12m": ["JwtRevocationViewStale"], "2h30m": QUIET},
    ),
    Case(
        name="sessions pass unchecked once in ten minutes",
        given=shop(LONG, {STALE: every_ten_minutes(LONG)}),
        fires={"2h": ["JwtRevocationViewStale"]},
    ),
    Case(
        name="one session passed unchecked",
        given=shop(LONG, {STALE: then(still(0, 119), still(1, LONG))}),
        fires={"2h5m": QUIET, "2h11m": QUIET},
    ),
    Case(
        name="one session passed unchecked at a new instance before its first scrape",
        given={**shop(LONG), series(names.REVOCATION_STALE, at="new"): then(absent(121), still(1, LONG))},
        fires={"2h5m": QUIET, "2h11m": QUIET, "2h13m": QUIET, "2h30m": QUIET},
    ),
]

REFUSALS = [
    Case(
        name="signed refusals that are the same every hour",
        given=shop(LONG, {refused("session_unknown"): counting(6, LONG)}),
        fires={"2h": QUIET, "3h20m": QUIET},
    ),
    Case(
        name="a release makes tokens with good signatures invalid",
        given=shop(LONG, {refused("claims_invalid"): then(still(0, 119), counting(12, LONG))}),
        fires={
            "2h4m": QUIET,
            "2h10m": ["JwtSignedTokensRefused"],
            "2h40m": ["JwtSignedTokensRefused", "JwtRefusalSpike"],
        },
    ),
    Case(
        name="signed refusals that are few",
        given=shop(
            LONG, {accepted(): counting(3, LONG), refused("claims_invalid"): then(still(0, 119), counting(2, LONG))}
        ),
        fires={"2h10m": QUIET, "3h": QUIET},
    ),
    Case(
        name="one signed refusal in ten minutes, of one accepted request in ten minutes",
        given=shop(LONG, {accepted(): every_ten_minutes(LONG), refused("claims_invalid"): every_ten_minutes(LONG)}),
        fires={"2h": QUIET, "3h20m": QUIET},
    ),
    Case(
        name="expired tokens and revoked sessions are no fault",
        given=shop(
            LONG,
            {
                refused("token_expired", version="2"): counting(20, LONG),
                refused("session_revoked", version="2"): counting(20, LONG),
            },
        ),
        fires={"30m": QUIET, "3h": QUIET},
    ),
    Case(
        name="a bot with forged tokens",
        given=shop(LONG, {refused("signature_invalid"): then(still(0, 119), counting(600, LONG))}),
        fires={"2h10m": QUIET, "2h25m": ["JwtRefusalSpike"]},
    ),
    Case(
        name="a bot with forged tokens in a rolling deploy",
        given={
            **shop(LONG, {refused("signature_invalid"): then(still(0, 119), counting(300, LONG))}),
            accepted(): counting(60, 130),
            accepted(at="new"): then(absent(128), counting(60, LONG)),
            refused("signature_invalid", at="new"): then(absent(128), counting(300, LONG)),
        },
        fires={"2h10m": QUIET, "2h30m": ["JwtRefusalSpike"]},
    ),
    Case(
        name="a bot that begins when nobody works",
        given=shop(
            LONG,
            {accepted(): still(0, LONG), refused("signature_invalid"): then(still(0, 150), counting(600, LONG))},
        ),
        fires={"2h45m": ["JwtNothingAccepted"], "3h": ["JwtNothingAccepted", "JwtRefusalSpike"]},
    ),
    Case(
        name="a key removed too early",
        given=shop(
            LONG,
            {
                accepted(): then(counting(60, 119), counting(15, LONG, start=7140)),
                refused("signature_invalid"): then(still(0, 119), counting(45, LONG)),
            },
        ),
        fires={"2h4m": QUIET, "2h15m": ["JwtKeysRefuseUsers"], "2h30m": ["JwtKeysRefuseUsers", "JwtRefusalSpike"]},
    ),
    Case(
        name="a key removed too early at one instance of five is nobody's page",
        given={
            **fleet(5, 2 * HOUR),
            accepted(at="i1"): then(counting(60, 79), still(4740, HOUR)),
            refused("key_unknown", at="i1"): then(still(0, 79), counting(60, HOUR)),
        },
        fires={"1h30m": QUIET, "2h": ["JwtRefusalSpike"]},
    ),
    Case(
        name="users go home while a few tokens are forged",
        given=shop(
            LONG,
            {
                accepted(): then(counting(60, 119), counting(5, LONG, start=7140)),
                refused("signature_invalid"): counting(1, LONG),
            },
        ),
        fires={"2h15m": QUIET, "3h20m": QUIET},
    ),
    Case(
        name="nobody gets in, with six requests an hour",
        given=shop(LONG, {accepted(): still(0, LONG), refused("claims_invalid"): every_ten_minutes(LONG)}),
        fires={"30m": QUIET, "2h30m": ["JwtNothingAccepted"]},
    ),
    Case(
        name="nobody comes",
        given=shop(LONG, {accepted(): still(0, LONG), refused("claims_invalid"): then(still(0, 30), still(4, LONG))}),
        fires={"1h": QUIET, "3h20m": QUIET},
    ),
    Case(
        name="somebody got in at a new instance before its first scrape",
        given={
            **shop(LONG, {accepted(): still(0, LONG), refused("claims_invalid"): counting(0.1, LONG)}),
            accepted(at="new"): then(absent(60), still(1, LONG)),
        },
        fires={"2h30m": QUIET, "3h20m": ["JwtNothingAccepted"]},
    ),
    Case(
        name="one reason spikes for ten minutes",
        given=shop(
            LONG, {refused("token_malformed"): then(counting(1, 119), counting(30, 10, start=120), still(420, LONG))}
        ),
        fires={"2h10m": QUIET, "2h20m": QUIET},
    ),
    Case(
        name="one reason spikes",
        given=shop(LONG, {refused("token_malformed"): then(counting(1, 119), counting(30, LONG, start=120))}),
        fires={"2h10m": QUIET, "2h25m": ["JwtRefusalSpike"]},
    ),
    Case(
        name="a spike in the first hour of a history is not judged, nor one that is the same all the time",
        given=shop(LONG, {refused("token_malformed"): counting(60, LONG)}),
        fires={"40m": QUIET, "2h": QUIET, "3h20m": QUIET},
    ),
]

SIGNALS = [
    Case(
        name="metrics that are gone",
        given={**shop(HOUR), up(): still(1, LONG)},
        fires={"1h10m": QUIET, "1h25m": ["JwtTelemetryAbsent"], "3h20m": ["JwtTelemetryAbsent"]},
    ),
    Case(
        name="an instance without metrics, in a job that has them",
        given={**shop(LONG), up(at="b"): still(1, LONG), 'up{job="other", instance="c"}': still(1, LONG)},
        fires={"14m": QUIET, "16m": ["JwtInstanceNotReporting"], "3h20m": ["JwtInstanceNotReporting"]},
    ),
    Case(
        name="an instance that starts within a quarter of an hour",
        given={
            **shop(LONG),
            up(at="b"): then(absent(60), still(1, LONG)),
            info(at="b"): then(absent(70), still(1, LONG)),
        },
        fires={"1h8m": QUIET, "1h20m": QUIET},
    ),
    Case(
        name="one observer raised once",
        given=shop(LONG, {LOST: then(still(0, 119), still(1, LONG))}),
        fires={"2h4m": QUIET, "2h6m": ["JwtTelemetryDropped"], "3h2m": QUIET},
    ),
    Case(
        name="an observer that raised before the first scrape, and is thinning no fault",
        given={
            **shop(LONG),
            series(names.TELEMETRY_DROPPED, {names.EVENT: "request", names.DROP_REASON: "failed"}, at="new"): then(
                absent(120), still(2, LONG)
            ),
            series(names.TELEMETRY_DROPPED, {names.EVENT: "refused", names.DROP_REASON: "rate_limited"}): counting(
                9, LONG
            ),
        },
        fires={"1h59m": QUIET, "2h10m": ["JwtTelemetryDropped"], "3h5m": QUIET},
    ),
    Case(
        name="remote keys that cannot be fetched any more",
        given=shop(LONG, {FETCHED: then(counting(60, 60), still(3600, LONG))}),
        fires={"2h5m": QUIET, "2h12m": ["JwtKeySetStale"]},
    ),
    Case(
        name="remote keys that are fetched each half hour",
        given=shop(LONG, {FETCHED: " ".join(f"{1800 * count}x29" for count in range(LONG // 30))}),
        fires={"1h": QUIET, "3h20m": QUIET},
    ),
    Case(
        name="more series than the limit, on any metric",
        given={
            **shop(LONG),
            'http_server_active_requests{job="app", instance="a", otel_metric_overflow="true"}': then(
                absent(60), still(1, LONG)
            ),
        },
        fires={"1h14m": QUIET, "1h16m": ["JwtCardinalityOverflow"]},
    ),
]

CASES = [*HEALTHY, *MIGRATION, *UNAVAILABLE, *REFUSALS, *SIGNALS, *EDGES]
