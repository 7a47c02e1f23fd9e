"""Two hundred requests a second while the endpoint does its worst: no honest token is refused, and none waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.support.issuer import Issuer, at_once, fetches, pair, reason, remote, reply, until, verifier
from tests.tokens.test_jwks import forged

REQUESTS = 100
A_SECOND = 200


def cut(issuer: Issuer) -> None:
    assert issuer._server is not None
    issuer._server.close()


def slow(issuer: Issuer) -> None:
    issuer.answer = issuer.stalling


def trickling(issuer: Issuer) -> None:
    issuer.answer = issuer.trickling


def lying(issuer: Issuer) -> None:
    lies = [
        reply(b"<html>", kind="text/html"),
        reply(b"{" * 1_000_000),
        reply(b"not json"),
        reply(b'{"keys": []}'),
    ]

    async def lie(writer: asyncio.StreamWriter) -> None:
        writer.write(lies[len(issuer.asked) % len(lies)])

    issuer.answer = lie


def rotating(issuer: Issuer) -> None:
    async def rotate(writer: asyncio.StreamWriter) -> None:
        fresh = f"k{len(issuer.asked)}"
        issuer.pairs[fresh] = pair(fresh)
        issuer.published = ["known", fresh]
        await issuer.honest(writer)

    issuer.answer = rotate


@pytest.mark.parametrize("worst", [cut, slow, trickling, lying, rotating], ids=lambda worst: worst.__name__)
async def test_known_keys_go_on_verifying_at_once(worst: Callable[[Issuer], None]) -> None:
    async with Issuer("known").serving() as issuer:
        keys = remote(issuer, refresh_every=timedelta(milliseconds=20), timeout=timedelta(milliseconds=500))
        authority = verifier(keys)
        tokens = [await issuer.token("known") for _ in range(REQUESTS)]
        assert await reason(authority, await issuer.token("known")) is None
        before = fetches(authority)
        worst(issuer)
        strangers = set()
        for place, token in enumerate(tokens):
            at_once(authority, token)
            strangers.add(asyncio.create_task(reason(authority, forged(f"stranger-{place}"))))
            await asyncio.sleep(1 / A_SECOND)
        assert {await stranger for stranger in strangers} == {"key_unknown"}
        await until(lambda: fetches(authority) != before)
        await authority.aclose()
