"""The ring: the first signs, all verify, the kid chooses; and how a key comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from jwt_middleware import ConfigError, JWTSessionMiddleware, Key, KeyRing, Reason, Refusal
from jwt_middleware.testing import client
from tests.hostile import vectors
from tests.support.world import EPOCH, FakeClock, Recorder, Session, authority_of

OLD, NEW = "old-old-old-old-old-old-old-old-0001", "new-new-new-new-new-new-new-new-0002"
UNTIL = datetime.fromtimestamp(EPOCH, UTC) + timedelta(days=7, seconds=30)


def reason_of(ring: KeyRing, kid: str | None, alg: str) -> Reason:
    with pytest.raises(Refusal) as caught:
        ring.find(kid, alg)
    return caught.value.reason


def test_the_kid_chooses_and_the_algorithm_must_be_the_keys() -> None:
    ring = KeyRing([Key.hmac(NEW, kid="b"), Key.hmac(OLD, kid="a"), Key.jwk(vectors.RFC7515_A3.jwk, kid="c")])
    assert [key.kid for key in ring.find("a", "HS256")] == ["a"]
    assert reason_of(ring, "c", "HS256") is Reason.ALGORITHM_MISMATCH
    assert reason_of(ring, "a", "ES256") is Reason.ALGORITHM_MISMATCH
    assert reason_of(ring, "d", "HS256") is Reason.KEY_UNKNOWN
    assert reason_of(ring, None, "HS256") is Reason.KEY_UNKNOWN
    assert not asyncio.run(ring.refresh("d"))


def test_a_token_without_kid_tries_only_keys_without() -> None:
    ring = KeyRing([Key.hmac(NEW), Key.hmac(OLD), Key.hmac(OLD * 2, alg="HS512", kid="a")])
    assert [key.id for key in ring.find(None, "HS256")] == ["key-1", "key-2"]
    assert reason_of(ring, None, "HS512") is Reason.ALGORITHM_MISMATCH


def test_both_names_of_ed25519_find_the_key() -> None:
    ring = KeyRing([Key.jwk(vectors.RFC8037_A4.jwk)])
    assert ring.find(None, "EdDSA") == ring.find(None, "Ed25519") == ring.keys


def test_the_first_key_signs() -> None:
    ring = KeyRing([Key.hmac(NEW, kid="new"), Key.hmac(OLD, kid="old")])
    assert ring.signing is ring.keys[0]
    assert KeyRing([Key.hmac(OLD, verify_only=True)]).signing is None


@pytest.mark.parametrize(
    ("keys", "mend"),
    [
        (list, "at least one Key"),
        (lambda: ["secret"], "at least one Key"),
        (lambda: Key.hmac(OLD), r"at least one Key; use KeyRing\(\[Key\.hmac"),
        (lambda: [Key.hmac(OLD, kid="a"), Key.hmac(NEW, kid="a")], "two keys have the kid"),
        (lambda: [Key.hmac(OLD), Key.hmac(NEW, kid="key-1")], "two keys have the kid"),
        (lambda: [Key.hmac(OLD), Key.jwk(vectors.RFC7515_A3.jwk)], "must not be mixed"),
        (lambda: [Key.hmac(OLD, verify_only=True), Key.hmac(NEW)], "put the one that signs first"),
        (lambda: [Key.hmac(OLD, until=UNTIL)], "must not end"),
        (lambda: [Key.hmac("short", allow_short=True, until=UNTIL)], "must not end"),
    ],
)
def test_keys_that_do_not_go_together_fail_at_once(keys: Callable[[], Any], mend: str) -> None:
    with pytest.raises(ConfigError, match=mend):
        KeyRing(keys())


def test_a_secret_and_a_key_pair_with_a_kid_each_go_together() -> None:
    assert len(KeyRing([Key.hmac(OLD), Key.jwk(vectors.RFC7515_A3.jwk, kid="a")]).keys) == 2


def test_a_ring_shows_no_key() -> None:
    assert repr(KeyRing([Key.hmac(OLD)])) == "KeyRing([Key(id='key-1', alg='HS256', can_sign=True)])"


# Rotating, as docs/security.md says: publish, sign, retire.

RINGS = {
    "before": lambda: KeyRing([Key.hmac(OLD, kid="old")]),
    "publish": lambda: KeyRing([Key.hmac(OLD, kid="old"), Key.hmac(NEW, kid="new")]),
    "sign": lambda: KeyRing([Key.hmac(NEW, kid="new"), Key.hmac(OLD, kid="old", verify_only=True, until=UNTIL)]),
    "retire": lambda: KeyRing([Key.hmac(NEW, kid="new")]),
}


@pytest.mark.parametrize(("this", "next_"), [("before", "publish"), ("publish", "sign"), ("sign", "retire")])
async def test_neighbouring_steps_of_a_rotation_run_side_by_side(this: str, next_: str) -> None:
    """Instances are replaced one after the other: what either step mints, the other reads; save what is retired."""

    clock = FakeClock()
    ours, theirs = (authority_of(keys=RINGS[step](), clock=clock) for step in (this, next_))
    for minting, reading in ((ours, theirs), (theirs, ours)):
        token = (await minting.issue(Session(user_id="7"))).token
        assert (await reading.verify(token)).claims["userId"] == "7"


async def test_a_key_that_signed_once_more_after_the_change_is_read_until_its_end() -> None:
    clock = FakeClock()
    token = (await authority_of(keys=RINGS["publish"](), clock=clock).issue(Session(user_id="7"))).token
    recorder = Recorder()
    authority = authority_of(keys=RINGS["sign"](), clock=clock, observers=[recorder])
    headers = [(b"authorization", f"Bearer {token}".encode())]
    clock.advance(7 * 86_400 - 1)
    assert (await authority.authenticate(headers)).result == "accepted"
    clock.advance(31)
    assert (await authority.authenticate(headers)).reason in (Reason.KEY_UNKNOWN, Reason.TOKEN_EXPIRED)


async def test_a_retired_key_is_refused_at_once_also_where_its_token_was_cached() -> None:
    """The end of a key ends what was cached from it: the deadline of an entry never passes it."""
    until = datetime.fromtimestamp(EPOCH + 20, UTC)

    async def page(request: Request) -> JSONResponse:
        return JSONResponse({"user": request.state.session.user_id})

    clock, recorder = FakeClock(), Recorder()
    minting = authority_of(keys=RINGS["before"](), clock=clock)
    token = (await minting.issue(Session(user_id="7", email="a@b.c"))).token
    keys = KeyRing([Key.hmac(NEW, kid="new"), Key.hmac(OLD, kid="old", verify_only=True, until=until)])
    authority = authority_of(keys=keys, clock=clock, observers=[recorder])
    app = JWTSessionMiddleware(Starlette(routes=[Route("/", page)]), authority=authority)
    async with client(app, headers={"authorization": f"Bearer {token}"}) as http:
        assert (await http.get("/")).status_code == 200
        clock.advance(19.9)
        assert (await http.get("/")).status_code == 200
        assert recorder.reasons == [None]  # the second came from the cache
        clock.advance(0.1)
        assert (await http.get("/")).status_code == 401
    assert recorder.reasons == [None, "key_unknown"]


async def test_an_authority_without_the_key_refuses_its_tokens() -> None:
    clock = FakeClock()
    token = (await authority_of(keys=RINGS["publish"](), clock=clock).issue(Session(user_id="7"))).token
    with pytest.raises(Refusal) as caught:
        await authority_of(keys=RINGS["retire"](), clock=clock).verify(token)
    assert caught.value.reason is Reason.KEY_UNKNOWN
