"""The names of metrics, attributes, log events and spans: code, tests, dashboards and documentation share them.

They are part of the public API, because dashboards and alerts depend on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

SCOPE: Final = "jwt_middleware"
"""OpenTelemetry's instrumentation scope, and the prefix of every name."""
Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One instrument: its full name, kind, unit, the keys of its attributes, and what it counts or shows."""

    name: str
    kind: Kind
    unit: str
    attributes: tuple[str, ...]
    description: str


RESULT: Final = f"{SCOPE}.result"
ERROR_TYPE: Final = "error.type"
PAYLOAD_VERSION: Final = f"{SCOPE}.payload.version"
PAYLOAD_MINTS: Final = f"{SCOPE}.payload.mints"
MINTED: Final = f"{SCOPE}.minted"
OUTCOME: Final = f"{SCOPE}.outcome"
CLAIM: Final = f"{SCOPE}.claim"
SOURCE: Final = f"{SCOPE}.source"
TRIGGER: Final = f"{SCOPE}.trigger"
ENVELOPE: Final = f"{SCOPE}.envelope"
RULE: Final = f"{SCOPE}.rule"
KEY_ID: Final = f"{SCOPE}.key.id"
LOOKUP: Final = f"{SCOPE}.lookup"
REVOCATION_SCOPE: Final = f"{SCOPE}.scope"
CACHE: Final = f"{SCOPE}.cache"
EVENT: Final = f"{SCOPE}.event"
DROP_REASON: Final = f"{SCOPE}.reason"
CLAIMS: Final = f"{SCOPE}.claims"
SOURCES: Final = f"{SCOPE}.sources"
PAYLOAD_EXPECTED: Final = f"{SCOPE}.payload.expected"
TOKEN_AGE: Final = f"{SCOPE}.token.age"
LOOKUP_WAITERS: Final = f"{SCOPE}.lookup.waiters"
LOOKUP_KEY_COUNT: Final = f"{SCOPE}.lookup.keys"


def _metric(name: str, kind: Kind, unit: str, attributes: tuple[str, ...], description: str) -> Metric:
    return Metric(f"{SCOPE}.{name}", kind, unit, attributes, description)


REQUESTS: Final = _metric(
    "requests", "counter", "{request}", (RESULT, ERROR_TYPE, PAYLOAD_VERSION, MINTED), "Requests by their result."
)
FALLBACKS: Final = _metric(
    "fallbacks",
    "counter",
    "{fallback}",
    (PAYLOAD_VERSION, OUTCOME),
    "Requests whose token lacked a claim, by the worst outcome of its claims.",
)
FALLBACK_CLAIMS: Final = _metric(
    "fallback.claims",
    "counter",
    "{claim}",
    (CLAIM, SOURCE, OUTCOME),
    "Missing claims by the source that filled them and by outcome.",
)
TOKENS_ISSUED: Final = _metric(
    "tokens.issued",
    "counter",
    "{token}",
    (PAYLOAD_VERSION, TRIGGER),
    "Tokens minted here, by payload version and trigger.",
)
ADOPTIONS: Final = _metric(
    "adoptions",
    "counter",
    "{request}",
    (ENVELOPE, RULE),
    "Requests accepted only by a line of also_accept, by the keyword that today's settings refuse.",
)
ENVELOPE_LAST_USED: Final = _metric(
    "envelope.last_used_timestamp", "gauge", "s", (ENVELOPE,), "When a line of also_accept last admitted a token."
)
ENVELOPE_END: Final = _metric(
    "envelope.end_timestamp", "gauge", "s", (ENVELOPE,), "When a line of also_accept ends by itself."
)
KEY_LAST_USED: Final = _metric(
    "key.last_used_timestamp", "gauge", "s", (KEY_ID,), "When a key last verified a token, after a cache miss."
)
KEY_END: Final = _metric("key.end_timestamp", "gauge", "s", (KEY_ID,), "When a key stops verifying by itself.")
VERIFICATIONS: Final = _metric(
    "verifications", "counter", "{token}", (KEY_ID,), "Signatures verified after a cache miss, by key."
)
LOOKUPS: Final = _metric(
    "lookups", "counter", "{lookup}", (LOOKUP, OUTCOME), "Queries for missing claims or session statuses, by outcome."
)
LOOKUP_KEYS: Final = _metric("lookup.keys", "counter", "{key}", (LOOKUP,), "Keys that these queries asked for.")
LOOKUP_DURATION: Final = _metric("lookup.duration", "histogram", "s", (LOOKUP,), "Duration of one query.")
DURATION_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
"""Seconds; those of ``db.client.operation.duration`` (OpenTelemetry semantic conventions)."""
LOOKUP_WAITING: Final = _metric("lookup.waiting", "gauge", "{request}", (LOOKUP,), "Requests waiting for a query now.")
LOOKUP_BREAKER_OPEN: Final = _metric(
    "lookup.breaker.open", "gauge", "", (LOOKUP,), "1 while the circuit breaker blocks queries to a failing database."
)
REVOCATION_STALE: Final = _metric(
    "revocation.stale", "counter", "{request}", (), "Requests accepted on a session status older than max_staleness."
)
SESSIONS_REVOCATIONS: Final = _metric(
    "sessions.revocations", "counter", "{session}", (REVOCATION_SCOPE,), "Revocations requested here, by scope."
)
PAYLOAD_SUPERSEDED: Final = _metric(
    "payload.superseded_timestamp",
    "gauge",
    "s",
    (PAYLOAD_VERSION,),
    "From this moment on no issuer may mint this older payload.",
)
PAYLOAD_LAST_MINTED: Final = _metric(
    "payload.last_minted_timestamp",
    "gauge",
    "s",
    (PAYLOAD_VERSION,),
    "Newest iat of this payload, minted or verified here.",
)
PAYLOAD_LAST_EXPIRY: Final = _metric(
    "payload.last_expiry_timestamp",
    "gauge",
    "s",
    (PAYLOAD_VERSION,),
    "Latest exp of this payload, minted or verified here.",
)
TOKEN_MAX_LIFETIME: Final = _metric("token.max_lifetime", "gauge", "s", (), "Longest accepted token lifetime.")
PAYLOAD_INFO: Final = _metric(
    "payload.info",
    "gauge",
    "",
    (PAYLOAD_VERSION, PAYLOAD_MINTS),
    "Always 1: the payload versions that this process reads and mints.",
)
CACHE_ENTRIES: Final = _metric("cache.entries", "gauge", "{entry}", (CACHE,), "Entries of each cache.")
TELEMETRY_DROPPED: Final = _metric(
    "telemetry.dropped", "counter", "{event}", (EVENT, DROP_REASON), "Lost signals by event and reason."
)
JWKS_FETCHES: Final = _metric(
    "jwks.fetches", "counter", "{fetch}", (OUTCOME,), "Fetches of the remote key set, by their outcome."
)
JWKS_LAST_SUCCESS: Final = _metric(
    "jwks.last_success_timestamp", "gauge", "s", (), "When the fetch of the current key set began."
)
METRICS: Final = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""Every metric above; telemetry creates an instrument for each."""
EVENT_FALLBACK: Final = f"{SCOPE}.fallback"
EVENT_REFUSED: Final = f"{SCOPE}.refused"
EVENT_NOT_ADMITTED: Final = f"{SCOPE}.not_admitted"
EVENT_LOOKUP_FAILED: Final = f"{SCOPE}.lookup_failed"
EVENT_REVOCATION_STALE: Final = f"{SCOPE}.revocation_stale"
EVENT_CONFIGURED: Final = f"{SCOPE}.configured"
SPAN_FALLBACK: Final = f"{SCOPE}.fallback"
SPAN_LOOKUP: Final = f"{SCOPE}.lookup"
PSEUDONYM: Final = "enduser.pseudo.id"
SCOPE_KEY: Final = "jwt_middleware"
"""The key of the ASGI scope under which a nested middleware finds which authority decided, and what."""
