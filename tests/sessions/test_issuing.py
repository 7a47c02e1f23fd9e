"""From a session to a signed token and its cookie: what is in it, what is refused, what is written first."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from jwt_middleware import ConfigError, MemorySessionStore, MintError, SessionCookie, Unavailable
from jwt_middleware.sessions.issuing import SECRET_CLAIMS, SecretClaims
from tests.support.stores import FakeStore
from tests.support.world import ADA, EPOCH, WEEK, FakeClock, Session, World, authority_of, digest

secrets = SecretClaims(SECRET_CLAIMS)


@dataclass(kw_only=True)
class WithPassword:
    userId: str
    passwordHash: str = ""


class TestToken:
    async def test_a_token_carries_the_sessions_claims_by_wire_name_and_the_envelope(self) -> None:
        world = World(issuer="us", audience=["app", "api"])
        issued = await world.authority.issue(Session(user_id="1", company_id="acme", email="ada@example.com"))
        assert await world.claims(issued.token) == {
            "userId": "1",
            "companyId": "acme",
            "role": "user",
            "email": "ada@example.com",
            "permissions": ["read"],
            "version": 2,
            "iat": EPOCH,
            "exp": EPOCH + WEEK,
            "sid": issued.session_id,
            "auth_time": EPOCH,
            "iss": "us",
            "aud": ["app", "api"],
        }
        assert issued.expires_at.timestamp() == EPOCH + WEEK

    async def test_the_cookie_lives_as_long_as_its_token(self) -> None:
        issued = await authority_of(clock=FakeClock(wall=EPOCH + 0.75)).issue(ADA)
        assert issued.set_cookie == [
            f"__Host-session={issued.token}; Max-Age={WEEK - 1}; Path=/; Secure; HttpOnly; SameSite=Lax"
        ]

    async def test_one_audience_is_a_text_and_no_list(self) -> None:
        world = World(audience="app")
        assert (await world.claims(await world.token()))["aud"] == "app"

    async def test_mints_writes_the_older_shape_and_counts_it(self) -> None:
        world = World(schema={"mints": 1})
        assert (await world.claims(await world.token()))["version"] == 1
        assert world.counts("tokens.issued") == {("1", "start"): 1}

    async def test_the_migration_sees_a_token_when_it_is_minted(self) -> None:
        world = World(schema={"mints": 1})
        await world.token()
        migration = world.authority.migration
        assert (migration.last_minted, migration.last_expiry) == ({1: EPOCH}, {1: EPOCH + WEEK})

    @pytest.mark.parametrize("fraction", [0.0, 0.3, 0.999])
    @pytest.mark.parametrize("store", [None, MemorySessionStore])
    async def test_without_leeway_a_token_is_valid_the_moment_it_is_minted(self, fraction: float, store: Any) -> None:
        world = World(
            clock=FakeClock(wall=EPOCH + fraction), leeway=timedelta(0), window=timedelta(seconds=45), store=store
        )
        issued = await world.authority.issue(ADA)
        assert (await world.authority.verify(issued.token)).auth_time == pytest.approx(EPOCH + fraction)
        assert issued.expires_at.timestamp() == EPOCH + 45


class TestRow:
    async def test_the_row_is_written_before_the_token_leaves_and_holds_no_token(self) -> None:
        world = World()
        issued = await world.authority.issue(ADA, label="phone")
        row = await world.row()
        assert (row.id, row.user_id, row.label, row.is_active) == (issued.session_id, "1", "phone", True)
        assert row.session_token == digest(issued.token)
        assert row.expires_at == issued.expires_at

    async def test_a_row_that_cannot_be_written_means_no_token_and_no_count(self) -> None:
        world = World(store=FakeStore)
        world.store.writes_fail = "before"
        with pytest.raises(Unavailable):
            await world.token()
        assert world.counts("tokens.issued") == {}
        assert world.authority.migration.last_minted == {}

    async def test_a_label_is_short(self) -> None:
        assert (await authority_of().issue(ADA, label="x" * 100)).token
        with pytest.raises(MintError, match="100 characters"):
            await authority_of().issue(ADA, label="x" * 101)


class TestRefused:
    def test_a_session_class_with_a_secret_is_an_error_of_configuration(self) -> None:
        with pytest.raises(ConfigError, match=r"'passwordHash' looks like a secret.*secret_claims"):
            authority_of(WithPassword, schema={"version": 1})

    async def test_the_deny_list_is_a_setting(self) -> None:
        allowed = World(WithPassword, schema={"version": 1}, sources=[], secret_claims=())
        issued = await allowed.authority.issue(WithPassword(userId="1", passwordHash="x"))
        assert (await allowed.claims(issued.token))["passwordHash"] == "x"
        with pytest.raises(ConfigError, match="'email' looks like a secret"):
            authority_of(secret_claims=["email"])

    @pytest.mark.parametrize("name", ["password", "apiKey", "api_key", "cardNumber", "SSN", "client_secret"])
    async def test_a_secret_deep_in_a_claim_is_an_error_that_hides_its_value(self, name: str) -> None:
        @dataclass(kw_only=True)
        class WithAnything:
            userId: str
            profile: dict[str, Any] = field(default_factory=dict)

        authority = authority_of(WithAnything, schema={"version": 1})
        with pytest.raises(MintError, match=name) as refused:
            await authority.issue(WithAnything(userId="1", profile={"inner": [{name: "canary"}]}))
        assert "canary" not in str(refused.value)

    async def test_a_cookie_over_4096_bytes_is_refused_and_nothing_is_written(self) -> None:
        world = World()
        with pytest.raises(MintError, match="4096"):
            await world.token(email="x" * 3_000)
        assert await world.authority.sessions_of("1") == []

    async def test_a_cookie_of_exactly_4096_bytes_is_minted_and_of_one_more_is_not(self) -> None:
        async def length(name: str) -> int:
            authority = authority_of(clock=FakeClock(), cookie=SessionCookie(name, secure=False))
            [set_cookie] = (await authority.issue(Session(user_id="1", email="x" * 2_500))).set_cookie
            return len(set_cookie)

        spare = 4_096 - await length("s")
        assert await length("s" * (1 + spare)) == 4_096
        with pytest.raises(MintError, match="4097"):
            await length("s" * (2 + spare))

    async def test_a_session_of_another_class_is_refused(self) -> None:
        with pytest.raises(MintError, match="expected a Session, got a str"):
            await authority_of().issue("ada")


class TestSecretClaims:
    def test_a_name_with_a_denied_word_is_found_however_it_is_written(self) -> None:
        names = """
            password PASSWORD passwordHash user_password passwords passwd clientSecret SECRET-2
            apiKey api_key API-KEY APIKey apikey apiKeys myApiKey2 privateKey
            cardNumber creditCard cards ssn SSN userSSN
        """
        assert [name for name in names.split() if not secrets.denies(name)] == []

    def test_other_names_are_left_alone(self) -> None:
        names = ["", "userId", "email", "discard", "cardinality", "secretary", "assn", "keyApi", "api"]
        assert [name for name in names if secrets.denies(name)] == []

    def test_names_within_are_found_at_any_depth(self) -> None:
        payload = {"a": [{"b": {"apiKey": 1}}, ({"ssn": {"password": 2}},)], "c": "password"}
        assert list(secrets.within(payload)) == ["apiKey", "ssn", "password"]

    def test_the_list_can_be_another_one(self) -> None:
        own = SecretClaims(["pin code", ""])
        assert own.denies("pinCode")
        assert own.denies("pincodes")
        assert not own.denies("password")
        assert not SecretClaims([]).denies("password")
