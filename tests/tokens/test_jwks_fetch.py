"""Where a key set may be fetched from, which responses are read, and which keys are used."""

from __future__ import annotations

import gzip
import json
import ssl
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from jwt_middleware import ConfigError
from jwt_middleware.tokens.jwks_fetch import (
    MAX_BYTES,
    MAX_KEYS,
    KeySet,
    NoKeySet,
    create_tls,
    download,
    parse_key_set,
    parse_url,
)
from tests.support.issuer import Issuer, pair, public, response

GOOD = public(pair("good"))
OCT = {"kty": "oct", "kid": "secret", "alg": "HS256", "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}


def rsa_jwk(bits: int) -> dict[str, Any]:
    jwk: dict[str, Any] = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, bits).public_key(), as_dict=True)
    return jwk


def published(*members: object) -> bytes:
    return json.dumps({"keys": list(members)}).encode()


def parsed(*members: object, rsa_alg: str = "RS256") -> KeySet:
    return parse_key_set(published(*members), rsa_alg)


async def fetched(answer: bytes) -> bytes:
    async with Issuer("k1").serving() as issuer:
        issuer.saying(answer)
        return await download(httpx.URL(issuer.url), create_tls())


class TestUrl:
    def test_a_set_may_be_fetched_over_https_and_from_this_machine(self) -> None:
        for url in [
            "https://issuer.example/jwks.json",
            "https://issuer.example:8443/keys?tenant=1",
            "http://localhost:8000/jwks.json",
            "http://127.0.0.1/jwks.json",
            "http://127.8.8.8/jwks.json",
            "http://[::1]:80/jwks.json",
        ]:
            assert str(parse_url(url)) == str(httpx.URL(url)), url

    def test_any_other_url_is_a_config_error_that_quotes_nothing(self, subtests: pytest.Subtests) -> None:
        cases: list[Any] = [
            "http://issuer.example/jwks.json",
            "http://10.0.0.1/jwks.json",
            "http://localhost.issuer.example/jwks.json",
            "http://127.0.0.1.issuer.example/jwks.json",
            "ftp://issuer.example/jwks.json",
            "file:///etc/jwks.json",
            "https://user:password@issuer.example/jwks.json",
            "https:///jwks.json",
            "issuer.example/jwks.json",
            "https://issuer.example:port/",
            "",
            None,
        ]
        for url in cases:
            with subtests.test(url=url):
                with pytest.raises(ConfigError, match="https") as failed:
                    parse_url(url)
                assert "password@" not in str(failed.value)


class TestDownload:
    async def test_a_response_of_a_json_type_is_read(self) -> None:
        for kind in [
            "application/json",
            "application/jwk-set+json",
            "Application/JSON; charset=utf-8",
            "application/x+json",
        ]:
            assert await fetched(response(b"{}", kind=kind)) == b"{}", kind

    async def test_a_response_without_a_content_type_is_read(self) -> None:
        assert await fetched(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") == b"{}"

    async def test_the_request_asks_for_no_compression_and_carries_no_credentials(self) -> None:
        async with Issuer("k1").serving() as issuer:
            await download(httpx.URL(issuer.url), create_tls())
        (request,) = issuer.requests
        assert b"accept-encoding: identity\r\n" in request.lower()
        assert b"cookie" not in request.lower()
        assert b"authorization" not in request.lower()

    async def test_the_largest_response_is_read(self) -> None:
        assert len(await fetched(response(b" " * MAX_BYTES))) == MAX_BYTES

    async def test_any_other_response_is_not_a_key_set(self, subtests: pytest.Subtests) -> None:
        for answer in [
            response(b"{}", kind="text/html"),
            response(b"{}", kind="text/plain"),
            response(b"{}", kind="application/jsonp"),
            response(b"{}", status="404 Not Found"),
            response(b"{}", status="500 Internal Server Error"),
            response(b"{}", status="206 Partial Content"),
            response(b"", status="204 No Content"),
            response(b" " * (MAX_BYTES + 1)),
            b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (MAX_BYTES + 1),
            response(gzip.compress(b" " * 10_000_000), more="Content-Encoding: gzip\r\n"),
            response(b"{}", more="Content-Encoding: br\r\n"),
        ]:
            with subtests.test(answer=answer), pytest.raises(NoKeySet):
                await fetched(answer)

    async def test_a_redirect_is_not_followed(self) -> None:
        async with Issuer("k1").serving() as elsewhere:
            with pytest.raises(NoKeySet):
                await fetched(response(b"", status="302 Found", more=f"Location: {elsewhere.url}\r\n"))
            assert elsewhere.requests == []

    async def test_proxies_of_the_environment_are_not_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert await fetched(response(b"{}")) == b"{}"

    def test_certificates_are_checked(self) -> None:
        tls = create_tls()
        assert tls.verify_mode is ssl.CERT_REQUIRED
        assert tls.check_hostname


class TestKeySet:
    def test_an_unusable_key_is_skipped(self, subtests: pytest.Subtests) -> None:
        for unusable in [
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
            {**rsa_jwk(1024), "kid": "weak", "alg": "RS256"},
            "no object",
            None,
            {},
        ]:
            with subtests.test(unusable=unusable):
                assert [key.kid for key in parsed(unusable, GOOD).ring.keys] == ["good"]
                with pytest.raises(NoKeySet):
                    parsed(unusable)

    def test_a_body_that_is_not_a_strict_key_set_is_refused(self, subtests: pytest.Subtests) -> None:
        for body in [
            b"",
            b"<html>",
            b"[]",
            b"{}",
            b'{"keys": []}',
            b'{"keys": {}}',
            b'{"keys": null}',
            b"\xff\xfe{}",
            b'{"keys": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            published(GOOD)[:-1],
            published(GOOD).replace(b'"kid"', b'"kid": "other", "kid"'),
            published(*({**GOOD, "kid": f"k{place}"} for place in range(MAX_KEYS + 1))),
            published({name: value for name, value in GOOD.items() if name != "kid"}, {**GOOD, "kid": "key-1"}),
        ]:
            with subtests.test(body=body), pytest.raises(NoKeySet):
                parse_key_set(body, "RS256")

    def test_the_most_keys_are_read_and_none_can_sign(self) -> None:
        assert len(parsed(*({**GOOD, "kid": f"k{n}"} for n in range(MAX_KEYS))).ring.keys) == MAX_KEYS
        assert parsed(GOOD).ring.signing is None

    def test_of_two_keys_with_one_kid_the_first_is_used_and_all_without_a_kid(self) -> None:
        first, second = public(pair("same")), public(pair("same"))
        assert parsed(first, second).members == [first]
        assert len(parsed(public(pair(None)), public(pair(None))).ring.find(None, "ES256")) == 2

    def test_an_rsa_key_that_names_no_algorithm_has_the_configured_one(self) -> None:
        jwk = rsa_jwk(2048)
        for rsa_alg in ("RS256", "PS512"):
            assert [key.alg for key in parsed(jwk, rsa_alg=rsa_alg).ring.keys] == [rsa_alg]
        assert [key.alg for key in parsed({**jwk, "alg": "RS384"}, rsa_alg="PS256").ring.keys] == ["RS384"]

    def test_a_set_keeps_another_if_every_key_is_there_unchanged(self) -> None:
        other, changed = public(pair("other")), public(pair("good"))
        one, both, renewed = (parsed(*members) for members in ([GOOD], [other, GOOD], [other, changed]))
        assert both.keeps(one)
        assert not one.keeps(both)
        assert not renewed.keeps(both)
