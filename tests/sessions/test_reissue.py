"""Reissue: the response to an old cookie sets one of today's payload, once, and only where nothing forbids it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import pytest
from starlette.types import Receive, Scope, Send

from jwt_middleware import Claim, Envelope, Key, KeyRing, LookupLimits, MemorySessionStore, SessionCookie
from jwt_middleware.errors import Reason, Refusal
from jwt_middleware.testing import old_token
from jwt_middleware.types import SessionKey, SessionStatus
from tests.support.asgi import counts, foreign_token, scope_of
from tests.support.lookups import turns
from tests.support.stores import FakeStore, opened
from tests.support.world import DAY, EPOCH, ROWLESS, SECRET, WEEK, Session, World, cookie, cookie_of, digest


@dataclass(slots=True, kw_only=True)
class Renamed:
    user_id: Annotated[str, Claim("userId")]
    company_id: Annotated[str, Claim("companyId")]


def org_to_company(claims: dict[str, Any]) -> dict[str, Any]:
    return {"userId": claims["userId"], "companyId": claims["org"]}


def company_to_org(claims: dict[str, Any]) -> dict[str, Any]:
    return {"userId": claims["userId"], "org": claims["companyId"]}


class TestNewCookie:
    async def test_an_old_cookie_is_answered_with_todays(self) -> None:
        world = World(reissue=True)
        old = await world.old({"role": "admin"}, tenant={"shard": 7})
        response = await world.get(old)
        new = cookie_of(response)
        assert new is not None
        before, after = await world.claims(old), await world.claims(new)
        assert after == {
            **before,  # iat, exp, sid, auth_time, and the tenant of which the schema knows nothing
            "version": 2,
            "companyId": "none",
            "email": "ada@example.com",
            "permissions": ["read"],
        }
        assert response.headers["cache-control"] == "no-store"
        assert f"Max-Age={5 * DAY}; Path=/; Secure; HttpOnly; SameSite=Lax" in response.headers["set-cookie"]
        row = await world.row()
        assert (row.session_token, row.expires_at.timestamp()) == (digest(new), before["exp"])
        assert world.reissued == {("2", "reissue"): 1}

    async def test_a_name_that_only_a_step_added_is_left_out_and_a_renamed_one_goes(self) -> None:
        def step(claims: dict[str, Any]) -> dict[str, Any]:
            role = claims.pop("rank")
            return {**claims, "role": role, "scratch": 1}

        world = World(reissue=True, schema={"upgrades": {1: step}})
        after = await world.exchange(await world.old({"rank": "admin"}, tenant="t"))
        assert (after["role"], after["tenant"]) == ("admin", "t")
        assert not {"scratch", "rank"} & after.keys()

    async def test_a_reissue_leaves_the_end_of_the_row_alone(self) -> None:
        world = World(reissue=True)
        old = await world.old(iat=int(EPOCH) - DAY, exp=int(EPOCH) + 6 * DAY)
        before = await world.row()
        assert cookie_of(await world.get(old)) is not None
        assert (await world.row()).expires_at == before.expires_at

    async def test_a_session_pays_the_fallback_once(self) -> None:
        world = World(reissue=True)
        new = cookie_of(await world.get(await world.old()))
        assert new is not None
        asked = world.users.asked
        for _ in range(3):
            response = await world.get(new)
            assert "set-cookie" not in response.headers
            assert "cache-control" not in response.headers
        assert world.users.asked == asked == 1
        assert world.echo.session.email == "ada@example.com"
        assert world.echo.token.filled == ()

    async def test_nothing_is_reissued_by_default(self) -> None:
        world = World()
        assert cookie_of(await world.get(await world.old())) is None

    def test_a_series_is_zero_from_the_start_where_it_is_configured(self) -> None:
        by_setting: dict[str, Any] = {"reissue": True, "renew_within": timedelta(1)}
        for names, triggers in (([], []), (["reissue"], ["reissue"]), (["renew_within"], ["renew"])):
            world = World(**{name: by_setting[name] for name in names})
            issued = counts(world.authority, "tokens.issued", zeros=True)
            assert [trigger for _, trigger in issued] == ["start", *triggers]
            assert set(issued.values()) == {0}

    async def test_without_a_store_there_is_no_row_to_update(self) -> None:
        world = World(reissue=True, store=None)
        assert (await world.exchange(await world.old()))["email"] == "ada@example.com"

    async def test_a_token_of_todays_version_that_lacks_a_claim_is_completed(self) -> None:
        world = World(reissue=True)
        new = cookie_of(await world.get(await world.old(version=2)))
        assert new is not None
        assert (await world.claims(new))["email"] == "ada@example.com"
        assert cookie_of(await world.get(new)) is None

    async def test_a_default_that_is_no_stand_in_is_minted(self) -> None:
        world = World(reissue=True, sources=[])
        assert (await world.exchange(await world.old()))["email"] == "Unknown"

    async def test_an_upgrade_step_alone_reissues_and_keeps_every_time(self) -> None:
        world = World(Renamed, reissue=True, sources=[], schema={"upgrades": {1: org_to_company}}, store=None)
        old = old_token(world.authority, {"userId": "1", "org": "acme"}, age=timedelta(days=2))
        before = await world.claims(old)
        assert before.pop("org") == "acme"
        assert await world.exchange(old) == {**before, "version": 2, "companyId": "acme"}

    async def test_a_handler_that_changes_its_session_changes_no_token(self) -> None:
        world = World(reissue=True)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope["state"]["session"].role = "admin"
            scope["state"]["session"].permissions.append("everything")
            await world.echo(scope, receive, send)

        world.guard(app)
        claims = await world.exchange(await world.old())
        assert (claims["role"], claims["permissions"]) == ("user", ["read"])


class TestReadersBeforeWriters:
    async def test_a_token_is_brought_to_the_shape_that_is_minted_and_no_further(self) -> None:
        @dataclass(slots=True, kw_only=True)
        class Three(Renamed):
            email: Annotated[str, Claim(since=3)] = "Unknown"

        schema = {"version": 3, "mints": 2, "upgrades": {1: org_to_company}}
        world = World(Three, reissue=True, schema=schema, sources=[], store=None)
        old = old_token(world.authority, {"userId": "1", "org": "acme"})
        new = cookie_of(await world.get(old))
        assert new is not None
        claims = await world.claims(new)
        assert (claims["version"], claims["companyId"]) == (2, "acme")
        assert "email" not in claims
        assert cookie_of(await world.get(new)) is None

    async def test_the_oldest_version_minted_by_a_downgrade_is_not_reissued(self) -> None:
        schema = {"version": 3, "mints": 1, "upgrades": {1: org_to_company}, "downgrades": {2: company_to_org}}
        world = World(Renamed, reissue=True, schema=schema, sources=[], store=None)
        old = old_token(world.authority, {"userId": "1", "org": "acme"})
        assert cookie_of(await world.get(old)) is None


class TestNever:
    async def test_never_for_a_token(self) -> None:
        tokens: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
            "while version 1 is minted": ({"schema": {"mints": 1}}, {"version": 1}),
            "of version 2 while version 1 is minted": ({"schema": {"mints": 1}}, {"version": 2}),
            "foreign": ({"also_accept": [Envelope.foreign()], "store": None}, {"typ": "JWT"}),
            "foreign, with a store": ({"also_accept": [Envelope.foreign()]}, {"typ": "JWT"}),
            "expired, within the leeway of 30 seconds": ({}, {"exp": int(EPOCH) - 5}),
            "with a name that no log-in would mint": ({}, {"api_key": "x"}),
            "longer than a cookie": ({}, {"role": "x" * 5_000}),
        }
        for which, (settings, token) in tokens.items():
            world = World(reissue=True, **settings)
            response = await world.get(await world.old(**token))
            assert (response.status_code, cookie_of(response), world.reissued) == (200, None, {}), which

    async def test_never_for_a_bearer_token(self) -> None:
        world = World(reissue=True)
        response = await world.ask(bearer=await world.old())
        assert (response.status_code, cookie_of(response)) == (200, None)
        assert world.reissued == {}

    async def test_never_on_a_public_path(self) -> None:
        world = World(reissue=True, public=["/open"])
        old = await world.old()
        assert cookie_of(await world.get(old, "/open")) is None
        assert cookie_of(await world.get(old, "/closed")) is not None

    async def test_never_where_the_response_speaks_against_it_and_then_on_the_next(self) -> None:
        for name, value in (
            ("cache-control", "public, max-age=60"),
            ("cache-control", "no-cache"),
            ("set-cookie", "__Host-session=; Max-Age=0; Path=/; Secure"),
        ):
            world = World(reissue=True, headers=[(name.encode(), value.encode())])
            old = await world.old()
            response = await world.get(old)
            assert response.headers.get_list(name) == [value]
            assert response.headers.get_list("set-cookie") == ([value] if name == "set-cookie" else [])
            world.echo.headers.clear()
            assert cookie_of(await world.get(old)) is not None

    async def test_never_with_a_304(self) -> None:
        world = World(reissue=True)

        async def unchanged(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 304})
            await send({"type": "http.response.body", "body": b""})

        world.guard(unchanged)
        assert cookie_of(await world.get(await world.old())) is None

    async def test_never_for_a_newer_payload(self) -> None:
        world = World(reissue=True)
        assert cookie_of(await world.get(await world.old({"email": ""}, version=3))) is None
        assert world.users.asked == 1

    async def test_never_for_what_a_short_key_signed(self) -> None:
        short = Key.hmac(
            "short", kid=None, allow_short=True, until=datetime.fromtimestamp(EPOCH + WEEK, UTC), verify_only=True
        )
        world = World(
            reissue=True,
            keys=KeyRing([Key.hmac(SECRET, kid=None), short]),
            also_accept=[Envelope.foreign()],
            store=None,
        )
        claims = await world.claims(await world.old())
        response = await world.get(foreign_token(b"short", claims))
        assert (response.status_code, cookie_of(response)) == (200, None)
        assert (await world.get(foreign_token(b"short", claims, typ="session+jwt"))).status_code == 401
        own = foreign_token(SECRET.encode(), claims, typ="session+jwt")
        assert cookie_of(await world.get(own)) is not None

    @pytest.mark.parametrize("rows", [{}, {"1": {"email": None}}, {"1": {"email": 7.5}}, None])
    async def test_never_from_a_default_that_stands_in_for_a_failed_lookup(self, rows: dict[str, Any] | None) -> None:
        world = World(reissue=True)
        world.users.rows, world.users.down = rows or {}, rows is None
        response = await world.get(await world.old())
        assert (response.status_code, cookie_of(response)) == (200, None)
        assert world.echo.session.email == "Unknown"
        assert world.reissued == {}

    async def test_never_for_a_session_that_was_revoked_elsewhere_a_moment_ago(self) -> None:
        world = World(reissue=True)
        old = await world.old()
        world.echo.headers.append((b"cache-control", b"public"))
        assert (await world.get(old)).status_code == 200
        world.echo.headers.clear()
        await world.store.revoke((await world.row()).id)  # as another process does: this one does not know
        response = await world.get(old)
        assert (response.status_code, cookie_of(response)) == (200, None)

    async def test_a_mark_of_elsewhere_counts_too(self) -> None:
        world = World(reissue=True)
        old = await world.old()
        world.echo.headers.append((b"cache-control", b"public"))
        await world.get(old)
        world.echo.headers.clear()
        await world.store.revoke_user("1")
        assert cookie_of(await world.get(old)) is None

    async def test_the_check_before_a_reissue_joins_no_query_that_left_earlier(self) -> None:
        class Held(MemorySessionStore):
            """Reads the rows at once and answers when a test lets it."""

            go = asyncio.Event()

            async def statuses(self, keys: Collection[SessionKey]) -> Mapping[SessionKey, SessionStatus]:
                statuses = await super().statuses(keys)
                await self.go.wait()
                return statuses

        world = World(reissue=True, store=Held)
        store = world.store

        async def revoked_meanwhile(scope: Scope, receive: Receive, send: Send) -> None:
            world.clock.advance(5)  # max_staleness: the next request asks the store
            store.go.clear()
            earlier.append(asyncio.create_task(world.reason(old)))
            await turns()
            await store.revoke_user("1")
            asyncio.get_running_loop().call_later(0.01, store.go.set)
            await world.echo(scope, receive, send)

        earlier: list[asyncio.Task[str | None]] = []
        world.guard(revoked_meanwhile)
        store.go.set()
        old = await world.old()
        assert cookie_of(await world.get(old)) is None
        assert await earlier[0] is None  # the session was active when this was asked

    async def test_never_where_the_session_ends_while_the_app_works(self) -> None:
        world = World(reissue=True)

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            world.clock.advance(10)
            await world.echo(scope, receive, send)

        world.guard(slow)
        assert cookie_of(await world.get(await world.old(exp=int(EPOCH) + 5))) is None

    @pytest.mark.parametrize(("left", "max_age"), [(1.5, "1"), (1.0, "1"), (0.5, None)])
    async def test_never_in_the_last_second_of_a_session(self, left: float, max_age: str | None) -> None:
        world = World(reissue=True)
        old = await world.old(exp=int(EPOCH) + 2)
        world.clock.advance(2 - left)
        response = await world.get(old)
        assert response.status_code == 200
        ages = re.findall("Max-Age=([0-9]+);", response.headers.get("set-cookie", ""))
        assert ages == ([] if max_age is None else [max_age])

    async def test_never_for_another_subject_than_the_tokens(self) -> None:
        @dataclass(slots=True, kw_only=True)
        class Shouting(Session):
            def __post_init__(self) -> None:
                self.user_id = self.user_id.upper()

        world = World(Shouting, reissue=True, store=None, sources=[])
        old = old_token(world.authority, {"userId": "ada"})
        response = await world.get(old)
        assert (response.status_code, cookie_of(response)) == (200, None)

    async def test_where_the_update_fails_the_next_response_sets_the_cookie(self) -> None:
        world = World(reissue=True, store=FakeStore)
        old = await world.old()
        world.store.writes_fail = "before"
        response = await world.get(old)
        assert (response.status_code, response.text, cookie_of(response)) == (200, "ok", None)
        assert world.reissued == {}
        world.store.writes_fail = ""
        assert cookie_of(await world.get(old)) is not None

    async def test_where_the_row_is_deleted_after_the_check_there_is_no_cookie(self) -> None:
        class Lagging(MemorySessionStore):
            async def replace_token(self, key: SessionKey, **values: Any) -> bool:
                del self._rows[key.session_id or ""]
                return await super().replace_token(key, **values)

        world = World(reissue=True, store=Lagging)
        response = await world.get(await world.old())
        assert (response.status_code, response.text, cookie_of(response)) == (200, "ok", None)
        assert world.reissued == {}

    async def test_a_response_waits_for_its_cookie_no_longer_than_for_a_lookup(self) -> None:
        class Hanging(MemorySessionStore):
            async def replace_token(self, key: SessionKey, **values: Any) -> bool:
                return await asyncio.get_running_loop().create_future() is None

        world = World(reissue=True, store=Hanging, lookups=LookupLimits(timeout=timedelta(seconds=1)))
        response = await world.get(await world.old())
        assert (response.status_code, response.text, cookie_of(response)) == (200, "ok", None)


class TestMiddleware:
    async def test_an_optional_path_reissues_too(self) -> None:
        world = World(reissue=True, optional=["/maybe"])
        assert cookie_of(await world.get(await world.old(), "/maybe")) is not None
        assert cookie_of(await world.ask("/maybe")) is None

    async def test_nested_middleware_sends_one_cookie(self) -> None:
        world = World(reissue=True)
        world.app = world.guard(world.app)
        assert cookie_of(await world.get(await world.old())) is not None
        assert world.reissued == {("2", "reissue"): 1}

    async def test_a_refusal_carries_no_cookie(self) -> None:
        world = World(reissue=True)

        async def refusing(scope: Scope, receive: Receive, send: Send) -> None:
            raise Refusal(Reason.TOKEN_MISSING)

        world.guard(refusing)
        response = await world.get(await world.old())
        assert (response.status_code, cookie_of(response)) == (401, None)

    async def test_a_websocket_is_left_alone(self) -> None:
        async def accepting(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "websocket.accept", "headers": []})

        world = World(reissue=True)
        world.guard(accepting, trusted_origins=["https://testserver"])
        headers = [*cookie(await world.old()), (b"origin", b"https://testserver")]
        assert await world.send(scope_of(kind="websocket", headers=headers)) == [
            {"type": "websocket.accept", "headers": []}
        ]
        assert world.reissued == {}

    async def test_an_older_cookie_name_gets_the_new_one(self) -> None:
        line = Envelope.before(datetime.fromtimestamp(EPOCH + DAY, UTC), cookie=SessionCookie("__Host-token"))
        world = World(reissue=True, also_accept=[line])
        response = await world.ask(cookie=f"__Host-token={await world.old()}")
        assert cookie_of(response) is not None
        world.echo.headers.append((b"set-cookie", b"__Host-token=; Max-Age=0"))
        assert cookie_of(await world.ask(cookie=f"__Host-token={await world.old()}")) is None

    async def test_a_name_that_a_sibling_host_can_set_gets_none(self) -> None:
        line = Envelope.before(datetime.fromtimestamp(EPOCH + DAY, UTC), cookie=SessionCookie("token"))
        for today, expected in ((SessionCookie(), False), (SessionCookie("plain"), True)):
            world = World(reissue=True, also_accept=[line], cookie=today)
            response = await world.ask(cookie=f"token={await world.old()}")
            assert response.status_code == 200
            assert ("set-cookie" in response.headers) is expected, today.name

    async def test_a_token_of_another_version_claim_keeps_it_so_that_its_line_admits_it(self) -> None:
        line = Envelope.before(
            datetime.fromtimestamp(EPOCH + DAY, UTC), version_claim="v", window=timedelta(days=30), audience=None
        )
        world = World(reissue=True, audience="app", also_accept=[line])
        former = World(clock=world.clock, store=world.store, window=timedelta(days=30), schema={"version_claim": "v"})
        old = old_token(former.authority, {"userId": "1"}, version=1, sid=(await former.log_in())[1])
        new = cookie_of(await world.get(old))
        assert new is not None
        assert await world.reason(new) is None
        after = await world.claims(new)
        assert (after["v"], "version" in after) == (2, False)

    async def test_a_release_without_a_store_reissues_what_one_with_a_store_minted(self) -> None:
        world = World(reissue=True, store=None)
        old = await world.old(sid="0b3f6a0e-5a0c-4f5e-8b1c-6d8a1f0c2e11")
        assert (await world.exchange(old))["sid"] == "0b3f6a0e-5a0c-4f5e-8b1c-6d8a1f0c2e11"

    async def test_an_own_token_without_sid_keeps_what_surrounds_its_payload(self) -> None:
        for settings in ({"store": None}, {"also_accept": [ROWLESS]}):
            world = World(reissue=True, audience="app", **settings)
            old = await world.old(sid=None)
            before, after = await world.claims(old), await world.exchange(old)
            assert after["email"] == "ada@example.com"
            for name in ("iat", "exp", "auth_time", "aud"):
                assert after[name] == before[name]
            assert "sid" not in after


class TestConcurrency:
    async def test_twenty_parallel_requests_with_one_old_cookie_are_all_served(self, database_url: str) -> None:
        async with opened(database_url) as store:
            world = World(reissue=True, store=store)
            world.clock.wall = datetime.now(UTC).timestamp()  # PostgreSQL has its own clock
            old = await world.old(age=timedelta(0))
            responses = await asyncio.gather(*(world.get(old) for _ in range(20)))
            assert [response.status_code for response in responses] == [200] * 20
            new = {token for response in responses if (token := cookie_of(response)) is not None}
            assert (await world.row()).session_token in {digest(token) for token in new}
            for token in [old, *new]:
                assert (await world.get(token)).status_code == 200
            await world.authority.aclose()

    async def test_parallel_requests_of_one_session_write_its_row_once(self) -> None:
        class Counting(MemorySessionStore):
            written = 0

            async def replace_token(self, key: SessionKey, **values: Any) -> bool:
                self.written += 1
                await asyncio.sleep(0.01)
                return await super().replace_token(key, **values)

        world = World(reissue=True, store=Counting)
        old = await world.old()
        responses = await asyncio.gather(*(world.get(old) for _ in range(20)))
        assert sum(cookie_of(response) is not None for response in responses) == world.store.written == 1

    async def test_a_release_moment_updates_two_rows_at_a_time(self) -> None:
        class Crowded(MemorySessionStore):
            inside = most = 0

            async def replace_token(self, key: SessionKey, **values: Any) -> bool:
                self.inside += 1
                self.most = max(self.most, self.inside)
                await asyncio.sleep(0)
                self.inside -= 1
                return await super().replace_token(key, **values)

        world = World(reissue=True, store=Crowded)
        olds = [await world.old() for _ in range(30)]
        responses = await asyncio.gather(*(world.get(old) for old in olds))
        assert all(cookie_of(response) is not None for response in responses)
        assert world.store.most == 2

    async def test_the_outcome_shows_no_claims_of_a_reissue_in_its_repr(self) -> None:
        world = World(reissue=True)
        old = await world.old()
        outcome = await world.authority.authenticate(cookie(old))
        assert outcome.renewal is not None
        assert "ada@example.com" not in repr(outcome.renewal)
