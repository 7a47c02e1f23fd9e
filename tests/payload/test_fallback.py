"""How missing claims are filled, and when the defaults are taken, over a lookup without batches and cache."""

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
from jwt_middleware.payload.fallback import Filled, Filler, converted
from jwt_middleware.payload.fields import Claim
from jwt_middleware.payload.schema import SessionSchema
from jwt_middleware.types import FillOutcome
from tests.support.lookups import runtime


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
    """A table in memory that records the keys of its queries."""

    resource = None

    def __init__(self, rows: Mapping[str, Any], *claims: str, by: str | None = None, require_row: bool = False) -> None:
        self.rows, self.claims, self.by, self.require_row = rows, frozenset(claims), by, require_row
        self.keys: list[str] = []

    async def fetch(self, keys: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
        self.keys += keys
        return {key: self.rows[key] for key in keys if key in self.rows}


@dataclass
class Direct:
    """Fetches each key at once, or fails."""

    fetch: Any
    origin: Literal["database", "cache", "coalesced"] = "database"
    failure: FillOutcome | None = None

    async def get(self, key: str, *, fresh: bool = False) -> Found[Any]:
        if self.failure is not None:
            raise LookupFailed(self.failure, handle="query")
        return Found(value=(await self.fetch([key])).get(key), origin=self.origin, handle="query")


SCHEMA: SessionSchema[Any] = SessionSchema(Session, version=2, subject="userId")
FULL_ROW = {"email": "a@b.c", "plan": "pro", "permissions": ["read"]}
OLD = {"userId": "7", "companyId": "c"}


def filler(*sources: Source, schema: SessionSchema[Any] = SCHEMA, counters: Any = None, **direct: Any) -> Filler:
    pairs = [(source, Direct(converted(schema, source), **direct)) for source in sources]
    return Filler(schema, pairs, runtime=runtime(counters=counters or Counters()))


async def fill(under_test: Filler, payload: Mapping[str, Any], version: int = 1) -> Filled:
    return await under_test.fill(SCHEMA.upgrade(payload, version))


def users(rows: Mapping[str, Any] = {"7": FULL_ROW}, *claims: str, **settings: Any) -> Source:
    return Source(rows, *(claims or ("email", "plan", "permissions")), **settings)


def users_without_plan() -> Source:
    return users({"7": FULL_ROW}, "email", "permissions")


def by_claim(filled: Filled) -> dict[str, tuple[str, str]]:
    assert filled.fallback is not None
    return {fact.claim: (fact.source, fact.outcome.value) for fact in filled.fallback.claims}


class TestQueries:
    async def test_one_query_fills_all_claims_of_a_source(self) -> None:
        source = users()
        filled = await fill(filler(source), OLD)
        assert source.keys == ["7"]
        assert filled.reason is None
        assert {name: filled.claims[name] for name in FULL_ROW} == FULL_ROW
        assert by_claim(filled) == {
            "email": ("database", "resolved"),
            "plan": ("database", "resolved"),
            "permissions": ("database", "resolved"),
            "theme": ("default", "resolved"),
        }

    async def test_a_claim_of_the_token_is_not_overwritten(self) -> None:
        filled = await fill(filler(users()), {**OLD, "email": "token@x.y"})
        assert filled.claims["email"] == "token@x.y"
        assert "email" not in by_claim(filled)

    async def test_a_complete_payload_needs_no_query(self) -> None:
        source = users()
        complete: dict[str, Any] = {**OLD, "email": "e", "plan": None, "permissions": [], "theme": "dark"}
        assert (await fill(filler(source), complete, version=2)).fallback is None
        assert source.keys == []

    async def test_an_optional_claim_of_version_one_fires_nothing(self) -> None:
        payload = {"userId": "7", "email": "e", "plan": "p", "permissions": [], "theme": "d"}
        filled = await fill(filler(users()), payload, version=2)
        assert (filled.fallback, filled.reason) == (None, None)

    async def test_a_source_fills_a_claim_of_version_one_too(self) -> None:
        under_test = filler(users(), Source({"7": {"role": "admin"}}, "role"))
        filled = await fill(under_test, {**OLD, **FULL_ROW, "theme": "d"}, version=2)
        assert filled.claims["role"] == "admin"
        assert by_claim(filled) == {"role": ("database", "resolved")}

    async def test_several_sources_are_queried_at_the_same_time(self) -> None:
        meeting = asyncio.Barrier(2)

        class Meeting(Source):
            async def fetch(self, keys: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
                await meeting.wait()
                return await super().fetch(keys)

        first = Meeting({"7": {"email": "a@b.c"}}, "email")
        second = Meeting({"7": {"permissions": ["x"]}}, "permissions")
        filled = await fill(filler(first, second), OLD)
        assert (filled.claims["email"], filled.claims["permissions"]) == ("a@b.c", ["x"])


class TestKeys:
    async def test_by_reads_the_key_from_the_payload(self) -> None:
        companies = Source({"c": {"plan": "pro"}}, "plan", by="companyId")
        assert (await fill(filler(users_without_plan(), companies), OLD)).claims["plan"] == "pro"
        assert companies.keys == ["c"]

    @pytest.mark.parametrize("company", [None, True, 1.5, "", ["c"]])
    async def test_an_invalid_key_is_not_found_and_not_queried(self, company: Any) -> None:
        companies = Source({"None": {"plan": "x"}, "True": {"plan": "x"}}, "plan", by="companyId")
        filled = await fill(filler(users_without_plan(), companies), {"userId": "7", "companyId": company})
        assert companies.keys == []
        assert by_claim(filled)["plan"] == ("default", "not_found")

    async def test_a_key_is_never_read_from_a_filled_claim(self) -> None:
        companies = Source({"c": {"plan": "pro"}}, "plan", by="companyId")
        filling = Source({"7": {"companyId": "c"}}, "companyId")
        filled = await fill(filler(users_without_plan(), companies, filling), {"userId": "7"})
        assert companies.keys == []
        assert by_claim(filled)["plan"] == ("default", "not_found")
        assert filled.claims["companyId"] == "c"


class TestResults:
    async def test_without_a_value_a_claim_takes_its_default_or_refuses(self) -> None:
        cases: list[tuple[dict[str, Any], str, Reason]] = [
            ({}, "not_found", Reason.SUBJECT_UNKNOWN),
            ({"7": {"email": None, "permissions": None}}, "null", Reason.CLAIMS_INCOMPLETE),
            ({"7": {}}, "null", Reason.CLAIMS_INCOMPLETE),
            ({"7": {"email": "", "permissions": None}}, "null", Reason.CLAIMS_INCOMPLETE),
            ({"7": {"email": 1.5, "permissions": "no list"}}, "invalid", Reason.CLAIMS_INCOMPLETE),
        ]
        for rows, outcome, reason in cases:
            filled = await fill(filler(users(rows)), OLD)
            assert by_claim(filled)["email"] == ("default", outcome), rows
            assert by_claim(filled)["permissions"] == ("none", outcome), rows
            assert "email" not in filled.claims
            assert filled.reason is reason, rows

    @pytest.mark.parametrize("outcome", ["shed", "breaker_open", "timeout", "error"])
    async def test_without_a_result_a_claim_takes_its_default_or_is_unavailable(self, outcome: str) -> None:
        filled = await fill(filler(users(), failure=FillOutcome(outcome)), OLD)
        assert by_claim(filled)["email"] == ("default", outcome)
        assert by_claim(filled)["permissions"] == ("none", outcome)
        assert filled.reason is Reason.CLAIMS_UNAVAILABLE
        assert filled.fallback is not None
        assert filled.fallback.outcome == outcome
        assert filled.fallback.lookups == ("query",)

    async def test_null_is_a_value_if_the_type_accepts_none(self) -> None:
        filled = await fill(filler(users({"7": {**FULL_ROW, "plan": None}})), OLD)
        assert by_claim(filled)["plan"] == ("database", "resolved")
        assert filled.claims["plan"] is None

    async def test_require_row_refuses_a_missing_row_in_spite_of_defaults(self) -> None:
        source = Source({}, "email", require_row=True)
        filled = await fill(filler(source, Source({"7": {"permissions": []}}, "permissions")), OLD)
        assert by_claim(filled)["email"] == ("none", "not_found")
        assert filled.reason is Reason.SUBJECT_UNKNOWN

    async def test_require_row_does_not_refuse_while_a_database_is_down(self) -> None:
        under_test = filler(Source({}, "email", require_row=True), Source({}, "permissions"), failure=FillOutcome.ERROR)
        filled = await fill(under_test, {**OLD, "permissions": []})
        assert by_claim(filled)["email"] == ("default", "error")
        assert filled.reason is None

    async def test_a_reason_that_no_other_attempt_changes_comes_first(self) -> None:
        class Down(Source):
            async def fetch(self, keys: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
                raise LookupFailed(FillOutcome.ERROR)

        filled = await fill(filler(Source({}, "email", require_row=True), Down({}, "permissions")), OLD)
        assert filled.reason is Reason.SUBJECT_UNKNOWN
        assert filled.fallback is not None
        assert filled.fallback.outcome is FillOutcome.ERROR

    async def test_a_claim_that_nothing_can_fill_refuses_before_any_query(self) -> None:
        @dataclass
        class Bare:
            userId: str
            must: str
            email: Annotated[str, Claim(since=2)] = "Unknown"

        source = Source({"7": {"email": "e"}}, "email")
        schema: SessionSchema[Any] = SessionSchema(Bare, version=2, subject="userId")
        filled = await filler(source, schema=schema).fill(schema.upgrade({"userId": "7"}, 1))
        assert (filled.reason, filled.claim) == (Reason.PAYLOAD_INVALID, "must")
        assert filled.fallback is None
        assert source.keys == []


class TestCounters:
    async def test_counts_each_claim_and_each_request_once(self) -> None:
        counters = Counters()
        under_test = filler(users(), counters=counters, origin="cache")
        await fill(under_test, OLD)
        await fill(under_test, OLD)
        counted = {tuple(value for _, value in attributes): n for _, attributes, n in counters.series() if n}
        assert counted == {
            ("email", "resolved", "cache"): 2,
            ("plan", "resolved", "cache"): 2,
            ("permissions", "resolved", "cache"): 2,
            ("theme", "resolved", "default"): 2,
            ("resolved", "1"): 2,
        }

    def test_every_series_is_zero_from_the_start(self) -> None:
        counters = Counters()
        filler(users(require_row=True), counters=counters)
        assert {count for *_, count in counters.series()} == {0}
        claims = [dict(attributes) for metric, attributes, _ in counters.series() if metric is names.FALLBACK_CLAIMS]
        of_email = {(at[names.SOURCE], at[names.OUTCOME]) for at in claims if at[names.CLAIM] == "email"}
        assert len(of_email) == 3 + 7
        assert ("none", "not_found") in of_email
        assert ("default", "not_found") not in of_email
        assert len([metric for metric, *_ in counters.series() if metric is names.FALLBACKS]) == 3 * 8


class TestConfiguration:
    def test_sources_that_contradict_are_found_at_construction(self) -> None:
        for sources, message in (
            ([Source({}, "email"), Source({}, "email")], "two sources provide the claim 'email'"),
            ([Source({}, "email", by="company")], "by='company' of a source must be another claim"),
            ([Source({}, "email", by="email")], "by='email' of a source must be another claim"),
            ([Source({}, "mail")], "a source provides 'mail'"),
        ):
            with pytest.raises(ConfigError, match=message):
                filler(*sources)

    async def test_a_row_that_is_not_a_mapping_fails_the_batch(self) -> None:
        with pytest.raises(AttributeError):
            await fill(filler(users({"7": "no row"})), OLD)
