"""Where keys may be fetched from, and what of an answer is read."""

from __future__ import annotations

import asyncio
import gzip
import ssl

import httpx
import pytest

from jwt_middleware import ConfigError
from jwt_middleware.tokens.jwks_fetch import MAX_BYTES, NoKeySet, create_tls, download, parse_url
from tests.support.issuer import Issuer, reply


@pytest.mark.parametrize(
    "url",
    [
        "https://issuer.example/jwks.json",
        "https://issuer.example:8443/keys?tenant=1",
        "http://localhost:8000/jwks.json",
        "http://127.0.0.1/jwks.json",
        "http://127.8.8.8/jwks.json",
        "http://[::1]:80/jwks.json",
    ],
)
def test_https_and_this_machine_may_be_asked(url: str) -> None:
    assert str(parse_url(url)) == str(httpx.URL(url))


@pytest.mark.parametrize(
    "url",
    [
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
    ],
)
def test_other_urls_are_errors_of_configuration_that_quote_nothing(url: str) -> None:
    with pytest.raises(ConfigError, match="https") as failed:
        parse_url(url)
    assert "password@" not in str(failed.value)


def fetched(answer: bytes) -> tuple[bytes, Issuer]:
    async def ask() -> tuple[bytes, Issuer]:
        async with Issuer("k1").serving() as issuer:
            issuer.saying(answer)
            return await download(httpx.URL(issuer.url), create_tls()), issuer

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "kind", ["application/json", "application/jwk-set+json", "Application/JSON; charset=utf-8", "application/x+json"]
)
def test_json_by_its_own_account_is_read(kind: str) -> None:
    assert fetched(reply(b"{}", kind=kind))[0] == b"{}"


def test_an_answer_without_a_content_type_is_read() -> None:
    assert fetched(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")[0] == b"{}"


def test_it_asks_for_an_uncompressed_answer_and_shows_nothing() -> None:
    (request,) = fetched(reply(b"{}"))[1].asked
    assert b"accept-encoding: identity\r\n" in request.lower()
    assert b"cookie" not in request.lower()
    assert b"authorization" not in request.lower()


def test_the_largest_answer_is_read() -> None:
    assert len(fetched(reply(b" " * MAX_BYTES))[0]) == MAX_BYTES


@pytest.mark.parametrize(
    "answer",
    [
        reply(b"{}", kind="text/html"),
        reply(b"{}", kind="text/plain"),
        reply(b"{}", kind="application/jsonp"),
        reply(b"{}", status="404 Not Found"),
        reply(b"{}", status="500 Internal Server Error"),
        reply(b"{}", status="206 Partial Content"),
        reply(b"", status="204 No Content"),
        reply(b" " * (MAX_BYTES + 1)),
        b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (MAX_BYTES + 1),
        reply(gzip.compress(b" " * 10_000_000), more="Content-Encoding: gzip\r\n"),
        reply(b"{}", more="Content-Encoding: br\r\n"),
    ],
    ids=lambda answer: repr(answer[9:60]),
)
def test_another_answer_is_no_key_set(answer: bytes) -> None:
    with pytest.raises(NoKeySet):
        fetched(answer)


def test_a_redirect_is_not_followed() -> None:
    async def ask() -> int:
        async with Issuer("k1").serving() as elsewhere, Issuer("k1").serving() as issuer:
            issuer.saying(reply(b"", status="302 Found", more=f"Location: {elsewhere.url}\r\n"))
            with pytest.raises(NoKeySet):
                await download(httpx.URL(issuer.url), create_tls())
            return len(elsewhere.asked)

    assert asyncio.run(ask()) == 0


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert fetched(reply(b"{}"))[0] == b"{}"


def test_certificates_are_checked() -> None:
    tls = create_tls()
    assert tls.verify_mode is ssl.CERT_REQUIRED
    assert tls.check_hostname
