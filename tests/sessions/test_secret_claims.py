"""Names that look like secrets."""

from __future__ import annotations

import pytest

from jwt_middleware.sessions.issuing import SECRET_CLAIMS, SecretClaims

secrets = SecretClaims(SECRET_CLAIMS)


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "PASSWORD",
        "passwordHash",
        "user_password",
        "passwords",
        "passwd",
        "clientSecret",
        "SECRET-2",
        "apiKey",
        "api_key",
        "API-KEY",
        "APIKey",
        "apikey",
        "apiKeys",
        "myApiKey2",
        "privateKey",
        "cardNumber",
        "creditCard",
        "cards",
        "ssn",
        "SSN",
        "userSSN",
    ],
)
def test_a_name_with_a_denied_word_is_found_however_it_is_written(name: str) -> None:
    assert secrets.named(name)


@pytest.mark.parametrize(
    "name", ["", "userId", "email", "discard", "cardinality", "secretary", "assn", "keyApi", "api"]
)
def test_other_names_are_left_alone(name: str) -> None:
    assert not secrets.named(name)


def test_names_within_are_found_at_any_depth() -> None:
    payload = {"a": [{"b": {"apiKey": 1}}, ({"ssn": {"password": 2}},)], "c": "password"}
    assert list(secrets.within(payload)) == ["apiKey", "ssn", "password"]


def test_the_list_can_be_another_one() -> None:
    own = SecretClaims(["pin code", ""])
    assert own.named("pinCode")
    assert own.named("pincodes")
    assert not own.named("password")
    assert not SecretClaims([]).named("password")
