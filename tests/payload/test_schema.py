"""Payload versions, missing claims, defaults, building and minting sessions: pure functions of the payload."""

from __future__ import annotations

import enum
import functools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jwt_middleware.errors import ConfigError, MintError, Reason, Refusal
from jwt_middleware.payload.fields import Claim
from jwt_middleware.payload.schema import SessionSchema
from jwt_middleware.testing import old_token
from jwt_middleware.types import is_version
from tests.support.strategies import own
from tests.support.target import CLAIMS, reason
from tests.support.world import FakeClock, Session, World, authority_of


class AsStruct(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    user_id: str
    company_id: str
    role: str = "user"
    email: Annotated[str, Claim(since=2)] = "Unknown"
    permissions: list[str] = msgspec.field(default_factory=lambda: ["read"])


class AsModel(pydantic.BaseModel):
    user_id: Annotated[str, Claim("userId")]
    company_id: str = pydantic.Field(alias="companyId")
    role: str = "user"
    email: Annotated[str, Claim(since=2)] = "Unknown"
    permissions: list[str] = pydantic.Field(default_factory=lambda: ["read"])


CLASSES: list[type[Any]] = [Session, AsStruct, AsModel]
PAYLOAD = {"userId": "7", "companyId": "c1", "role": "admin", "email": "a@b.c", "permissions": ["x"], "version": 2}


def schema_of(cls: type[Any] = Session, **settings: Any) -> SessionSchema[Any]:
    return SessionSchema(cls, **{"version": 2, "subject": "userId", **settings})


def version_of(schema: SessionSchema[Any], payload: dict[str, Any]) -> int:
    """The version of a payload that is verified: any other value was refused with its token."""
    version = payload.get(schema.version_claim, 1)
    if not is_version(version):
        raise Refusal(Reason.CLAIMS_INVALID)
    return int(version)


def build(schema: SessionSchema[Any], payload: dict[str, Any]) -> Any:
    upgraded = schema.upgrade(payload, version_of(schema, payload))
    return schema.assemble(upgraded.claims)[1]


def missing(schema: SessionSchema[Any], payload: dict[str, Any]) -> set[str]:
    return {spec.name for spec in schema.upgrade(payload, version_of(schema, payload)).missing}


@pytest.mark.parametrize("cls", CLASSES)
class TestEveryKindOfClass:
    def test_a_full_payload_builds_the_apps_own_class(self, cls: type[Any]) -> None:
        session = build(schema_of(cls), PAYLOAD)
        assert isinstance(session, cls)
        assert (session.user_id, session.company_id, session.role) == ("7", "c1", "admin")
        assert (session.email, session.permissions) == ("a@b.c", ["x"])

    def test_each_request_gets_a_session_of_its_own(self, cls: type[Any]) -> None:
        schema = schema_of(cls)
        encoded, first = schema.assemble({"userId": "7", "companyId": "c1"})
        second = schema.build(encoded)
        first.permissions.append("write")
        assert second.permissions == ["read"]
        assert schema.build(encoded).permissions == ["read"]

    def test_a_session_is_minted_under_wire_names_and_reads_back_the_same(self, cls: type[Any]) -> None:
        schema = schema_of(cls)
        session = build(schema, PAYLOAD)
        subject, claims = schema.mint(session)
        assert subject == "7"
        assert claims == PAYLOAD
        assert build(schema, claims) == session

    def test_claims_have_wire_names_defaults_and_since(self, cls: type[Any]) -> None:
        specs = {spec.name: spec for spec in schema_of(cls).claims}
        assert set(specs) == {"userId", "companyId", "role", "email", "permissions"}
        assert specs["email"].since == 2
        assert specs["role"].default == "user"
        assert specs["permissions"].default == ["read"]
        assert not specs["userId"].has_default

    def test_a_value_that_does_not_fit_is_payload_invalid(self, cls: type[Any]) -> None:
        with pytest.raises(Refusal) as refused:
            build(schema_of(cls), {**PAYLOAD, "permissions": {"not": "a list"}})
        assert refused.value.reason is Reason.PAYLOAD_INVALID
        assert refused.value.__cause__ is None

    def test_a_claim_that_does_not_fit_is_named_by_its_wire_name(self, cls: type[Any]) -> None:
        unfit: dict[str, Any] = {"companyId": 7, "email": ["a"], "permissions": [1]}
        for name, value in unfit.items():
            with pytest.raises(Refusal) as refused:
                build(schema_of(cls), {**PAYLOAD, name: value})
            assert (refused.value.claim, str(refused.value)) == (name, "payload_invalid")

    def test_unknown_claims_are_ignored(self, cls: type[Any]) -> None:
        assert build(schema_of(cls), {**PAYLOAD, "whatever": 1}).role == "admin"


class TestVersion:
    def test_absent_means_one(self) -> None:
        assert schema_of().label_of({}) == "1"

    async def test_the_version_of_a_token_without_one_is_one(self) -> None:
        authority = authority_of()
        assert (await authority.verify(old_token(authority, {"userId": "7"}))).payload_version == 1

    async def test_anything_but_a_positive_integer_is_claims_invalid(self) -> None:
        authority = authority_of()
        versions: list[Any] = [True, "2", 2.0, 0, -1, None, [], {}]
        for version in versions:
            assert schema_of().label_of({"version": version}) == "unknown", version
            token = old_token(authority, {"userId": "7", "version": version})
            assert await reason(authority, token) == "claims_invalid", version

    def test_metrics_spell_it_as_a_number_or_newer(self) -> None:
        labels = [schema_of().label_of({"version": version}) for version in (1, 2, 3, 2**63)]
        assert labels == ["1", "2", "newer", "newer"]

    async def test_its_name_is_configurable(self) -> None:
        authority = authority_of(schema={"version_claim": "v"}, clock=FakeClock())
        token = own({**CLAIMS, "version": "theirs", "v": 2})
        assert (await authority.verify(token)).payload_version == 2
        schema = schema_of(version_claim="v")
        assert schema.label_of({"v": 2, "version": "theirs"}) == "2"
        assert schema.mint(build(schema, {**PAYLOAD, "v": 2}))[1]["v"] == 2

    def test_a_newer_payload_is_read_as_todays_and_labelled_newer(self) -> None:
        schema = schema_of()
        upgraded = schema.upgrade({**PAYLOAD, "version": 9}, 9)
        assert upgraded.label == "newer"
        assert upgraded.missing == ()

    def test_a_newer_payload_is_never_run_through_the_steps(self) -> None:
        def explode(claims: dict[str, Any]) -> dict[str, Any]:
            raise AssertionError

        assert schema_of(upgrades={1: explode}).upgrade(PAYLOAD, 9).claims == PAYLOAD

    def test_a_newer_payload_can_be_refused(self) -> None:
        with pytest.raises(Refusal) as refused:
            schema_of(newer="refuse").upgrade(PAYLOAD, 3)
        assert refused.value.reason is Reason.PAYLOAD_NEWER


class TestOldest:
    def test_a_payload_older_than_the_oldest_is_too_old(self) -> None:
        schema = schema_of(version=3, oldest=2)
        with pytest.raises(Refusal) as refused:
            schema.upgrade(PAYLOAD, 1)
        assert refused.value.reason is Reason.PAYLOAD_TOO_OLD
        for version in (2, 3, 4):
            assert schema.upgrade(PAYLOAD, version).subject == "7"

    def test_by_default_no_payload_is_too_old(self) -> None:
        assert schema_of(version=3).upgrade(PAYLOAD, 1).label == "1"

    def test_no_step_sees_a_payload_that_is_too_old(self) -> None:
        def explode(claims: dict[str, Any]) -> dict[str, Any]:
            raise AssertionError

        with pytest.raises(Refusal, match="payload_too_old"):
            schema_of(version=3, oldest=2, upgrades={1: explode}).upgrade(PAYLOAD, 1)

    async def test_a_token_of_that_payload_is_refused_and_counted_under_its_version(self) -> None:
        world = World(schema={"oldest": 2})
        assert await world.reason(await world.old()) == "payload_too_old"
        assert await world.reason(await world.old({"email": "a@b.c"}, version=2)) is None
        assert world.counts("requests") == {("payload_too_old", "1", "refused"): 1, ("2", "accepted"): 1}

    def test_a_claim_that_only_older_payloads_lack_needs_no_default(self) -> None:
        @dataclass
        class Demanding:
            userId: str
            email: Annotated[str, Claim(since=2)]

        SessionSchema(Demanding, version=2, subject="userId", oldest=2).refuse_unfillable(frozenset())
        schema = SessionSchema(Demanding, version=3, subject="userId", oldest=1)
        with pytest.raises(ConfigError, match="'email' came with version 2"):
            schema.refuse_unfillable(frozenset())


class TestMissing:
    def test_an_absent_claim(self) -> None:
        assert missing(schema_of(), {"userId": "7", "companyId": "c"}) == {"role", "email", "permissions"}

    def test_null_if_the_type_refuses_none(self) -> None:
        assert missing(schema_of(), {**PAYLOAD, "email": None}) == {"email"}

    def test_null_is_a_value_if_the_type_accepts_none(self) -> None:
        @dataclass
        class Nullable:
            userId: str
            nick: Annotated[str | None, Claim(since=2)] = None

        assert missing(SessionSchema(Nullable, version=2, subject="userId"), {"userId": "1", "nick": None}) == set()

    def test_the_empty_string_unless_it_is_the_default(self) -> None:
        @dataclass
        class Blank:
            userId: str
            note: str = ""
            email: str = "Unknown"

        schema = SessionSchema(Blank, version=1, subject="userId")
        assert missing(schema, {"userId": "1", "note": "", "email": ""}) == {"email"}
        assert build(schema, {"userId": "1", "note": "", "email": ""}).email == "Unknown"

    def test_zero_false_and_empty_collections_are_values(self) -> None:
        @dataclass
        class Loose:
            userId: str
            thing: Any = 1

        schema, values = SessionSchema(Loose, version=1, subject="userId"), list[Any]([0, False, [], {}])
        for value in values:
            assert missing(schema, {"userId": "1", "thing": value}) == set(), value


class TestSubject:
    def test_an_invalid_subject_is_claims_invalid(self) -> None:
        subjects: list[Any] = ["", "x" * 256, "a\x00b", "a\nb", "\x7f", None, True, 1.5, [], {}]
        for subject in subjects:
            with pytest.raises(Refusal, match="claims_invalid"):
                schema_of().upgrade({**PAYLOAD, "userId": subject}, 2)

    def test_text_is_itself_and_an_integer_becomes_text(self) -> None:
        for subject in ("a", "x" * 255, "Ünï cödé", "a@b", 42):
            assert schema_of().upgrade({**PAYLOAD, "userId": subject}, 2).subject == str(subject)

    def test_it_is_read_after_the_upgrade(self) -> None:
        schema = schema_of(upgrades={1: lambda claims: {"userId": claims.pop("uid"), **claims}})
        assert schema.upgrade({"uid": "9", "companyId": "c"}, 1).subject == "9"

    def test_the_payloads_own_subject_is_read_before_the_upgrade(self) -> None:
        schema = schema_of(upgrades={1: lambda claims: {**claims, "userId": f"user-{claims['userId']}"}})
        payload = {"userId": 7, "companyId": "c"}
        assert schema.own_subject(payload) == "7"
        assert schema.upgrade(payload, 1).subject == "user-7"
        assert schema.own_subject(PAYLOAD) == "7"

    def test_a_payload_without_a_valid_subject_has_none_of_its_own(self) -> None:
        assert schema_of().own_subject({"uid": "9"}) is None
        subjects: list[Any] = ["", "x" * 256, "a\nb", None, True, 1.5, [], {}]
        for subject in subjects:
            assert schema_of().own_subject({"userId": subject}) is None, subject


class NumberedStruct(msgspec.Struct, kw_only=True):
    sub: int


@dataclass
class Numbered:
    sub: int


class NumberedModel(pydantic.BaseModel):
    sub: int


class TestIntegerInSub:
    """``sub`` is a StringOrURI (RFC 7519 section 4.1.2), though the session class has an integer."""

    @pytest.mark.parametrize("cls", [Numbered, NumberedStruct, NumberedModel])
    def test_it_is_minted_as_text_and_read_as_an_integer(self, cls: type[Any]) -> None:
        schema = SessionSchema(cls, version=1, subject="sub")
        for number in (7, 0, -7, 2**63 - 1, -(2**63)):
            session = cls(sub=number)
            subject, claims = schema.mint(session)
            assert (subject, claims) == (str(number), {"sub": str(number), "version": 1})
            assert build(schema, claims) == session

    async def test_a_whole_session_keeps_it(self) -> None:
        world = World(Numbered, schema={"version": 1, "subject": "sub"}, sources=[])
        issued = await world.authority.issue(Numbered(sub=7))
        assert (await world.claims(issued.token))["sub"] == "7"
        assert (await world.get(issued.token)).status_code == 200
        assert world.echo.session == Numbered(sub=7)
        assert (await world.row("7")).id == issued.session_id

    def test_text_in_another_spelling_does_not_fit(self) -> None:
        schema = SessionSchema(Numbered, version=1, subject="sub")
        for text in ("07", "+7", " 7", "7.0", "1e3", "-0", "--7", "\u0667", "\u00b2", "0x7", "7_0", "x", "9" * 5_000):
            with pytest.raises(Refusal) as refused:
                build(schema, {"sub": text})
            assert refused.value.reason in (Reason.PAYLOAD_INVALID, Reason.CLAIMS_INVALID), text

    def test_text_in_sub_stays_text(self) -> None:
        @dataclass
        class Named:
            sub: str

        schema = SessionSchema(Named, version=1, subject="sub")
        assert schema.mint(Named(sub="7")) == ("7", {"sub": "7", "version": 1})
        assert build(schema, {"sub": "7"}) == Named(sub="7")

    def test_an_integer_in_another_claim_stays_an_integer(self) -> None:
        @dataclass
        class Counted:
            userId: int

        schema = SessionSchema(Counted, version=1, subject="userId")
        assert schema.mint(Counted(userId=7)) == ("7", {"userId": 7, "version": 1})
        with pytest.raises(Refusal, match="payload_invalid"):
            build(schema, {"userId": "7"})

    def test_a_step_down_may_write_an_integer(self) -> None:
        schema = schema_of(
            mints=1,
            upgrades={1: lambda claims: {"userId": claims.pop("sub"), **claims}},
            downgrades={2: lambda claims: {"sub": int(claims.pop("userId")), **claims}},
        )
        subject, claims = schema.mint(Session(user_id="7", company_id="c"))
        assert (subject, claims["sub"]) == ("7", "7")
        assert build(schema, claims).user_id == "7"


class TestSessionClassThatRaises:
    """The text of its exception is not trusted: a claim is named only if the schema has it."""

    @pytest.mark.parametrize("text", ["canary", "canary - at `$.secret`"])
    def test_the_refusal_names_no_claim(self, text: str) -> None:
        @dataclass
        class Picky:
            userId: str

            def __post_init__(self) -> None:
                raise ValueError(text)

        @dataclass
        class Raising:
            userId: str

            def __post_init__(self) -> None:
                raise LookupError(text)

        class Model(pydantic.BaseModel):
            userId: str

            @pydantic.model_validator(mode="after")
            def refuse(self) -> Any:
                raise ValueError(text)

        class Broken(pydantic.BaseModel):
            userId: str

            def model_post_init(self, context: Any) -> None:
                raise LookupError(text)

        for cls in (Picky, Raising, Model, Broken):
            with pytest.raises(Refusal) as refused:
                build(SessionSchema(cls, version=1, subject="userId"), {"userId": "1"})
            assert (refused.value.reason, refused.value.claim) == (Reason.PAYLOAD_INVALID, None)


class TestSteps:
    def test_they_run_in_a_chain_from_the_payloads_version(self) -> None:
        def step(n: int) -> Any:
            return lambda claims: {**claims, "role": claims.get("role", "") + str(n)}

        schema = schema_of(version=4, upgrades={1: step(1), 2: step(2), 3: step(3)})
        assert schema.upgrade({**PAYLOAD, "role": "r"}, 1).claims["role"] == "r123"
        assert schema.upgrade({**PAYLOAD, "role": "r"}, 3).claims["role"] == "r3"
        assert schema.upgrade({**PAYLOAD, "role": "r"}, 4).claims["role"] == "r"

    def test_a_step_that_changes_its_argument_does_not_change_the_payload(self) -> None:
        def step(claims: dict[str, Any]) -> dict[str, Any]:
            claims.clear()
            return {"userId": "1", "companyId": "c"}

        payload = dict(PAYLOAD)
        schema_of(upgrades={1: step}).upgrade(payload, 1)
        assert payload == PAYLOAD

    @pytest.mark.parametrize("bad", [lambda claims: claims["absent"], lambda claims: None, lambda claims: [claims]])
    def test_a_step_that_fails_is_payload_invalid_without_its_text(self, bad: Any) -> None:
        with pytest.raises(Refusal) as refused:
            schema_of(upgrades={1: bad}).upgrade(PAYLOAD, 1)
        assert refused.value.reason is Reason.PAYLOAD_INVALID
        assert str(refused.value) == "payload_invalid"
        assert refused.value.__suppress_context__ or refused.value.__context__ is None

    def test_a_step_that_returns_no_json_is_payload_invalid(self) -> None:
        schema = schema_of(upgrades={1: lambda claims: {**claims, "role": object()}})
        with pytest.raises(Refusal) as refused:
            build(schema, {**PAYLOAD, "version": 1})
        assert refused.value.reason is Reason.PAYLOAD_INVALID

    def test_a_step_that_could_never_work_fails_at_construction(self, subtests: pytest.Subtests) -> None:
        async def later(claims: dict[str, Any]) -> dict[str, Any]:
            raise AssertionError

        async def stream(claims: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
            yield claims

        class Later:
            async def __call__(self, claims: dict[str, Any]) -> dict[str, Any]:
                raise AssertionError

            async def method(self, claims: dict[str, Any]) -> dict[str, Any]:
                raise AssertionError

        def keyword(claims: dict[str, Any], *, key: str) -> dict[str, Any]:
            raise AssertionError

        steps: dict[str, Any] = {
            "async": later,
            "async, partly applied": functools.partial(later),
            "an async generator": stream,
            "an object whose call is async": Later(),
            "an async method": Later().method,
            "of two arguments": lambda claims, version: claims,
            "of none": lambda: dict(PAYLOAD),
            "with a keyword": keyword,
            "text": "rename",
            "none": None,
        }
        for case, step in steps.items():
            for name, version in (("upgrades", 1), ("downgrades", 2)):
                settings: dict[str, Any] = {name: {version: step}}
                with (
                    subtests.test(case=case, name=name),
                    pytest.raises(ConfigError, match="a plain function of one mapping, not async, got"),
                ):
                    schema_of(**settings)

    def test_any_function_of_one_mapping_is_a_step(self) -> None:
        class Renamed:
            def __call__(self, claims: dict[str, Any]) -> dict[str, Any]:
                return {**claims, "role": "r"}

        def second(version: int, claims: dict[str, Any], *more: Any, key: str = "r") -> dict[str, Any]:
            return {**claims, "role": key}

        steps: list[Any] = [Renamed(), functools.partial(second, 1), lambda claims, role="r": {**claims, "role": role}]
        for step in steps:
            assert schema_of(upgrades={1: step}).upgrade(PAYLOAD, 1).claims["role"] == "r"
        assert schema_of(upgrades={1: dict}).upgrade(PAYLOAD, 1).claims == PAYLOAD


class TestMinting:
    def test_an_empty_value_becomes_the_default(self) -> None:
        _, claims = schema_of().mint(Session(user_id="1", company_id="c", email="", role=""))
        assert (claims["email"], claims["role"]) == ("Unknown", "user")

    def test_an_empty_value_without_default_is_an_error(self) -> None:
        with pytest.raises(MintError, match="'companyId' is empty"):
            schema_of(AsStruct).mint(AsStruct(user_id="1", company_id=""))

    def test_a_value_of_another_type_is_an_error_that_does_not_quote_it(self) -> None:
        with pytest.raises(MintError, match="'permissions' does not fit") as error:
            schema_of().mint(Session(user_id="1", company_id="c", permissions="canary"))  # type: ignore[arg-type]
        assert "canary" not in str(error.value)
        assert error.value.__cause__ is None

    def test_another_class_is_an_error(self) -> None:
        with pytest.raises(MintError, match="expected a Session, got a dict"):
            schema_of().mint({"userId": "1"})

    def test_an_invalid_subject_is_an_error(self) -> None:
        with pytest.raises(MintError, match="claim 'userId' must be an integer, or 1 to 255 printable"):
            schema_of().mint(Session(user_id="a\x00", company_id="c"))

    def test_a_value_that_json_cannot_carry_is_an_error(self) -> None:
        @dataclass
        class Loose:
            userId: str
            thing: Any = None

        with pytest.raises(MintError):
            SessionSchema(Loose, version=1, subject="userId").mint(Loose("1", thing=object()))
        with pytest.raises(MintError):
            SessionSchema(Loose, version=1, subject="userId").mint(Loose("1", thing="\ud800"))

    def test_minting_an_older_version_leaves_later_claims_out(self) -> None:
        _, claims = schema_of(mints=1).mint(Session(user_id="1", company_id="c", email="a@b.c"))
        assert claims == {"userId": "1", "companyId": "c", "role": "user", "permissions": ["read"], "version": 1}

    def test_minting_below_an_upgrade_runs_the_downgrades(self) -> None:
        schema = schema_of(
            version=3,
            mints=1,
            upgrades={1: lambda claims: {"companyId": claims.pop("company"), **claims}},
            downgrades={2: lambda claims: {"company": claims.pop("companyId"), **claims}},
        )
        subject, claims = schema.mint(Session(user_id="1", company_id="c"))
        assert (subject, claims["company"], claims["version"]) == ("1", "c", 1)
        assert "companyId" not in claims
        assert "email" not in claims

    def test_a_failing_downgrade_is_an_error_that_quotes_nothing(self) -> None:
        schema = schema_of(mints=1, upgrades={1: lambda c: c}, downgrades={2: lambda claims: claims["canary"]})
        with pytest.raises(MintError, match="downgrade from payload version 2 failed") as error:
            schema.mint(Session(user_id="1", company_id="c"))
        assert error.value.__cause__ is None


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Address:
    city: str


class TestTypes:
    def test_they_are_kept_when_minted_and_read(self) -> None:
        @dataclass
        class Typed:
            userId: UUID
            at: datetime
            colour: Colour
            address: Address
            tags: list[str]
            price: Decimal
            nick: str | None = None
            ClassLevel: ClassVar[int] = 3

        session = Typed(
            userId=UUID("12345678-1234-5678-1234-567812345678"),
            at=datetime(2026, 12, 1, 9, tzinfo=UTC),
            colour=Colour.RED,
            address=Address("Berlin"),
            tags=["a"],
            price=Decimal("1.10"),
        )
        schema = SessionSchema(Typed, version=1, subject="userId")
        subject, claims = schema.mint(session)
        assert subject == "12345678-1234-5678-1234-567812345678"
        assert claims["colour"] == "red"
        assert claims["address"] == {"city": "Berlin"}
        assert build(schema, claims) == session

    def test_a_rows_value_becomes_the_claims_type(self) -> None:
        @dataclass
        class Row:
            userId: str
            text: str = "d"
            number: int = 0
            share: float = 0.0
            flag: bool = False
            when: datetime | None = None

        schema = SessionSchema(Row, version=1, subject="userId")
        assert schema.convert("text", UUID(int=1)) == "00000000-0000-0000-0000-000000000001"
        assert schema.convert("text", Colour.RED) == "red"
        assert schema.convert("text", 12) == "12"
        assert schema.convert("flag", 1) is True
        assert schema.convert("share", Decimal("1.5")) == 1.5
        assert schema.convert("when", datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00Z"
        assert schema.convert("when", None) is None

    def test_a_rows_value_that_does_not_fit_is_not_quoted(self) -> None:
        @dataclass
        class Row:
            userId: str
            text: list[str] = field(default_factory=list)
            number: int = 0
            share: float = 0.0
            flag: bool = False

        schema, nan = SessionSchema(Row, version=1, subject="userId"), float("nan")
        unfit: dict[str, list[Any]] = {"number": ["12", True], "flag": [2], "share": [nan], "text": [b"x", object()]}
        for claim, values in unfit.items():
            for value in values:
                with pytest.raises(ValueError) as error:  # noqa: PT011 - the absence of a message is the point
                    schema.convert(claim, value)
                assert str(error.value) == "", claim


class TestConfiguration:
    def test_contradictions_are_found_at_construction(self) -> None:
        contradictions: list[tuple[dict[str, Any], str]] = [
            ({"version": 0}, "version must be an integer"),
            ({"version": True}, "version must be an integer"),
            ({"mints": 3}, "mints must be an integer from 1 to version"),
            ({"mints": 0}, "mints must be an integer from 1 to version"),
            ({"upgrades": {2: dict}}, r"upgrades=\{2: …\} starts at no older version"),
            ({"downgrades": {1: dict}}, r"downgrades=\{1: …\} starts at no newer version"),
            ({"upgrades": {1: dict}, "mints": 1}, r"mints=1 requires downgrades=\{2: …\}"),
            ({"subject": "user_id"}, "subject='user_id' is not a claim of Session"),
            ({"subject": "role"}, "the subject claim 'role' must not have a default"),
            ({"newer": "ignore"}, "newer must be"),
            ({"upgrades": [dict]}, r"steps by version: \{1: step\}"),
            ({"downgrades": dict}, r"steps by version: \{1: step\}"),
            ({"upgrades": {1: "rename"}}, "a step must be a plain function of one mapping, not async, got str"),
            ({"oldest": 0}, r"oldest must be an integer from 1 to what is minted \(2\), got 0"),
            ({"oldest": 3}, r"oldest must be an integer from 1 to what is minted \(2\), got 3"),
            ({"oldest": True}, "oldest must be an integer"),
            ({"oldest": "2"}, "oldest must be an integer"),
            ({"oldest": 2, "mints": 1}, r"oldest must be an integer from 1 to what is minted \(1\), got 2"),
            ({"version_claim": "exp"}, "is a registered claim"),
            ({"version_claim": "role"}, "which every token has already"),
            ({"version": 1}, "claim 'email' has since=2"),
        ]
        for contradiction, message in contradictions:
            with pytest.raises(ConfigError, match=message):
                schema_of(**contradiction)

    def test_a_class_may_not_declare_a_claim_that_every_token_has(self) -> None:
        for name in ("version", "iat", "exp", "sid", "auth_time", "iss", "aud", "nbf"):
            cls = msgspec.defstruct("Taken", [("userId", str), (name, str)])
            with pytest.raises(ConfigError, match=f"'{name}'.*which every token has already"):
                SessionSchema(cls, version=1, subject="userId")

    def test_two_claims_of_one_wire_name_are_refused(self) -> None:
        @dataclass
        class Twice:
            userId: str
            a: Annotated[str, Claim("x")]
            b: Annotated[str, Claim("x")]

        with pytest.raises(ConfigError, match="Twice has two claims named 'x'"):
            SessionSchema(Twice, version=1, subject="userId")

    def test_a_default_that_does_not_fit_its_type_is_refused(self) -> None:
        @dataclass
        class Odd:
            userId: str
            n: int = "x"  # type: ignore[assignment]

        with pytest.raises(ConfigError, match="the default of 'n' does not fit"):
            SessionSchema(Odd, version=1, subject="userId")

    def test_any_other_class_is_refused_without_quoting_it(self) -> None:
        others: list[Any] = [dict, int, "str", object, Session(user_id="canary", company_id="c")]
        for cls in others:
            with pytest.raises(ConfigError, match="the session class must be a dataclass") as raised:
                SessionSchema(cls, version=1, subject="userId")
            assert "canary" not in str(raised.value)

    def test_a_version_in_place_of_the_name_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"for a version use Claim\(since=2\)"):
            Claim(2)  # type: ignore[arg-type]  # the mistake is the point

    def test_a_type_that_json_cannot_carry_is_refused(self) -> None:
        @dataclass
        class Custom:
            userId: str
            thing: ConfigError

        with pytest.raises(ConfigError, match=r"Custom\.thing has a type that JSON cannot carry"):
            SessionSchema(Custom, version=1, subject="userId")

    def test_annotations_that_cannot_be_resolved_are_refused(self) -> None:
        @dataclass
        class Unresolved:
            userId: "Nowhere"  # type: ignore[name-defined]  # noqa: F821, UP037

        with pytest.raises(ConfigError, match="cannot be resolved"):
            SessionSchema(Unresolved, version=1, subject="userId")

    def test_a_struct_that_is_not_a_plain_object_is_refused(self) -> None:
        fields = [("userId", str)]
        for cls in (
            msgspec.defstruct("Listed", fields, array_like=True),
            msgspec.defstruct("Tagged", fields, tag=True),
        ):
            with pytest.raises(ConfigError, match="array_like or tagged"):
                SessionSchema(cls, version=1, subject="userId")

    def test_a_model_field_with_several_aliases_is_refused(self) -> None:
        class Many(pydantic.BaseModel):
            userId: str = pydantic.Field(validation_alias=pydantic.AliasChoices("a", "b"))

        with pytest.raises(ConfigError, match="several aliases"):
            SessionSchema(Many, version=1, subject="userId")

    def test_a_claim_that_older_tokens_can_never_get_is_refused(self) -> None:
        @dataclass
        class Demanding:
            userId: str
            email: Annotated[str, Claim(since=2)]

        schema = SessionSchema(Demanding, version=2, subject="userId")
        with pytest.raises(ConfigError, match="give it a default, a source, or an upgrade step"):
            schema.refuse_unfillable(frozenset())
        schema.refuse_unfillable(frozenset({"email"}))
        SessionSchema(Demanding, version=2, subject="userId", upgrades={1: dict}).refuse_unfillable(frozenset())

    def test_a_source_for_an_unknown_claim_or_the_subject_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="a source provides 'mail', but Session has no such claim"):
            schema_of().refuse_unfillable(frozenset({"mail"}))
        with pytest.raises(ConfigError, match="must not come from a source"):
            schema_of().refuse_unfillable(frozenset({"userId"}))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
payloads = st.dictionaries(st.sampled_from([*PAYLOAD, "other"]), json_values, max_size=7)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
@given(cls=st.sampled_from(CLASSES), payload=payloads)
def test_any_payload_becomes_a_session_or_a_refusal(cls: type[Any], payload: dict[str, Any]) -> None:
    try:
        session = build(schema_of(cls), payload)
    except Refusal:
        return
    assert isinstance(session, cls)
