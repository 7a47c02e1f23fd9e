"""From a session to a signed token and its cookie: what is in it, what is refused, what is written first."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from jwt_middleware import ConfigError, MemorySessionStore, MintError, SessionCookie, Unavailable
from tests.support.asgi import counts
from tests.support.world import EPOCH, FakeClock, Session, authority_of

ADA = Session(user_id="1", company_id="acme", email="ada@example.com")


def minted(authority: Any, session: Any = ADA, **settings: Any) -> Any:
    return asyncio.run(authority.issue(session, **settings))


def claims_of(authority: Any, token: str) -> Any:
    return asyncio.run(authority.verify(token)).claims


def test_a_token_carries_the_sessions_claims_by_wire_name_and_the_envelope() -> None:
    authority = authority_of(clock=FakeClock(), issuer="us", audience=["app", "api"])
    issued = minted(authority)
    assert claims_of(authority, issued.token) == {
        "userId": "1",
        "companyId": "acme",
        "role": "user",
        "email": "ada@example.com",
        "permissions": ["read"],
        "version": 2,
        "iat": EPOCH,
        "exp": EPOCH + 7 * 86_400,
        "sid": issued.session_id,
        "auth_time": EPOCH,
        "iss": "us",
        "aud": ["app", "api"],
    }
    assert issued.expires_at.timestamp() == EPOCH + 7 * 86_400


def test_the_cookie_lives_as_long_as_its_token() -> None:
    issued = minted(authority_of(clock=FakeClock(wall=EPOCH + 0.75)))
    assert issued.set_cookie == (
        f"__Host-session={issued.token}; Max-Age={7 * 86_400 - 1}; Path=/; Secure; HttpOnly; SameSite=Lax"
    )


def test_one_audience_is_a_text_and_no_list() -> None:
    authority = authority_of(audience="app")
    assert claims_of(authority, minted(authority).token)["aud"] == "app"


def test_mints_writes_the_older_shape_and_counts_it() -> None:
    authority = authority_of(schema={"mints": 1})
    claims = claims_of(authority, minted(authority).token)
    assert claims["version"] == 1
    assert counts(authority, "tokens.issued") == {("1", "start"): 1}
    assert authority.migration.last_minted.keys() == {1}


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.999])
@pytest.mark.parametrize("stored", [False, True])
def test_without_leeway_a_token_is_valid_the_moment_it_is_minted(fraction: float, stored: bool) -> None:
    clock = FakeClock(wall=EPOCH + fraction)
    store = MemorySessionStore(clock=clock) if stored else None
    authority = authority_of(clock=clock, leeway=timedelta(0), window=timedelta(seconds=45), store=store)
    issued = minted(authority)
    token = asyncio.run(authority.verify(issued.token))
    assert token.auth_time == pytest.approx(EPOCH + fraction)
    assert issued.expires_at.timestamp() == EPOCH + 45


# The row


def test_the_row_is_written_before_the_token_leaves_and_holds_no_token() -> None:
    clock = FakeClock()
    authority = authority_of(clock=clock, store=MemorySessionStore(clock=clock))
    issued = minted(authority, label="phone")
    (row,) = asyncio.run(authority.sessions_of("1"))
    assert (row.id, row.user_id, row.label, row.is_active) == (issued.session_id, "1", "phone", True)
    assert row.session_token == hashlib.sha256(issued.token.encode()).hexdigest()
    assert row.expires_at == issued.expires_at


def test_a_row_that_cannot_be_written_means_no_token_and_no_count() -> None:
    class Full(MemorySessionStore):
        async def add(self, record: Any) -> None:
            raise Unavailable("full")

    authority = authority_of(store=Full())
    with pytest.raises(Unavailable):
        minted(authority)
    assert counts(authority, "tokens.issued") == {}
    assert authority.migration.last_minted == {}


def test_a_label_is_short() -> None:
    assert minted(authority_of(), label="x" * 100).token
    with pytest.raises(MintError, match="100 characters"):
        minted(authority_of(), label="x" * 101)


# What is refused


@dataclass(kw_only=True)
class WithPassword:
    userId: str
    passwordHash: str = ""


@dataclass(kw_only=True)
class WithAnything:
    userId: str
    profile: dict[str, Any] = field(default_factory=dict)


def test_a_session_class_with_a_secret_is_an_error_of_configuration() -> None:
    with pytest.raises(ConfigError, match=r"'passwordHash' looks like a secret.*secret_claims"):
        authority_of(WithPassword, schema={"version": 1})


def test_the_deny_list_is_a_setting() -> None:
    allowed = authority_of(WithPassword, schema={"version": 1}, secret_claims=())
    assert claims_of(allowed, minted(allowed, WithPassword(userId="1", passwordHash="x")).token)["passwordHash"] == "x"
    with pytest.raises(ConfigError, match="'email' looks like a secret"):
        authority_of(secret_claims=["email"])


@pytest.mark.parametrize("name", ["password", "apiKey", "api_key", "cardNumber", "SSN", "client_secret"])
def test_a_secret_deep_in_a_claim_is_found_when_it_is_minted_and_its_value_stays_out_of_the_error(name: str) -> None:
    authority = authority_of(WithAnything, schema={"version": 1})
    with pytest.raises(MintError, match=name) as refused:
        minted(authority, WithAnything(userId="1", profile={"inner": [{name: "canary"}]}))
    assert "canary" not in str(refused.value)


def test_a_cookie_over_4096_bytes_is_refused_and_nothing_is_written() -> None:
    store = MemorySessionStore()
    authority = authority_of(store=store)
    with pytest.raises(MintError, match="4096"):
        minted(authority, Session(user_id="1", email="x" * 3_000))
    assert asyncio.run(authority.sessions_of("1")) == []


def test_a_cookie_of_exactly_4096_bytes_is_minted_and_of_one_more_is_not() -> None:
    def length(filling: str, name: str) -> int:
        authority = authority_of(clock=FakeClock(), cookie=SessionCookie(name, secure=False))
        return len(minted(authority, Session(user_id="1", email=filling)).set_cookie)

    filling = "x" * 2_500
    spare = 4_096 - length(filling, "s")
    assert length(filling, "s" * (1 + spare)) == 4_096
    with pytest.raises(MintError, match="4097"):
        length(filling, "s" * (2 + spare))


def test_a_token_that_is_no_session_of_the_class_is_refused() -> None:
    with pytest.raises(MintError, match="expected a Session, got a str"):
        minted(authority_of(), "ada")
