"""An old cookie is answered with today's, once, and only where nothing speaks against it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import pytest
from starlette.types import Receive, Scope, Send

from jwt_middleware import (
    Adoption,
    Claim,
    ConfigError,
    JWTSessionMiddleware,
    Key,
    KeyRing,
    LookupLimits,
    MemorySessionStore,
    Reason,
    Refusal,
    SessionCookie,
    SessionStore,
    Unavailable,
)
from jwt_middleware.testing import old_token
from jwt_middleware.types import SessionKey, SessionStatus
from tests.support.asgi import ask, foreign_token, nothing, scope_of
from tests.support.deployment import DAY, WEEK, Deployment, cookie_of, digest
from tests.support.stores import opened
from tests.support.world import EPOCH, SECRET, Session, authority_of

Test = Callable[[], Awaitable[None]]


def run(test: Test) -> None:
    asyncio.run(test())  # type: ignore[arg-type]  # an async function's awaitable is a coroutine


# What an old cookie is answered with


def test_an_old_cookie_is_answered_with_todays() -> None:
    async def test() -> None:
        deployment = Deployment()
        old = await deployment.old({"role": "admin"}, tenant={"shard": 7})
        response = await deployment.get(old)
        new = cookie_of(response)
        assert new is not None
        before, after = await deployment.claims(old), await deployment.claims(new)
        assert after == {
            **before,  # iat, exp, sid, auth_time, and the tenant of which the schema knows nothing
            "version": 2,
            "companyId": "none",
            "email": "ada@example.com",
            "permissions": ["read"],
        }
        assert response.headers["cache-control"] == "no-store"
        assert f"Max-Age={5 * DAY}; Path=/; Secure; HttpOnly; SameSite=Lax" in response.headers["set-cookie"]
        row = await deployment.row()
        assert (row.session_token, row.expires_at.timestamp()) == (digest(new), before["exp"])
        assert deployment.issued == {("2", "reissue"): 1}

    run(test)


def test_a_reissue_leaves_the_end_of_the_row_alone() -> None:
    async def test() -> None:
        deployment = Deployment()
        old = await deployment.old(iat=int(EPOCH) - DAY, exp=int(EPOCH) + 6 * DAY)
        before = await deployment.row()
        assert cookie_of(await deployment.get(old)) is not None
        assert (await deployment.row()).expires_at == before.expires_at

    run(test)


def test_a_session_pays_the_fallback_once() -> None:
    async def test() -> None:
        deployment = Deployment()
        new = cookie_of(await deployment.get(await deployment.old()))
        assert new is not None
        asked = deployment.users.asked
        for _ in range(3):
            response = await deployment.get(new)
            assert "set-cookie" not in response.headers
            assert "cache-control" not in response.headers
        assert deployment.users.asked == asked == 1
        assert deployment.echo.session.email == "ada@example.com"
        assert deployment.echo.token.filled == ()

    run(test)


def test_nothing_is_reissued_unless_it_is_asked_for() -> None:
    async def test() -> None:
        deployment = Deployment(reissue=False)
        assert cookie_of(await deployment.get(await deployment.old())) is None
        names = {
            attributes
            for metric, attributes, _ in deployment.authority.parts.counters.series()
            if "issued" in metric.name
        }
        assert [dict(each)["jwt_middleware.trigger"] for each in names] == ["start"]

    run(test)


def test_the_series_is_zero_from_the_start_where_it_is_configured() -> None:
    counters = authority_of(reissue=True).parts.counters
    issued = [dict(at)["jwt_middleware.trigger"] for metric, at, _ in counters.series() if "issued" in metric.name]
    assert issued == ["start", "reissue"]


def test_without_a_store_there_is_no_row_to_update() -> None:
    async def test() -> None:
        deployment = Deployment(store=None)
        new = cookie_of(await deployment.get(await deployment.old()))
        assert new is not None
        assert (await deployment.claims(new))["email"] == "ada@example.com"

    run(test)


def test_a_token_of_todays_version_that_lacks_a_claim_is_completed() -> None:
    async def test() -> None:
        deployment = Deployment()
        new = cookie_of(await deployment.get(await deployment.old(version=2)))
        assert new is not None
        assert (await deployment.claims(new))["email"] == "ada@example.com"
        assert cookie_of(await deployment.get(new)) is None

    run(test)


def test_a_default_that_is_no_stand_in_is_minted() -> None:
    async def test() -> None:
        deployment = Deployment(sources=[])
        new = cookie_of(await deployment.get(await deployment.old()))
        assert new is not None
        assert (await deployment.claims(new))["email"] == "Unknown"

    run(test)


@dataclass(slots=True, kw_only=True)
class Renamed:
    user_id: Annotated[str, Claim("userId")]
    company_id: Annotated[str, Claim("companyId")]


def org_to_company(claims: dict[str, Any]) -> dict[str, Any]:
    return {"userId": claims["userId"], "companyId": claims["org"]}


def company_to_org(claims: dict[str, Any]) -> dict[str, Any]:
    return {"userId": claims["userId"], "org": claims["companyId"]}


def test_an_upgrade_step_alone_is_worth_a_new_cookie_and_takes_no_time_away() -> None:
    async def test() -> None:
        deployment = Deployment(cls=Renamed, sources=[], schema={"upgrades": {1: org_to_company}}, store=None)
        old = old_token(deployment.authority, {"userId": "1", "org": "acme"}, age=timedelta(days=2))
        new = cookie_of(await deployment.get(old))
        assert new is not None
        before = await deployment.claims(old)
        assert before.pop("org") == "acme"
        assert await deployment.claims(new) == {**before, "version": 2, "companyId": "acme"}

    run(test)


def test_a_handler_that_changes_its_session_changes_no_token() -> None:
    async def test() -> None:
        deployment = Deployment()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope["state"]["session"].role = "admin"
            scope["state"]["session"].permissions.append("everything")
            await deployment.echo(scope, receive, send)

        deployment.app = JWTSessionMiddleware(app, authority=deployment.authority)
        new = cookie_of(await deployment.get(await deployment.old()))
        assert new is not None
        claims = await deployment.claims(new)
        assert (claims["role"], claims["permissions"]) == ("user", ["read"])

    run(test)


# Readers first


@pytest.mark.parametrize("version", [1, 2])
def test_while_the_old_shape_is_minted_on_purpose_nothing_is_reissued(version: int) -> None:
    async def test() -> None:
        deployment = Deployment(schema={"mints": 1})
        assert cookie_of(await deployment.get(await deployment.old(version=version))) is None

    run(test)


def test_a_token_is_brought_to_the_shape_that_is_minted_and_no_further() -> None:
    async def test() -> None:
        @dataclass(slots=True, kw_only=True)
        class Three(Renamed):
            email: Annotated[str, Claim(since=3)] = "Unknown"

        schema = {"version": 3, "mints": 2, "upgrades": {1: org_to_company}}
        deployment = Deployment(cls=Three, schema=schema, sources=[], store=None)
        old = old_token(deployment.authority, {"userId": "1", "org": "acme"})
        new = cookie_of(await deployment.get(old))
        assert new is not None
        claims = await deployment.claims(new)
        assert (claims["version"], claims["companyId"]) == (2, "acme")
        assert "email" not in claims
        assert cookie_of(await deployment.get(new)) is None

    run(test)


def test_the_oldest_shape_minted_by_a_downgrade_is_not_minted_again_and_again() -> None:
    async def test() -> None:
        schema = {"version": 3, "mints": 1, "upgrades": {1: org_to_company}, "downgrades": {2: company_to_org}}
        deployment = Deployment(cls=Renamed, schema=schema, sources=[], store=None)
        old = old_token(deployment.authority, {"userId": "1", "org": "acme"})
        assert cookie_of(await deployment.get(old)) is None

    run(test)


# Never


def test_never_for_a_bearer_token() -> None:
    async def test() -> None:
        deployment = Deployment()
        response = await ask(deployment.app, bearer=await deployment.old())
        assert (response.status_code, cookie_of(response)) == (200, None)
        assert deployment.issued == {}

    run(test)


def test_never_on_a_public_path() -> None:
    async def test() -> None:
        deployment = Deployment(public=["/open"])
        old = await deployment.old()
        assert cookie_of(await deployment.get(old, "/open")) is None
        assert cookie_of(await deployment.get(old, "/closed")) is not None

    run(test)


@pytest.mark.parametrize(
    "header",
    [
        (b"cache-control", b"public, max-age=60"),
        (b"cache-control", b"no-cache"),
        (b"set-cookie", b"__Host-session=; Max-Age=0; Path=/; Secure"),
    ],
)
def test_never_where_the_response_speaks_against_it_and_then_on_the_next(header: tuple[bytes, bytes]) -> None:
    async def test() -> None:
        deployment = Deployment(headers=[header])
        old = await deployment.old()
        response = await deployment.get(old)
        assert response.headers.get_list(header[0].decode()) == [header[1].decode()]
        assert response.headers.get_list("set-cookie") == ([header[1].decode()] if header[0] == b"set-cookie" else [])
        deployment.echo.headers.clear()
        assert cookie_of(await deployment.get(old)) is not None

    run(test)


def test_never_with_a_304() -> None:
    async def test() -> None:
        deployment = Deployment()

        async def unchanged(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 304})
            await send({"type": "http.response.body", "body": b""})

        deployment.app = JWTSessionMiddleware(unchanged, authority=deployment.authority)
        assert cookie_of(await deployment.get(await deployment.old())) is None

    run(test)


def test_never_for_a_newer_payload() -> None:
    async def test() -> None:
        deployment = Deployment()
        assert cookie_of(await deployment.get(await deployment.old({"email": ""}, version=3))) is None
        assert deployment.users.asked == 1

    run(test)


@pytest.mark.parametrize("settings", [{"adoption": Adoption(sessions="marks")}, {"store": None}])
def test_never_for_a_token_without_sid(settings: dict[str, Any]) -> None:
    async def test() -> None:
        deployment = Deployment(**settings)
        response = await deployment.get(await deployment.old(sid=None, auth_time=None))
        assert (response.status_code, cookie_of(response)) == (200, None)

    run(test)


def test_never_for_what_a_short_key_signed() -> None:
    async def test() -> None:
        short = Key.hmac(
            "short", kid=None, allow_short=True, until=datetime.fromtimestamp(EPOCH + WEEK, UTC), verify_only=True
        )
        deployment = Deployment(keys=KeyRing([Key.hmac(SECRET, kid=None), short]))
        claims = await deployment.claims(await deployment.old())
        response = await deployment.get(foreign_token(b"short", claims))
        assert (response.status_code, cookie_of(response)) == (200, None)
        assert cookie_of(await deployment.get(foreign_token(SECRET.encode(), claims))) is not None

    run(test)


@pytest.mark.parametrize("rows", [{}, {"1": {"email": None}}, {"1": {"email": 7.5}}, None])
def test_never_from_a_default_that_stands_in_for_a_failed_lookup(rows: dict[str, Any] | None) -> None:
    async def test() -> None:
        deployment = Deployment()
        deployment.users.rows, deployment.users.down = rows or {}, rows is None
        response = await deployment.get(await deployment.old())
        assert (response.status_code, cookie_of(response)) == (200, None)
        assert deployment.echo.session.email == "Unknown"
        assert deployment.issued == {}

    run(test)


def test_never_for_a_session_that_was_revoked_elsewhere_a_moment_ago() -> None:
    async def test() -> None:
        deployment = Deployment()
        old = await deployment.old()
        deployment.echo.headers.append((b"cache-control", b"public"))
        assert (await deployment.get(old)).status_code == 200
        deployment.echo.headers.clear()
        await deployment.store.revoke((await deployment.row()).id)  # as another process does: this one does not know
        response = await deployment.get(old)
        assert (response.status_code, cookie_of(response)) == (200, None)

    run(test)


def test_a_mark_of_elsewhere_counts_too() -> None:
    async def test() -> None:
        deployment = Deployment()
        old = await deployment.old()
        deployment.echo.headers.append((b"cache-control", b"public"))
        await deployment.get(old)
        deployment.echo.headers.clear()
        await deployment.store.revoke_user("1")
        assert cookie_of(await deployment.get(old)) is None

    run(test)


def test_the_check_joins_no_query_that_left_before() -> None:
    class Held(MemorySessionStore):
        """Answers as things stood when it was asked, but not before it is let go."""

        go = asyncio.Event()

        async def statuses(self, keys: Collection[SessionKey]) -> Mapping[SessionKey, SessionStatus]:
            found = await super().statuses(keys)
            await self.go.wait()
            return found

    async def test() -> None:
        store = Held()
        deployment = Deployment(store=store)
        old = await deployment.old()
        authority = deployment.authority
        store.go.set()
        headers = [(b"cookie", f"__Host-session={old}".encode())]
        due = (await authority.authenticate(headers)).due
        store.go.clear()
        key = SessionKey(session_id=due.token.session_id, user_id="1")
        earlier = asyncio.ensure_future(authority.parts.revocation.check(key, due.token.auth_time, listed=True))
        for _ in range(10):
            await asyncio.sleep(0)
        await store.revoke_user("1")
        cookie = asyncio.ensure_future(authority.parts.reissuer.set_cookie(due))
        for _ in range(10):
            await asyncio.sleep(0)
        store.go.set()
        await earlier  # the session was active when this was asked
        assert await cookie is None

    run(test)


def test_never_for_a_session_whose_time_is_over() -> None:
    async def test() -> None:
        deployment = Deployment()
        old = await deployment.old(exp=int(EPOCH) - 5)  # accepted: the leeway is 30 seconds
        response = await deployment.get(old)
        assert (response.status_code, cookie_of(response)) == (200, None)

    run(test)


def test_never_where_the_session_ends_while_the_app_works() -> None:
    async def test() -> None:
        deployment = Deployment()

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            deployment.clock.advance(10)
            await deployment.echo(scope, receive, send)

        deployment.app = JWTSessionMiddleware(slow, authority=deployment.authority)
        assert cookie_of(await deployment.get(await deployment.old(exp=int(EPOCH) + 5))) is None

    run(test)


@pytest.mark.parametrize("claims", [{"api_key": "x"}, {"role": "x" * 5_000}])
def test_never_what_no_log_in_would_mint(claims: dict[str, Any]) -> None:
    async def test() -> None:
        deployment = Deployment()
        response = await deployment.get(await deployment.old(**claims))
        assert (response.status_code, cookie_of(response)) == (200, None)
        assert deployment.issued == {}

    run(test)


def test_never_for_another_subject_than_the_tokens() -> None:
    @dataclass(slots=True, kw_only=True)
    class Shouting(Session):
        def __post_init__(self) -> None:
            self.user_id = self.user_id.upper()

    async def test() -> None:
        deployment = Deployment(cls=Shouting, store=None, sources=[])
        old = old_token(deployment.authority, {"userId": "ada"})
        response = await deployment.get(old)
        assert (response.status_code, cookie_of(response)) == (200, None)

    run(test)


class Broken(MemorySessionStore):
    """Its rows cannot be updated."""

    async def replace_token(self, session_id: str, **values: Any) -> bool:
        raise Unavailable("down")


class Hanging(MemorySessionStore):
    """Its updates never end."""

    async def replace_token(self, session_id: str, **values: Any) -> bool:
        return await asyncio.get_running_loop().create_future() is None


class Lagging(MemorySessionStore):
    """Somebody deletes the row between the check and the update."""

    async def replace_token(self, session_id: str, **values: Any) -> bool:
        del self._rows[session_id]
        return await super().replace_token(session_id, **values)


@pytest.mark.parametrize("store", [Broken(), Lagging()])
def test_where_the_update_fails_the_response_goes_out_without_a_cookie(store: Any) -> None:
    async def test() -> None:
        deployment = Deployment(store=store)
        response = await deployment.get(await deployment.old())
        assert (response.status_code, response.text, cookie_of(response)) == (200, "ok", None)
        assert deployment.issued == {}

    run(test)


def test_a_response_waits_for_its_cookie_no_longer_than_for_a_lookup() -> None:
    async def test() -> None:
        deployment = Deployment(store=Hanging(), lookups=LookupLimits(timeout=timedelta(milliseconds=200)))
        response = await deployment.get(await deployment.old())
        assert (response.status_code, response.text, cookie_of(response)) == (200, "ok", None)

    run(test)


# Where the middleware stands


def test_an_optional_path_reissues_too() -> None:
    async def test() -> None:
        deployment = Deployment(optional=["/maybe"])
        assert cookie_of(await deployment.get(await deployment.old(), "/maybe")) is not None
        assert cookie_of(await ask(deployment.app, "/maybe")) is None

    run(test)


def test_nested_middleware_sends_one_cookie() -> None:
    async def test() -> None:
        deployment = Deployment()
        deployment.app = JWTSessionMiddleware(deployment.app, authority=deployment.authority)
        assert cookie_of(await deployment.get(await deployment.old())) is not None
        assert deployment.issued == {("2", "reissue"): 1}

    run(test)


def test_a_refusal_carries_no_cookie() -> None:
    async def test() -> None:
        deployment = Deployment()

        async def refusing(scope: Scope, receive: Receive, send: Send) -> None:
            raise Refusal(Reason.TOKEN_MISSING)

        deployment.app = JWTSessionMiddleware(refusing, authority=deployment.authority)
        response = await deployment.get(await deployment.old())
        assert (response.status_code, cookie_of(response)) == (401, None)

    run(test)


def test_a_websocket_is_left_alone() -> None:
    async def test() -> None:
        deployment = Deployment()
        sent: list[Any] = []

        async def accepting(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "websocket.accept", "headers": []})

        async def send(message: Any) -> None:
            sent.append(message)

        guarded = JWTSessionMiddleware(
            accepting, authority=deployment.authority, trusted_origins=["https://testserver"]
        )
        cookie = (b"cookie", f"__Host-session={await deployment.old()}".encode())
        headers = [cookie, (b"origin", b"https://testserver")]
        await guarded(scope_of(kind="websocket", headers=headers), nothing, send)
        assert sent == [{"type": "websocket.accept", "headers": []}]
        assert deployment.issued == {}

    run(test)


def test_an_older_cookie_name_gets_the_new_one() -> None:
    async def test() -> None:
        deployment = Deployment(cookie=SessionCookie(also_read=["token"]))
        response = await ask(deployment.app, cookie=f"token={await deployment.old()}")
        assert cookie_of(response) is not None
        deployment.echo.headers.append((b"set-cookie", b"token=; Max-Age=0"))
        assert cookie_of(await ask(deployment.app, cookie=f"token={await deployment.old()}")) is None

    run(test)


# At once


def test_twenty_parallel_requests_with_one_old_cookie_are_all_served(database_url: str) -> None:
    async def test(store: SessionStore) -> None:
        deployment = Deployment(store=store)
        deployment.clock.wall = datetime.now(UTC).timestamp()  # PostgreSQL's clock is its own
        old = await deployment.old(age=timedelta(0))
        responses = await asyncio.gather(*(deployment.get(old) for _ in range(20)))
        assert [response.status_code for response in responses] == [200] * 20
        new = {cookie for response in responses if (cookie := cookie_of(response)) is not None}
        assert (await deployment.row()).session_token in {digest(token) for token in new}
        for token in [old, *new]:
            assert (await deployment.get(token)).status_code == 200
        await deployment.authority.aclose()

    async def with_store() -> None:
        async with opened(database_url) as store:
            await test(store)

    run(with_store)


def test_parallel_requests_of_one_session_write_its_row_once() -> None:
    class Counting(MemorySessionStore):
        written = 0

        async def replace_token(self, session_id: str, **values: Any) -> bool:
            self.written += 1
            await asyncio.sleep(0.01)
            return await super().replace_token(session_id, **values)

    async def test() -> None:
        store = Counting()
        deployment = Deployment(store=store)
        old = await deployment.old()
        responses = await asyncio.gather(*(deployment.get(old) for _ in range(20)))
        assert sum(cookie_of(response) is not None for response in responses) == store.written == 1

    run(test)


def test_a_release_moment_updates_two_rows_at_a_time() -> None:
    class Crowded(MemorySessionStore):
        inside = most = 0

        async def replace_token(self, session_id: str, **values: Any) -> bool:
            self.inside += 1
            self.most = max(self.most, self.inside)
            await asyncio.sleep(0)
            self.inside -= 1
            return await super().replace_token(session_id, **values)

    async def test() -> None:
        store = Crowded()
        deployment = Deployment(store=store)
        olds = [await deployment.old() for _ in range(30)]
        responses = await asyncio.gather(*(deployment.get(old) for old in olds))
        assert all(cookie_of(response) is not None for response in responses)
        assert store.most == 2

    run(test)


# Configuration


def test_a_ring_that_cannot_sign_cannot_reissue() -> None:
    only = KeyRing([Key.hmac(SECRET, verify_only=True)])
    with pytest.raises(ConfigError, match="put a secret or a private key first"):
        authority_of(keys=only, reissue=True)


def test_the_due_is_kept_out_of_reprs() -> None:
    async def test() -> None:
        deployment = Deployment()
        old = await deployment.old()
        outcome = await deployment.authority.authenticate([(b"cookie", f"__Host-session={old}".encode())])
        assert outcome.due is not None
        assert "ada@example.com" not in repr(replace(outcome))

    run(test)
