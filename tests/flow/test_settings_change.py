"""A team changes a setting around the payload: no user is logged out, and a log-out stays one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from jwt_middleware import Envelope, Key, KeyRing, MemorySessionStore, Reason, SessionCookie, SessionNotEnded
from jwt_middleware.testing import client, old_token
from tests.support.asgi import foreign_token, scope_of
from tests.support.stores import FakeStore
from tests.support.world import ADA, DAY, EPOCH, SECRET, FakeClock, Session, World, bearer, cookie

LATER = datetime.fromtimestamp(EPOCH + DAY, UTC)
HOST = "https://app.example.com"


class Site(World):
    """``/login?user=…`` and ``/logout`` are public, ``/slow`` answers when ``gate`` opens, every other path echoes."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"sources": [], **settings})
        self.gate = asyncio.Event()
        self.reached = asyncio.Event()
        self.replacing = False

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            response: Response = Response()
            request = Request(scope)
            if scope["path"] == "/login":
                user = Session(user_id=request.query_params.get("user", "1"), email="a@b.c")
                await self.authority.start(response, user, replacing=request if self.replacing else None)
            elif scope["path"] == "/logout":
                await self.authority.end(response, request)
            elif scope["path"] == "/slow":
                self.reached.set()
                await self.gate.wait()
                response = PlainTextResponse("slow")
            else:
                return await self.echo(scope, receive, send)
            return await response(scope, receive, send)

        self.guard(app, public=["/login", "/logout"])

    def browser(self, jar: httpx.Cookies | None = None) -> httpx.AsyncClient:
        return client(self.app, base_url=HOST, cookies=jar)


def shared(**settings: Any) -> dict[str, Any]:
    clock = FakeClock()
    return {"clock": clock, "store": MemorySessionStore(clock=clock), **settings}


async def status(http: httpx.AsyncClient, path: str = "/me", method: str = "GET") -> int:
    return (await http.request(method, path)).status_code


class TestCookieScope:
    @pytest.mark.parametrize("today", [{"domain": "example.com"}, {"path": "/"}], ids=["domain", "host"])
    async def test_a_new_scope_keeps_log_ins_and_a_log_out_ends_all_of_it(self, today: dict[str, str]) -> None:
        parts = shared()
        other = SessionCookie("session", domain="example.com") if "path" in today else SessionCookie("session")
        before = Site(**parts, cookie=other)
        after = Site(
            **parts,
            cookie=SessionCookie("session", **today),  # type: ignore[arg-type]
            also_accept=[Envelope.before(LATER, cookie=other)],
        )
        async with before.browser() as http:
            await http.post("/login")
            jar = http.cookies
        async with after.browser(jar) as http:
            assert await status(http) == 200
            await http.post("/login")
            assert len(http.cookies.jar) == 1
            assert await status(http) == 200
            await http.post("/logout")
            assert (len(http.cookies.jar), await status(http)) == (0, 401)

    async def test_of_two_values_the_newest_log_in_counts_and_a_log_out_ends_both(self) -> None:
        world = Site(**shared())
        first = await world.token()
        world.clock.advance(60)
        second = await world.token()
        for pair in ((first, second), (second, first)):
            both = [(b"cookie", "; ".join(f"__Host-session={token}" for token in pair).encode())]
            outcome = await world.authority.authenticate(both)
            assert outcome.auth_time == EPOCH + 60
        await world.authority.end_token(both)
        assert [await world.reason(token) for token in (first, second)] == ["session_revoked"] * 2

    async def test_two_values_of_two_users_are_ambiguous_unless_one_has_ended(self) -> None:
        world = Site(**shared())
        ada, (bob, bobs) = await world.token(), await world.log_in("2", email="b@b.c")
        both = [(b"cookie", f"__Host-session={ada}; __Host-session={bob}".encode())]
        assert (await world.authority.authenticate(both)).reason is Reason.TOKEN_AMBIGUOUS
        assert (await world.ask(cookie=both[0][1].decode())).status_code == 401
        assert not await world.authority.still_active(Request(scope_of(headers=both)))
        await world.authority.revoke(bobs)
        outcome = await world.authority.authenticate(both)
        assert outcome.subject == "1"
        response = await world.ask(cookie=both[0][1].decode())
        assert response.status_code == 200
        assert await world.authority.still_active(Request(scope_of(headers=both)))
        await world.authority.revoke_user("1")
        assert (await world.authority.authenticate(both)).reason is Reason.SESSION_REVOKED

    async def test_where_the_store_cannot_say_which_counts_it_is_a_503(self) -> None:
        world = Site(store=FakeStore)
        pair = "; ".join([f"__Host-session={await world.token()}" for _ in range(2)])
        world.store.down = True
        assert (await world.ask(cookie=pair)).status_code == 503

    async def test_a_sibling_host_makes_no_user_another_one_for_good(self) -> None:
        """It tosses a valid session of its own into the cookie of a line; the victim is logged out."""
        line = Envelope.before(datetime.fromtimestamp(EPOCH - 60, UTC), cookie=SessionCookie("token"))
        world = Site(**shared(), reissue=True, also_accept=[line])
        attackers = await world.token("666")
        assert (await world.ask(cookie=f"token={attackers}")).status_code == 401
        earlier = await world.old(age=timedelta(hours=1), auth_time=int(EPOCH) - 3600, sid=await self.row(world))
        response = await world.ask(cookie=f"token={earlier}")
        assert (response.status_code, "set-cookie" in response.headers) == (200, False)  # never made to last

    async def row(self, world: World) -> str:
        now, world.clock.wall = world.clock.wall, EPOCH - 3600
        _, session_id = await world.log_in()
        world.clock.wall = now
        return session_id


class TestLogOut:
    async def test_it_ends_every_token_that_the_request_shows(self) -> None:
        line = Envelope.before(LATER, cookie=SessionCookie("token"))
        world = Site(**shared(), also_accept=[line])
        tokens = [await world.token() for _ in range(4)]
        names = ("__Host-session", "__Host-session", "token")
        pairs = "; ".join(f"{name}={token}" for name, token in zip(names, tokens, strict=False))
        gone = await world.ask("/logout", "POST", cookie=pairs, headers={"authorization": f"Bearer {tokens[3]}"})
        assert [value.split(";")[0] for value in gone.headers.get_list("set-cookie")] == ["__Host-session=", "token="]
        assert [await world.reason(token) for token in tokens] == ["session_revoked"] * 4

    async def test_a_token_that_another_rule_refuses_here_is_ended_for_the_other_instances(self) -> None:
        parts = shared()
        elsewhere, here = Site(**parts, audience="next"), Site(**parts)
        token = await elsewhere.token()
        assert await here.reason(token) == "audience_mismatch"
        await here.authority.end_token(cookie(token))
        assert await elsewhere.reason(token) == "session_revoked"

    async def test_a_token_without_sid_is_ended_whatever_its_payload_becomes(self) -> None:
        parts = shared()
        minting = Site(**{**parts, "store": None})
        old = old_token(minting.authority, {"userId": "1"})
        world = Site(**parts, reissue=True, also_accept=[Envelope.before(LATER, store=None)])
        reissued = await self.reissue(world, old)
        assert await world.reason(reissued) is None
        await world.authority.end_token(cookie(old))
        assert [await world.reason(token) for token in (old, reissued)] == ["session_revoked"] * 2

    async def test_a_token_whose_subject_had_another_name_is_ended(self) -> None:
        def renamed(claims: dict[str, Any]) -> dict[str, Any]:
            user_id = claims.pop("uid")
            return {**claims, "userId": user_id}

        world = Site(**shared(), schema={"upgrades": {1: renamed}}, also_accept=[Envelope.before(LATER, store=None)])
        token = old_token(world.authority, {"uid": "1"}, sid=None)
        assert await world.reason(token) is None
        await world.authority.end_token(cookie(token))
        assert await world.reason(token) == "session_revoked"

    async def test_a_known_session_ends_whatever_its_payload_means_here(self) -> None:
        """The release before cannot read the subject of a token that the next one minted."""
        parts = shared()
        old, new = Site(**parts, schema={"subject": "userId"}), Site(**parts, schema={"version": 3, "oldest": 3})
        _, session_id = await new.log_in()
        odd = old_token(old.authority, {"uid": "1"}, sid=session_id, version=3)
        await old.authority.end_token(cookie(odd))
        early = old_token(new.authority, {"userId": "1"}, sid=(await new.log_in())[1])
        await new.authority.end_token(cookie(early))  # payload_too_old here
        assert await new.authority.sessions_of("1") == []

    async def test_a_session_without_sid_keeps_its_id_where_a_step_changes_its_subject(self) -> None:
        parts = shared()
        line = Envelope.before(LATER, store=None)
        step = {"upgrades": {1: lambda claims: {**claims, "userId": "user:" + claims["userId"]}}}
        world = Site(**parts, reissue=True, schema=step, also_accept=[line])
        old = old_token(world.authority, {"userId": "1"}, sid=None)
        response = await world.get(old)
        assert (response.status_code, "set-cookie" in response.headers) == (200, False)
        await world.authority.end_token(cookie(old))
        assert await world.reason(old) == "session_revoked"

    async def test_no_length_of_the_cookie_header_and_no_exp_hides_a_token(self) -> None:
        world = Site(**shared(), also_accept=[Envelope.before(LATER, store=None)])
        token = await world.token()
        await world.authority.end_token([(b"cookie", b"p=" + b"x" * 66_000 + b"; __Host-session=" + token.encode())])
        assert await world.reason(token) == "session_revoked"
        for exp in (1e14, 1e300):
            await world.authority.end_token(cookie(old_token(world.authority, {"userId": "1"}, sid=None, exp=exp)))

    async def test_a_foreign_token_is_ended_wherever_it_is_found(self) -> None:
        lines = [Envelope.before(LATER, cookie=SessionCookie("token")), Envelope.foreign()]
        world = Site(**shared(), also_accept=lines)
        token = foreign_token(SECRET.encode(), {"userId": "1", "iat": EPOCH - 60, "exp": EPOCH + 60})
        assert await world.reason(token) is None
        await world.authority.end_token(cookie(token, "token"))
        assert await world.reason(token) == "session_revoked"

    async def test_a_store_that_is_away_is_not_called_for_every_token(self) -> None:
        world = Site(store=FakeStore)
        tokens = [await world.token() for _ in range(20)]
        world.store.writes_fail = "before"
        with pytest.raises(SessionNotEnded):
            await world.authority.end_token([(b"cookie", b"; ".join(cookie(each)[0][1] for each in tokens))])
        assert len(world.store.revoked) == 4

    async def test_an_own_token_that_no_instance_accepts_needs_no_ending(self) -> None:
        world = Site(store=FakeStore)
        token = old_token(world.authority, {"userId": "1"}, iat=None, auth_time=None)
        world.store.writes_fail = "before"
        assert len(await world.authority.end_token(cookie(token))) == 1

    async def reissue(self, world: World, token: str) -> str:
        [set_cookie] = (await world.get(token)).headers.get_list("set-cookie")
        return str(set_cookie.partition("=")[2].partition(";")[0])

    async def test_no_answer_in_flight_brings_the_cookie_back(self) -> None:
        for store in (None, MemorySessionStore):
            world = Site(store=store, reissue=True)
            old = await world.old()
            async with world.browser() as http:
                http.cookies.set("__Host-session", old, domain="app.example.com")
                slow = asyncio.create_task(http.get("/slow"))
                await world.reached.wait()
                await http.post("/logout")
                world.gate.set()
                answer = await slow
                assert answer.status_code == 200
                assert "set-cookie" not in answer.headers
                assert await status(http) == 401
            world.clock.advance(61)

    async def test_a_store_that_fails_is_answered_503_and_the_cookies_are_cleared(self) -> None:
        world = Site(store=FakeStore)
        token = await world.token()
        world.store.writes_fail = "before"
        response = await world.ask("/logout", "POST", cookie=f"__Host-session={token}")
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert response.headers["set-cookie"].startswith("__Host-session=; Max-Age=0")
        assert response.json() == {"type": "about:blank", "title": "Service Unavailable", "status": 503}
        assert (await world.ask("/login", "POST")).status_code == 503
        assert "set-cookie" not in (await world.ask("/login", "POST")).headers

    async def test_a_log_in_replaces_the_session_that_the_browser_had(self) -> None:
        world = Site(**shared())
        async with world.browser() as http:
            await http.post("/login?user=7")
            first = http.cookies["__Host-session"]
            await http.post("/login?user=8")
            assert await world.reason(first) is None  # a second device, for all that the server knows
            second = http.cookies["__Host-session"]
            world.replacing = True
            await http.post("/login?user=9")
            assert await world.reason(second) == "session_revoked"
            assert await status(http) == 200


def rotations() -> list[tuple[str, KeyRing, KeyRing, KeyRing]]:
    """Today's keys; release 1, which reads the next key too; release 2, which signs with it."""
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    hs, es = Key.hmac(SECRET, kid="hs"), Key.pem(pem, kid="es")
    new = Key.hmac("another secret, of the next release 2", kid="new")
    return [
        ("HS256 to ES256", KeyRing([hs]), KeyRing([hs, es]), KeyRing([es, hs])),
        ("a rotated secret", KeyRing([hs]), KeyRing([hs, new]), KeyRing([new, hs])),
    ]


class TestKeys:
    async def test_a_key_is_replaced_in_two_releases_and_no_token_is_refused(self) -> None:
        for name, *rings in rotations():
            parts = shared()
            today, first, second = (Site(**parts, keys=ring) for ring in rings)
            for running, next_ in ((today, first), (first, second)):  # rolling out, and rolled back
                for minting in (running, next_):
                    token = await minting.token()
                    for reading in (running, next_):
                        assert await reading.reason(token) is None, name


class TestSubject:
    """``sub`` was a user name and becomes the user's id, which a step knows."""

    async def test_a_row_and_marks_count_under_either_spelling(self) -> None:
        ids = {"ada": "17"}
        parts = shared()
        before = Site(**parts, schema={"version": 2})
        after = Site(
            **parts,
            reissue=True,
            schema={"version": 3, "upgrades": {2: lambda claims: {**claims, "userId": ids[claims["userId"]]}}},
        )
        token, session_id = await before.log_in("ada", email="a@b.c")
        assert await after.reason(token) is None
        assert (await after.authority.authenticate(bearer(token))).subject == "17"
        for revoked in ("ada", "17"):
            parts["clock"].advance(1)
            await after.authority.revoke_user(revoked)
            assert await after.reason(token) == "session_revoked"
            parts["clock"].advance(1)
            token, session_id = await before.log_in("ada", email="a@b.c")
            assert await after.reason(token) is None
        [set_cookie] = (await after.get(token)).headers.get_list("set-cookie")
        reissued = set_cookie.partition("=")[2].partition(";")[0]
        assert (await after.authority.verify(reissued)).claims["userId"] == "17"
        assert [await after.reason(each) for each in (token, reissued)] == [None, None]
        await after.authority.revoke(session_id)
        assert [await after.reason(each) for each in (token, reissued)] == ["session_revoked"] * 2

    async def test_a_row_of_another_user_is_no_row(self) -> None:
        parts = shared()
        world = Site(**parts)
        _, session_id = await world.log_in("2", email="b@b.c")
        forged = old_token(world.authority, {"userId": "1"}, sid=session_id)
        assert await world.reason(forged) == "session_unknown"
        assert ADA.user_id == "1"
