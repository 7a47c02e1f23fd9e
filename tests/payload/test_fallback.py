"""Who fills what is missing, and what the defaults stand in for; over a lookup that answers from memory."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from jwt_middleware import names
from jwt_middleware.counters import Counters
from jwt_middleware.errors import ConfigError, Reason
from jwt_middleware.lookup.batch import Found, LookupFailed
from jwt_middleware.payload.fallback import Filled, Filler
from jwt_middleware.payload.fields import Claim
from jwt_middleware.payload.schema import SessionSchema
from jwt_middleware.protocols import SystemClock
from jwt_middleware.types import FillOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    userId: str
    companyId: str = "none"
    role: str = "user"
    email: Annotated[str, Claim(since=2)] = "Unknown"
    plan: Annotated[str | None, Claim(since=2)] = None
    permissions: Annotated[list[str], Claim(since=2)]
    theme: Annotated[str, Claim(since=2)] = "light"


class Source:
    """A table in memory."""

    resource = None

    def __init__(self, rows: Mapping[str, Any], *claims: str, by: str | None = None, require_row: bool = False) -> None:
        self.rows = rows
        self.claims = frozenset(claims)
        self.by = by
        self.require_row = require_row
        self.asked: list[str] = []

    async def fetch(self, keys: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
        self.asked += keys
        return {key: self.rows[key] for key in keys if key in self.rows}


@dataclass
class Direct:
    """No batching and no cache: each key is fetched at once."""

    fetch: Any
    origin: Literal["database", "cache", "coalesced"] = "database"
    failure: FillOutcome | None = None

    async def get(self, key: str, *, fresh: bool = False) -> Found[Any]:
        if self.failure is not None:
            raise LookupFailed(self.failure, handle="query")
        rows = await self.fetch([key])
        return Found(value=rows.get(key), origin=self.origin, handle="query", sent_at=0.0)


def filler(*sources: Source, counters: Counters | None = None, **direct: Any) -> Filler:
    return Filler(
        SessionSchema(Session, version=2, subject="userId"),
        sources,
        lookup=lambda source, fetch: Direct(fetch, **direct),
        counters=counters or Counters(),
        clock=SystemClock(),
    )


def fill(under_test: Filler, payload: Mapping[str, Any], version: int = 1) -> Filled:
    schema = SessionSchema(Session, version=2, subject="userId")
    return asyncio.run(under_test.fill(schema.upgrade(payload, version)))


FULL_ROW = {"email": "a@b.c", "plan": "pro", "permissions": ["read"]}
OLD = {"userId": "7", "companyId": "c"}


def users(rows: Mapping[str, Any] | None = None, **settings: Any) -> Source:
    return Source({"7": FULL_ROW} if rows is None else rows, "email", "plan", "permissions", **settings)


def by_claim(filled: Filled) -> dict[str, tuple[str, str]]:
    assert filled.fallback is not None
    return {fact.claim: (fact.source, fact.outcome.value) for fact in filled.fallback.claims}


def test_one_call_fills_all_claims_of_a_source() -> None:
    source = users()
    filled = fill(filler(source), OLD)
    assert source.asked == ["7"]
    assert filled.reason is None
    assert {name: filled.claims[name] for name in FULL_ROW} == FULL_ROW
    assert by_claim(filled) == {
        "email": ("database", "resolved"),
        "plan": ("database", "resolved"),
        "permissions": ("database", "resolved"),
        "theme": ("default", "resolved"),
    }


def test_what_the_token_has_is_not_overwritten() -> None:
    filled = fill(filler(users()), {**OLD, "email": "token@x.y"})
    assert filled.claims["email"] == "token@x.y"
    assert "email" not in by_claim(filled)


def test_a_complete_payload_asks_nobody() -> None:
    source = users()
    filled = fill(filler(source), {**OLD, "email": "e", "plan": None, "permissions": [], "theme": "dark"}, version=2)
    assert source.asked == []
    assert filled.fallback is None


def test_an_optional_claim_of_version_one_fires_nothing() -> None:
    filled = fill(
        filler(users()), {"userId": "7", "email": "e", "plan": "p", "permissions": [], "theme": "d"}, version=2
    )
    assert filled.fallback is None
    assert filled.reason is None


def test_a_source_fills_a_claim_of_version_one_too() -> None:
    filled = fill(
        filler(users(), Source({"7": {"role": "admin"}}, "role")), {**OLD, **FULL_ROW, "theme": "d"}, version=2
    )
    assert filled.claims["role"] == "admin"
    assert by_claim(filled) == {"role": ("database", "resolved")}


def test_different_sources_are_asked_at_the_same_time() -> None:
    both = asyncio.Event()
    waiting: list[str] = []

    class Meeting(Source):
        async def fetch(self, keys: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
            waiting.append("here")
            if len(waiting) == 2:
                both.set()
            await both.wait()
            return await super().fetch(keys)

    first = Meeting({"7": {"email": "a@b.c"}}, "email")
    second = Meeting({"7": {"permissions": ["x"]}}, "permissions")
    filled = fill(filler(first, second), OLD)
    assert filled.claims["email"] == "a@b.c"
    assert filled.claims["permissions"] == ["x"]


def test_by_reads_its_key_from_the_payload() -> None:
    companies = Source({"c": {"plan": "pro"}}, "plan", by="companyId")
    assert fill(filler(users_without_plan(), companies), OLD).claims["plan"] == "pro"
    assert companies.asked == ["c"]


def users_without_plan() -> Source:
    return Source({"7": {"email": "a@b.c", "permissions": ["read"]}}, "email", "permissions")


@pytest.mark.parametrize("company", [None, True, 1.5, "", ["c"]])
def test_a_key_that_is_no_key_is_not_found_and_not_asked_for(company: Any) -> None:
    companies = Source({"None": {"plan": "x"}, "True": {"plan": "x"}}, "plan", by="companyId")
    filled = fill(filler(users_without_plan(), companies), {"userId": "7", "companyId": company})
    assert companies.asked == []
    assert by_claim(filled)["plan"] == ("default", "not_found")


def test_a_key_is_never_read_from_a_filled_claim() -> None:
    companies = Source({"c": {"plan": "pro"}}, "plan", by="companyId")
    filling = Source({"7": {"companyId": "c"}}, "companyId")
    filled = fill(filler(users_without_plan(), companies, filling), {"userId": "7"})
    assert companies.asked == []
    assert by_claim(filled)["plan"] == ("default", "not_found")
    assert filled.claims["companyId"] == "c"


@pytest.mark.parametrize(
    ("row", "outcome", "reason"),
    [
        (None, "not_found", Reason.SUBJECT_UNKNOWN),
        ({"email": None, "permissions": None}, "null", Reason.CLAIMS_INCOMPLETE),
        ({}, "null", Reason.CLAIMS_INCOMPLETE),
        ({"email": "", "permissions": None}, "null", Reason.CLAIMS_INCOMPLETE),
        ({"email": 1.5, "permissions": "no list"}, "invalid", Reason.CLAIMS_INCOMPLETE),
    ],
)
def test_without_a_value_the_default_stands_in_and_a_claim_without_one_refuses(
    row: Any, outcome: str, reason: Reason
) -> None:
    filled = fill(filler(users({} if row is None else {"7": row})), OLD)
    assert by_claim(filled)["email"] == ("default", outcome)
    assert by_claim(filled)["permissions"] == ("none", outcome)
    assert "email" not in filled.claims
    assert filled.reason is reason


@pytest.mark.parametrize("outcome", ["shed", "breaker_open", "timeout", "error"])
def test_without_an_answer_the_default_stands_in_and_a_claim_without_one_is_unavailable(outcome: str) -> None:
    filled = fill(filler(users(), failure=FillOutcome(outcome)), OLD)
    assert by_claim(filled)["email"] == ("default", outcome)
    assert by_claim(filled)["permissions"] == ("none", outcome)
    assert filled.reason is Reason.CLAIMS_UNAVAILABLE
    assert filled.fallback is not None
    assert filled.fallback.outcome == outcome
    assert filled.fallback.lookups == ("query",)


def test_null_is_a_value_where_the_type_takes_none() -> None:
    filled = fill(filler(users({"7": {**FULL_ROW, "plan": None}})), OLD)
    assert by_claim(filled)["plan"] == ("database", "resolved")
    assert filled.claims["plan"] is None


def test_require_row_refuses_a_subject_without_row_whatever_the_defaults() -> None:
    source = Source({}, "email", require_row=True)
    permissions = Source({"7": {"permissions": []}}, "permissions")
    filled = fill(filler(source, permissions), OLD)
    assert by_claim(filled)["email"] == ("none", "not_found")
    assert filled.reason is Reason.SUBJECT_UNKNOWN


def test_require_row_says_nothing_about_a_database_that_is_down() -> None:
    source = Source({}, "email", require_row=True)
    filled = fill(
        filler(source, users_permissions(), failure=FillOutcome.ERROR),
        {**OLD, "permissions": []},
    )
    assert by_claim(filled)["email"] == ("default", "error")
    assert filled.reason is None


def users_permissions() -> Source:
    return Source({}, "permissions")


def test_what_cannot_be_mended_by_asking_again_decides_first() -> None:
    class Down(Source):
        async def fetch(self, keys: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
            raise LookupFailed(FillOutcome.ERROR, handle=None)

    gone = Source({}, "email", require_row=True)
    filled = fill(filler(gone, Down({}, "permissions")), OLD)
    assert filled.reason is Reason.SUBJECT_UNKNOWN
    assert filled.fallback is not None
    assert filled.fallback.outcome is FillOutcome.ERROR


def test_a_claim_nobody_can_fill_refuses_before_anybody_is_asked() -> None:
    @dataclass
    class Bare:
        userId: str
        must: str
        email: Annotated[str, Claim(since=2)] = "Unknown"

    source = Source({"7": {"email": "e"}}, "email")
    schema = SessionSchema(Bare, version=2, subject="userId")
    under_test = Filler(
        schema, [source], lookup=lambda source, fetch: Direct(fetch), counters=Counters(), clock=SystemClock()
    )
    filled = asyncio.run(under_test.fill(schema.upgrade({"userId": "7"}, 1)))
    assert (filled.reason, filled.claim) == (Reason.PAYLOAD_INVALID, "must")
    assert filled.fallback is None
    assert source.asked == []


def counts(counters: Counters) -> dict[tuple[str, tuple[str, ...]], int]:
    return {
        (metric.name, tuple(value for _, value in attributes)): count for metric, attributes, count in counters.series()
    }


def test_counts_each_claim_and_each_request_once() -> None:
    counters = Counters()
    under_test = filler(users(), counters=counters, origin="cache")
    before = counts(counters)
    fill(under_test, OLD)
    fill(under_test, OLD)
    after = counts(counters)
    raised = {key[1]: after[key] - before[key] for key in after if after[key] != before[key]}
    assert raised == {
        ("email", "resolved", "cache"): 2,
        ("plan", "resolved", "cache"): 2,
        ("permissions", "resolved", "cache"): 2,
        ("theme", "resolved", "default"): 2,
        ("resolved", "1"): 2,
    }


def test_every_series_is_zero_from_the_start() -> None:
    counters = Counters()
    filler(users(require_row=True), counters=counters)
    claims = [attributes for metric, attributes, _ in counters.series() if metric is names.FALLBACK_CLAIMS]
    of_email = {(dict(a)[names.SOURCE], dict(a)[names.OUTCOME]) for a in claims if dict(a)[names.CLAIM] == "email"}
    assert len(of_email) == 3 + 7
    assert ("none", "not_found") in of_email
    assert ("default", "not_found") not in of_email
    fallbacks = [attributes for metric, attributes, _ in counters.series() if metric is names.FALLBACKS]
    assert len(fallbacks) == 3 * 8


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([Source({}, "email"), Source({}, "email")], "two sources know the claim 'email'"),
        ([Source({}, "email", by="company")], "asked by='company'"),
        ([Source({}, "email", by="email")], "asked by='email'"),
        ([Source({}, "mail")], "knows 'mail'"),
    ],
)
def test_sources_that_contradict_are_found_at_construction(sources: list[Source], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        filler(*sources)


def test_a_row_that_is_no_row_fails_the_batch() -> None:
    with pytest.raises(AttributeError):
        fill(filler(users({"7": "no row"})), OLD)
