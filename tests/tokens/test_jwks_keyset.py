"""What of a key set is used, and what of it is passed over."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from jwt_middleware.tokens.jwks_fetch import MAX_KEYS, NoKeySet, parse_key_set
from tests.support.issuer import pair, public

GOOD = public(pair("good"))
OCT = {"kty": "oct", "kid": "secret", "alg": "HS256", "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}
RSA: dict[str, Any] = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048).public_key(), as_dict=True)
WEAK: dict[str, Any] = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key(), as_dict=True)


def written(*members: object) -> bytes:
    return json.dumps({"keys": list(members)}).encode()


@pytest.mark.parametrize(
    "unusable",
    [
        OCT,
        {"kty": "oct", "kid": "no-secret"},
        {**GOOD, "kid": "mixed", "k": OCT["k"]},
        pair("private"),
        {**GOOD, "kid": "enc", "use": "enc"},
        {**GOOD, "kid": "ops", "key_ops": ["encrypt"]},
        {**GOOD, "kid": "kty", "kty": "LWE"},
        {**GOOD, "kid": "curve", "crv": "secp256k1"},
        {**GOOD, "kid": "alg", "alg": "RS256"},
        {**GOOD, "kid": "none", "alg": "none"},
        {**GOOD, "kid": "two words"},
        {**GOOD, "kid": 7},
        {**GOOD, "alg": ["ES256"], "kid": "list"},
        {**GOOD, "x": "", "kid": "empty"},
        {**WEAK, "kid": "weak", "alg": "RS256"},
        "no object",
        None,
        {},
    ],
)
def test_an_unusable_key_is_passed_over_and_is_no_key_set_by_itself(unusable: object) -> None:
    assert [key.kid for key in parse_key_set(written(unusable, GOOD), "RS256").ring.keys] == ["good"]
    with pytest.raises(NoKeySet):
        parse_key_set(written(unusable), "RS256")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"keys": []}',
        b'{"keys": {}}',
        b'{"keys": null}',
        b"\xff\xfe{}",
        b'{"keys": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        written(GOOD)[:-1],
        written(GOOD).replace(b'"kid"', b'"kid": "other", "kid"'),
        written(*({**GOOD, "kid": f"k{place}"} for place in range(MAX_KEYS + 1))),
        written({name: value for name, value in GOOD.items() if name != "kid"}, {**GOOD, "kid": "key-1"}),
    ],
    ids=lambda body: repr(body[:30]),
)
def test_what_is_no_strict_set_of_keys_is_refused(body: bytes) -> None:
    with pytest.raises(NoKeySet):
        parse_key_set(body, "RS256")


def test_the_most_keys_are_read() -> None:
    assert (
        len(parse_key_set(written(*({**GOOD, "kid": f"k{n}"} for n in range(MAX_KEYS))), "RS256").ring.keys) == MAX_KEYS
    )


def test_of_two_keys_with_one_kid_the_first_is_used() -> None:
    first, second = public(pair("same")), public(pair("same"))
    assert parse_key_set(written(first, second), "RS256").members == [first]


def test_several_keys_without_a_kid_stand_side_by_side() -> None:
    assert len(parse_key_set(written(public(pair(None)), public(pair(None))), "RS256").ring.find(None, "ES256")) == 2


@pytest.mark.parametrize("alg", ["RS256", "PS512"])
def test_an_rsa_key_that_names_no_algorithm_has_the_configured_one(alg: str) -> None:
    assert [key.alg for key in parse_key_set(written(RSA), alg).ring.keys] == [alg]


def test_an_rsa_key_that_names_its_algorithm_has_that_one() -> None:
    assert [key.alg for key in parse_key_set(written({**RSA, "alg": "RS384"}), "PS256").ring.keys] == ["RS384"]


def test_a_set_keeps_another_if_every_key_is_there_unchanged() -> None:
    other, changed = public(pair("other")), public(pair("good"))
    one, both, renewed = (
        parse_key_set(written(*members), "RS256") for members in ([GOOD], [other, GOOD], [other, changed])
    )
    assert both.keeps(one)
    assert not one.keeps(both)
    assert not renewed.keeps(both)


def test_no_key_of_a_set_can_sign() -> None:
    assert parse_key_set(written(GOOD), "RS256").ring.signing is None
