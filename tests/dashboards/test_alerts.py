"""The alerts, each in promtool: they fire in the expected situations, and no others fire."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dashboards.loading import rules
from dashboards.prometheus import RULES
from jwt_middleware import names
from tests.support.promtool import failures, promtool, series
from tests.support.shop import (
    HOUR,
    LONG,
    WEEK,
    absent,
    accepted,
    breaker,
    counting,
    dropped,
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

CONTRACT = {
    "JwtOldPayloadStillMinted": ("ticket", "5m"),
    "JwtOldPayloadAfterSunset": ("ticket", "5m"),
    "JwtCurrentPayloadLacksClaim": ("ticket", "5m"),
    "JwtAuthenticationUnavailable": ("page", "2m"),
    "JwtInstanceUnavailable": ("ticket", "5m"),
    "JwtLookupsFailing": ("ticket", "5m"),
    "JwtBreakerOpen": ("ticket", "5m"),
    "JwtRevocationViewStale": ("page", "10m"),
    "JwtSignedTokensRefused": ("page", "5m"),
    "JwtKeysRefuseUsers": ("page", "5m"),
    "JwtNothingAccepted": ("ticket", "10m"),
    "JwtRefusalSpike": ("ticket", "15m"),
    "JwtTelemetryAbsent": ("ticket", "15m"),
    "JwtInstanceNotReporting": ("ticket", "15m"),
    "JwtTelemetryDropped": ("ticket", "5m"),
    "JwtKeySetStale": ("ticket", "10m"),
    "JwtCardinalityOverflow": ("ticket", "15m"),
}
"""Operators route and silence alerts by these names."""
MINTED = of_version(names.PAYLOAD_LAST_MINTED, 1)
STALE = series(names.REVOCATION_STALE)
BREAKER = breaker("claims")
LOST = dropped("request", "failed")
FETCHED = series(names.JWKS_LAST_SUCCESS)
AFTER_SUNSET = {of_version(names.PAYLOAD_SUPERSEDED, 1): still(-WEEK), MINTED: still(-2 * WEEK)}
"""By the plan, the last token expired at the epoch."""


@pytest.mark.server
def test_promtool_accepts_the_rules() -> None:
    assert promtool("check", "rules", "--lint-fatal", str(RULES)) == ""


def test_every_alert_has_its_name_severity_and_duration() -> None:
    assert {alert["alert"]: (alert["labels"]["severity"], alert["for"]) for alert in rules("alert")} == CONTRACT


def test_every_alert_has_its_texts_and_a_link() -> None:
    for alert in rules("alert"):
        annotations = alert["annotations"]
        assert isinstance(annotations, dict)
        assert set(annotations) == {"summary", "description", "runbook_url"}
        assert all(annotations.values())


def test_every_alert_fires_in_some_case() -> None:
    source = Path(__file__).read_text()
    assert [alert for alert in CONTRACT if not re.search(rf"\d[hm][ \w]* {alert.removeprefix('Jwt')}\b", source)] == []


def reset_at(minute: int, rate: float) -> str:
    """A counter whose process restarts."""
    return then(counting(rate, minute - 1), counting(rate, LONG - minute))


@pytest.mark.server
def test_a_healthy_app_raises_no_alert(tmp_path: Path) -> None:
    table = {
        "a healthy app": ({}, "5m; 1h; 3h20m"),
        "a healthy app with one request in ten minutes": ({accepted(): every_ten_minutes()}, "1h; 3h; 3h15m"),
        "a restart, that sets every counter to zero": (
            {
                accepted(): reset_at(120, 60),
                lookups("ok"): reset_at(120, 2),
                refused("token_missing"): reset_at(120, 30),
                MINTED: then(still(3000, 119), absent(30), still(3000)),
            },
            "1h59m; 2h5m; 3h",
        ),
    }
    assert failures(table, tmp_path, base=shop()) == {}


@pytest.mark.server
def test_alerts_of_a_migration(tmp_path: Path) -> None:
    table = {
        "an old payload minted after the change, until a day after the last mint": (
            {
                of_version(names.PAYLOAD_SUPERSEDED, 1): still(-30 * 3600),
                MINTED: then(still(-40 * 3600, 29), still(-23 * 3600)),
            },
            "34m; 36m OldPayloadStillMinted; 59m OldPayloadStillMinted; 1h1m",
        ),
        "an old payload minted in the rollout, before the change": (
            {MINTED: then(still(3000, 55), still(3599))},
            "1h; 3h20m",
        ),
        "an issuer that keeps minting the old payload once in ten minutes": (
            {MINTED: " ".join(f"{600 * count}x9" for count in range(LONG // 10))},
            "1h; 1h20m OldPayloadStillMinted; 3h15m OldPayloadStillMinted",
        ),
        "a plan that slips": (
            {
                MINTED: then(still(3000, 119), still(7200)),
                of_version(names.PAYLOAD_SUPERSEDED, 1): then(still(3600, 150), still(90000)),
            },
            "2h10m OldPayloadStillMinted; 2h35m",
        ),
        "one request with an old payload after its sunset, for an hour": (
            {**AFTER_SUNSET, accepted(1, minted="before_change"): still(1, after=119)},
            "2h4m; 2h6m OldPayloadAfterSunset; 3h2m",
        ),
        "one old request in ten minutes after the sunset": (
            {**AFTER_SUNSET, accepted(1, minted="before_change"): every_ten_minutes()},
            "55m; 2h OldPayloadAfterSunset; 3h15m OldPayloadAfterSunset",
        ),
        "an old request at a new instance, before its first scrape": (
            {**AFTER_SUNSET, accepted(1, at="new", minted="before_change"): still(1, born=120)},
            "2h; 2h10m OldPayloadAfterSunset; 3h5m",
        ),
        "old requests before the sunset": (
            {accepted(1, minted="before_change"): counting(20), fallbacks(1): counting(20)},
            "1h; 3h20m",
        ),
        "today's payload lacks a claim": (
            {fallbacks(2): still(1, after=119)},
            "2h4m; 2h6m CurrentPayloadLacksClaim; 3h2m",
        ),
        "a rolling deploy of one instance's name: the old code's payload was that of its time": (
            {
                info(): still(1, born=120),
                info(reads=1, mints=1): still(1, 119) + " stale",
                fallbacks(1): counting(10, after=120),
            },
            "2h; 2h10m; 3h; 3h20m",
        ),
        "a rollback: the fallbacks of the code before are no fault of the code after": (
            {
                info(): still(1, 119) + " stale",
                info(reads=1, mints=1): still(1, born=120),
                fallbacks(1): then(counting(10, 120), absent(LONG)),
            },
            "1h59m; 2h10m; 3h; 3h20m",
        ),
    }
    assert failures(table, tmp_path, base=shop()) == {}


@pytest.mark.server
def test_alerts_of_availability(tmp_path: Path) -> None:
    table = {
        "every twentieth request is answered with 503": (
            {refused("claims_unavailable", version="1"): counting(3, after=119)},
            "2h1m; 2h30m AuthenticationUnavailable; 3h20m AuthenticationUnavailable",
        ),
        "a short burst of 503 does not touch the hour": (
            {refused("sessions_unavailable"): then(still(0, 119), "10 20 30", still(30))},
            "2h3m; 2h6m; 2h30m",
        ),
        "503 for one request in ten minutes is too few to tell": (
            {accepted(): every_ten_minutes(), refused("claims_unavailable", version="1"): every_ten_minutes()},
            "2h; 3h20m",
        ),
        "503 that ended before a restart": (
            {
                accepted(): reset_at(120, 60),
                refused("claims_unavailable"): then(counting(30, 30), still(900, 88), still(0)),
            },
            "25m AuthenticationUnavailable InstanceUnavailable; 1h; 2h30m",
        ),
        "every tenth query fails": (
            {lookups("error"): counting(0.25, after=119)},
            "2h2m; 2h40m LookupsFailing; 3h20m LookupsFailing",
        ),
        "two failed queries are too few to tell, time-outs or not": (
            {lookups("ok"): still(0), lookups("error"): still(1, after=119), lookups("timeout"): still(1, after=125)},
            "2h10m; 2h20m",
        ),
        "all session queries of a deploy's new series time out": (
            {
                lookups("ok", at="new", lookup="sessions"): still(0, born=120),
                lookups("timeout", at="new", lookup="sessions"): counting(1, born=120),
            },
            "2h; 2h30m LookupsFailing",
        ),
        "a breaker that opens for four minutes": ({BREAKER: then(still(0, 119), still(1, 3), still(0))}, "2h3m; 2h6m"),
        "sessions pass unchecked for a quarter of an hour": (
            {STALE: then(still(0, 119), counting(4, 15), still(60))},
            "2h9m; 2h12m RevocationViewStale; 2h30m",
        ),
        "sessions pass unchecked once in ten minutes": ({STALE: every_ten_minutes()}, "2h RevocationViewStale"),
        "one session passed unchecked": ({STALE: still(1, after=119)}, "2h5m; 2h11m"),
        "one session passed unchecked at a new instance before its first scrape": (
            {series(names.REVOCATION_STALE, at="new"): still(1, born=121)},
            "2h5m; 2h11m; 2h13m; 2h30m",
        ),
    }
    assert failures(table, tmp_path, base=shop()) == {}


@pytest.mark.server
def test_alerts_of_refusals(tmp_path: Path) -> None:
    table = {
        "signed refusals that are the same every hour": ({refused("session_unknown"): counting(6)}, "2h; 3h20m"),
        "a release makes tokens with good signatures invalid": (
            {refused("claims_invalid"): counting(12, after=119)},
            "2h4m; 2h10m SignedTokensRefused; 2h40m SignedTokensRefused RefusalSpike",
        ),
        "tokens of the code before, and no line of also_accept admits them": (
            {refused("token_foreign"): counting(12, after=119)},
            "2h4m; 2h10m SignedTokensRefused; 2h40m SignedTokensRefused RefusalSpike",
        ),
        "an older payload is refused while its tokens are alive": (
            {refused("payload_too_old", version="1"): counting(12, after=119)},
            "2h4m; 2h10m SignedTokensRefused; 2h40m SignedTokensRefused RefusalSpike",
        ),
        "signed refusals that are few": (
            {accepted(): counting(3), refused("claims_invalid"): counting(2, after=119)},
            "2h10m; 3h",
        ),
        "one signed refusal in ten minutes, of one accepted request in ten minutes": (
            {accepted(): every_ten_minutes(), refused("claims_invalid"): every_ten_minutes()},
            "2h; 3h20m",
        ),
        "expired tokens and revoked sessions are no fault": (
            {
                refused("token_expired", version="2"): counting(20),
                refused("session_revoked", version="2"): counting(20),
            },
            "30m; 3h",
        ),
        "a bot with forged tokens": (
            {refused("signature_invalid"): counting(600, after=119)},
            "2h10m; 2h25m RefusalSpike",
        ),
        "a bot with forged tokens in a rolling deploy": (
            {
                refused("signature_invalid"): counting(300, after=119),
                accepted(): counting(60, 130),
                accepted(at="new"): counting(60, born=128),
                refused("signature_invalid", at="new"): counting(300, born=128),
            },
            "2h10m; 2h30m RefusalSpike",
        ),
        "a bot that begins without other traffic": (
            {accepted(): still(0), refused("signature_invalid"): counting(600, after=150)},
            "2h45m NothingAccepted; 3h NothingAccepted RefusalSpike",
        ),
        "a key removed too early": (
            {
                accepted(): then(counting(60, 119), counting(15, start=7140)),
                refused("signature_invalid"): counting(45, after=119),
            },
            "2h4m; 2h15m KeysRefuseUsers; 2h30m KeysRefuseUsers RefusalSpike",
        ),
        "users go home while a few tokens are forged": (
            {accepted(): then(counting(60, 119), counting(5, start=7140)), refused("signature_invalid"): counting(1)},
            "2h15m; 3h20m",
        ),
        "no request is accepted, of six an hour": (
            {accepted(): still(0), refused("claims_invalid"): every_ten_minutes()},
            "30m; 2h30m NothingAccepted",
        ),
        "no requests": ({accepted(): still(0), refused("claims_invalid"): still(4, after=30)}, "1h; 3h20m"),
        "one request accepted at a new instance before its first scrape": (
            {accepted(): still(0), refused("claims_invalid"): counting(0.1), accepted(at="new"): still(1, born=60)},
            "2h30m; 3h20m NothingAccepted",
        ),
        "one reason spikes for ten minutes": (
            {refused("token_malformed"): then(counting(1, 119), counting(30, 10, start=120), still(420))},
            "2h10m; 2h20m",
        ),
        "one reason spikes": (
            {refused("token_malformed"): then(counting(1, 119), counting(30, start=120))},
            "2h10m; 2h25m RefusalSpike",
        ),
        "a spike in the first hour of a history is not judged, nor one that is the same all the time": (
            {refused("token_malformed"): counting(60)},
            "40m; 2h; 3h20m",
        ),
    }
    assert failures(table, tmp_path, base=shop()) == {}


@pytest.mark.server
def test_alerts_of_the_metrics_themselves(tmp_path: Path) -> None:
    table = {
        "an instance without metrics, in a job that has them": (
            {up(at="b"): still(1), 'up{job="other", instance="c"}': still(1)},
            "14m; 16m InstanceNotReporting; 3h20m InstanceNotReporting",
        ),
        "an instance that starts within a quarter of an hour": (
            {up(at="b"): still(1, born=60), info(at="b"): still(1, born=70)},
            "1h8m; 1h20m",
        ),
        "one observer raised once": ({LOST: still(1, after=119)}, "2h4m; 2h6m TelemetryDropped; 3h2m"),
        "an observer that raised before the first scrape, and is thinning no fault": (
            {
                dropped("request", "failed", at="new"): still(2, born=120),
                dropped("refused", "rate_limited"): counting(9),
            },
            "1h59m; 2h10m TelemetryDropped; 3h5m",
        ),
        "remote keys that cannot be fetched any more": (
            {FETCHED: then(counting(60, 60), still(3600))},
            "2h5m; 2h12m KeySetStale",
        ),
        "remote keys that are fetched each half hour": (
            {FETCHED: " ".join(f"{1800 * count}x29" for count in range(LONG // 30))},
            "1h; 3h20m",
        ),
        "more series than the limit, on any metric": (
            {'http_server_active_requests{job="app", instance="a", otel_metric_overflow="true"}': still(1, born=60)},
            "1h14m; 1h16m CardinalityOverflow",
        ),
    }
    assert failures(table, tmp_path, base=shop()) == {}


@pytest.mark.server
def test_alerts_in_a_fleet_and_in_deployments(tmp_path: Path) -> None:
    table = {
        "a scrape gap of five minutes": (
            {name: then(value.replace(f"x{LONG}", "x119"), absent(10), value) for name, value in shop().items()},
            "2h5m; 2h10m; 2h30m; 3h20m",
        ),
        "a rolling deploy: old series end, new ones begin": (
            {
                **{name: value.replace(f"x{LONG}", "x120") for name, value in shop(at="old").items()},
                **{name: then(absent(115), value) for name, value in shop(at="new").items()},
            },
            "1h55m; 2h; 2h10m; 3h10m; 3h20m",
        ),
        "a healthy fleet": (fleet(5, 2 * HOUR), "1h; 2h"),
        "one bad instance of many mints the old payload, and restarts": (
            {
                **fleet(5, LONG),
                of_version(names.PAYLOAD_LAST_MINTED, 1, at="i3"): then(still(3000, 119), still(7200, 20), absent(60)),
            },
            "2h; 2h10m OldPayloadStillMinted; 3h OldPayloadStillMinted; 3h15m OldPayloadStillMinted",
        ),
        "old requests that were counted before the sunset are no news after a scrape gap": (
            {
                **{name: then(still(0, 60), absent(90), value) for name, value in shop(AFTER_SUNSET).items()},
                of_version(names.PAYLOAD_SUPERSEDED, 1): then(still(-WEEK, 60), absent(90), still(-WEEK)),
                MINTED: then(still(-2 * WEEK, 60), absent(90), still(-2 * WEEK)),
                info(): then(still(1, 60), absent(90), still(1)),
                up(): then(still(1, 60), absent(90), still(1)),
                series(names.TOKEN_MAX_LIFETIME): then(still(WEEK, 60), absent(90), still(WEEK)),
                accepted(1, minted="before_change"): then(still(500, 60), absent(90), still(500)),
                accepted(): then(counting(60, 60), absent(90), counting(60, start=9000)),
            },
            "2h TelemetryAbsent; 2h40m; 3h; 3h20m",
        ),
        "today's payload lacks a claim at one of five instances, once in ten minutes": (
            {**fleet(5, LONG), fallbacks(2, at="i4"): every_ten_minutes()},
            "3h CurrentPayloadLacksClaim",
        ),
        "one bad instance of twenty is a page and a ticket": (
            {
                **fleet(20, 2 * HOUR),
                accepted(at="i4"): then(counting(60, 59), still(3540, HOUR)),
                refused("sessions_unavailable", at="i4"): counting(60, HOUR, after=59),
            },
            "59m; 1h40m AuthenticationUnavailable InstanceUnavailable",
        ),
        "one bad instance of a hundred is a ticket": (
            {
                **{accepted(at=f"i{number}"): counting(60, 2 * HOUR) for number in range(100)},
                accepted(at="i4"): then(counting(60, 59), still(3540, HOUR)),
                refused("sessions_unavailable", at="i4"): counting(60, HOUR, after=59),
            },
            "59m; 1h40m InstanceUnavailable",
        ),
        "a breaker that stays open, at one instance of five": (
            {**fleet(5, 2 * HOUR), breaker("claims", at="i2"): still(1, HOUR, after=59)},
            "1h4m; 1h6m BreakerOpen; 2h BreakerOpen",
        ),
        "a key removed too early at one instance of five is not a page": (
            {
                **fleet(5, 2 * HOUR),
                accepted(at="i1"): then(counting(60, 79), still(4740, HOUR)),
                refused("key_unknown", at="i1"): counting(60, HOUR, after=79),
            },
            "1h30m; 2h RefusalSpike",
        ),
        "metrics that are gone": (
            {**shop(minutes=HOUR), up(): still(1)},
            "1h10m; 1h25m TelemetryAbsent; 3h20m TelemetryAbsent",
        ),
    }
    assert failures(table, tmp_path) == {}
