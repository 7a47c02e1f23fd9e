"""The middleware: which requests get in, what the app sees, how a refusal is answered, and the authority's lifespan."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jwt_middleware import ConfigError, JWTSessionMiddleware, Reason, Refusal
from jwt_middleware.testing import old_token
from tests.support.asgi import Echo, Sent, counts, nothing, scope_of
from tests.support.stores import FakeStore
from tests.support.world import ADA, DAY, World, authority_of, cookie

NAVIGATION = {"sec-fetch-mode": "navigate"}
CROSS_SITE = {"sec-fetch-site": "cross-site"}
NO_SESSION: list[dict[str, Any]] = [
    {},
    {"cookie": "__Host-session=junk"},
    {"cookie": "; ".join(f"__Host-session={number}" for number in range(5))},
]
"""A request without a token, and two whose cookie holds none."""
DOCS = Path(__file__).parents[2] / "docs"


def needing_session(world: World) -> ASGIApp:
    """An app that reads its session by the accessor."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(world.authority.session(Request(scope)).user_id)(scope, receive, send)

    return app


class TestAccess:
    async def test_without_a_token_every_path_is_refused_and_the_app_sees_nothing(self) -> None:
        world = World()
        for path in ("/", "/x", "//login", "/static/../x"):
            assert (await world.ask(path)).status_code == 401
        assert world.echo.scopes == []
        assert world.recorder.reasons == ["token_missing"] * 4

    async def test_a_refusal_is_a_problem_of_fixed_bytes_that_no_cache_keeps(self) -> None:
        world = World()
        missing, forged = await world.ask(), await world.ask(bearer=(await world.token())[:-4] + "AAAA")
        for response in (missing, forged):
            assert response.json() == {"type": "about:blank", "title": "Unauthorized", "status": 401}
            assert response.headers["content-type"] == "application/problem+json"
            assert response.headers["cache-control"] == "no-store"
        assert missing.headers["www-authenticate"] == "Bearer"
        assert forged.headers["www-authenticate"] == 'Bearer error="invalid_token"'
        assert missing.headers["vary"] == "Authorization, Cookie"
        assert forged.headers["vary"] == "Authorization"

    @pytest.mark.parametrize("bad", ["expired", "forged", "unknown session", "revoked"])
    async def test_a_refusal_never_deletes_a_cookie(self, bad: str) -> None:
        world = World(login="/login", public=["/login"])
        token = await world.token()
        if bad == "forged":
            token = token[:-4] + "AAAA"
        elif bad == "unknown session":
            token = old_token(world.authority, {"userId": "1"})
        elif bad == "expired":
            world.clock.advance(8 * DAY)
        else:
            await world.authority.revoke_all()
        response = await world.get(token)
        assert response.status_code == 401
        assert "set-cookie" not in response.headers

    async def test_options_is_not_exempt(self) -> None:
        assert (await World().ask(method="OPTIONS")).status_code == 401

    async def test_a_public_path_reads_no_token_sets_no_vary_and_is_not_counted(self) -> None:
        world = World(public=["/open", "/static/*"])
        for path in ("/open", "/static/a.css"):
            response = await world.ask(path, cookie=await world.cookie(), bearer="x.y.z")
            assert response.status_code == 200
            assert "vary" not in response.headers
            assert world.echo.session is None
            assert world.echo.token is None
            assert not world.echo.scopes[-1]["user"].is_authenticated
        assert world.recorder.outcomes == []
        assert world.counts("requests") == {}
        assert world.counts("verifications") == {}

    async def test_an_optional_path_makes_a_bad_or_missing_cookie_anonymous(self) -> None:
        world = World(optional=["/"])
        for request in NO_SESSION:
            response = await world.ask(**request)
            assert response.status_code == 200
            assert response.headers["vary"] == "Authorization, Cookie"
            assert world.echo.session is None
            assert not world.echo.scopes[-1]["user"].is_authenticated
        assert {outcome.result for outcome in world.recorder.outcomes} == {"anonymous"}
        assert world.recorder.reasons == ["token_missing", "token_malformed", "token_ambiguous"]

    @pytest.mark.parametrize("token", ["a.b.c", "not a token"])
    async def test_an_optional_path_still_refuses_a_bad_bearer_token(self, token: str) -> None:
        assert (await World(optional=["/"]).ask(bearer=token)).status_code == 401

    async def test_an_optional_path_still_answers_403_and_503(self) -> None:
        world = World(store=FakeStore, optional=["/"])
        token = await world.token()
        world.store.down = True
        assert (await world.get(token, method="POST", headers=CROSS_SITE)).status_code == 403
        unavailable = await world.get(token)
        assert unavailable.status_code == 503
        assert unavailable.headers["retry-after"] == "1"

    async def test_a_valid_token_on_an_optional_path_is_a_session(self) -> None:
        world = World(optional=["/"])
        assert (await world.get(await world.token())).status_code == 200
        assert world.echo.session == ADA

    async def test_a_cross_site_post_with_the_cookie_is_refused_and_reported(self) -> None:
        world = World(trusted_origins=["https://friend.example"])
        token, evil = await world.token(), {"origin": "https://evil.example"}
        assert (await world.get(token, method="POST", headers=evil)).status_code == 403
        assert world.recorder.outcomes[0].reason is Reason.CROSS_SITE
        assert world.recorder.outcomes[0].carrier == "cookie"
        friend = {"origin": "https://friend.example"}
        assert (await world.get(token, method="POST", headers=friend)).status_code == 200
        assert (await world.ask(method="POST", bearer=token, headers=evil)).status_code == 200

    async def test_a_cross_site_login_is_refused_and_this_refusal_is_counted(self) -> None:
        world = World(public=["/login"])
        assert (await world.ask("/login", "POST", headers=CROSS_SITE)).status_code == 403
        assert (await world.ask("/login", "POST")).status_code == 200
        assert len(world.echo.scopes) == 1
        assert world.recorder.reasons == ["cross_site"]


class TestLoginPage:
    async def test_only_a_navigation_is_sent_to_the_login_page(self) -> None:
        world = World(login="/login", public=["/login"])
        sent = await world.ask("/page?x=1", headers=NAVIGATION)
        assert (sent.status_code, sent.headers["location"]) == (303, "/login")
        assert sent.headers["cache-control"] == "no-store"
        assert sent.headers["vary"] == "Authorization, Cookie"
        others = [("GET", {}), ("POST", NAVIGATION), ("HEAD", NAVIGATION), ("GET", {"sec-fetch-mode": "cors"})]
        for method, headers in others:
            response = await world.ask("/page", method, headers=headers)
            assert response.status_code == 401
            assert "location" not in response.headers
        assert (await world.ask("/page")).json()["login"] == "/login"

    async def test_a_503_is_no_reason_to_log_in_again(self) -> None:
        world = World(store=FakeStore, login="/login", public=["/login"])
        world.store.down = True
        assert (await world.get(await world.token(), headers=NAVIGATION)).status_code == 503

    async def test_a_login_page_that_needs_a_session_is_not_sent_to_itself(self) -> None:
        world = World()
        world.guard(needing_session(world), login="/login", public=["/login"])
        assert (await world.ask("/login", headers=NAVIGATION)).status_code == 401

    async def test_the_login_page_is_spelled_as_a_url(self) -> None:
        world = World(login="/ein%20gang/%C3%BC", public=["/ein gang/ü"])
        assert (await world.ask("/ein%20gang/%C3%BC")).status_code == 200
        assert (await world.ask(headers=NAVIGATION)).headers["location"] == "/ein%20gang/%C3%BC"

    @pytest.mark.parametrize("login", ["/elsewhere", "https://evil.example/", "//evil.example", "/static/*", "login"])
    def test_a_login_page_that_is_no_public_path_is_a_configuration_error(self, login: str) -> None:
        with pytest.raises(ConfigError):
            World(login=login, public=["/login", "/static/*"])

    def test_a_middleware_without_an_authority_is_a_configuration_error(self) -> None:
        nothing: Any = None
        with pytest.raises(ConfigError, match="SessionAuthority"):
            JWTSessionMiddleware(Echo(), authority=nothing)

    async def test_on_refused_answers_in_place_of_the_built_in_response(self) -> None:
        async def refused(scope: Scope, receive: Receive, send: Send) -> None:
            reason = scope["state"]["refusal"]
            await JSONResponse({"why": reason}, reason.status, headers={"x-own": "1"})(scope, receive, send)

        world = World(on_refused=refused, public=["/login"])
        response = await world.ask()
        assert (response.status_code, response.json()) == (401, {"why": "token_missing"})
        assert response.headers["x-own"] == "1"
        assert response.headers["vary"] == "Authorization, Cookie"
        public = await world.ask("/login", "POST", headers=CROSS_SITE)
        assert public.status_code == 403
        assert "vary" not in public.headers


class TestState:
    async def test_a_handler_that_changes_its_session_changes_no_other_request(self) -> None:
        seen: list[list[str]] = []

        async def grants_itself(scope: Scope, receive: Receive, send: Send) -> None:
            session = scope["state"]["session"]
            seen.append(list(session.permissions))
            session.permissions.append("admin")
            session.email = "changed"
            await PlainTextResponse(session.email)(scope, receive, send)

        world = World()
        world.guard(grants_itself)
        first, second, lacking = await world.token(), await world.token("2"), await world.old({"userId": "3"})
        for token in (first, first, first, second, second, lacking, lacking):
            assert (await world.get(token)).text == "changed"
        assert seen == [["read"]] * 7

    async def test_other_kinds_of_scopes_pass_untouched(self) -> None:
        seen = []

        async def inner(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope)

        world = World()
        world.guard(inner)
        await world.send({"type": "strange"})
        assert seen == [{"type": "strange"}]

    async def test_a_cache_hit_suspends_no_coroutine_and_calls_no_observer(self) -> None:
        world = World()
        token = await world.token()
        await world.get(token)
        assert len(world.recorder.outcomes) == 1
        sent = Sent()
        with pytest.raises(StopIteration):
            world.app(scope_of(headers=cookie(token)), nothing, sent).send(None)  # type: ignore[attr-defined]
        assert sent.messages[0]["status"] == 200
        assert world.echo.session == ADA
        assert len(world.recorder.outcomes) == 1
        assert world.counts("requests") == {("2", "accepted"): 2}


class TestResponse:
    async def test_vary_is_added_to_the_apps_own_and_no_other_header_is_touched(self) -> None:
        own = [(b"set-cookie", b"a=1"), (b"vary", b"Accept"), (b"set-cookie", b"b=2"), (b"cache-control", b"public")]
        world = World(headers=own)
        start, body = await world.send(scope_of(headers=cookie(await world.token())))
        assert start["headers"] == [*own, (b"vary", b"Authorization, Cookie")]
        assert (start["status"], start["extra"]) == (200, "kept")
        assert body == {"type": "http.response.body", "body": b"ok"}

    async def test_vary_names_only_the_headers_that_were_read(self) -> None:
        world = World()
        response = await world.ask(bearer=await world.token(), cookie="__Host-session=never.read.here")
        assert (response.status_code, response.headers["vary"]) == (200, "Authorization")

    async def test_a_response_start_without_headers_gets_its_vary(self) -> None:
        async def bare(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 204})

        world = World()
        world.guard(bare)
        sent = await world.send(scope_of(headers=cookie(await world.token())))
        assert sent[0]["headers"] == [(b"vary", b"Authorization, Cookie")]


class TestRaisedRefusal:
    async def test_a_refusal_from_a_public_path_is_answered_and_counted_once(self) -> None:
        world = World()
        world.guard(needing_session(world), public=["/"])
        response = await world.get(await world.token())
        assert response.status_code == 401
        assert response.headers["content-type"] == "application/problem+json"
        assert world.recorder.reasons == ["token_missing"]

    async def test_a_refusal_from_an_optional_path_is_answered_and_not_counted_again(self) -> None:
        world = World()
        world.guard(needing_session(world), optional=["/"])
        response = await world.ask()
        assert (response.status_code, response.headers["vary"]) == (401, "Authorization, Cookie")
        assert [outcome.result for outcome in world.recorder.outcomes] == ["anonymous"]
        assert world.counts("requests") == {("anonymous",): 1}

    async def test_a_refusal_after_the_response_began_is_raised(self) -> None:
        async def late(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            raise Refusal(Reason.TOKEN_MISSING)

        sent = Sent()
        with pytest.raises(Refusal):
            await World().guard(late, public=["/"])(scope_of(), nothing, sent)
        assert sent.types == ["http.response.start"]

    async def test_what_is_sent_before_the_response_starts_is_passed_on(self) -> None:
        async def hints(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.early_hint", "links": []})
            raise Refusal(Reason.SESSION_REVOKED)

        sent = Sent()
        await World().guard(hints, public=["/"])(scope_of(), nothing, sent)
        assert sent.types == ["http.response.early_hint", "http.response.start", "http.response.body"]

    async def test_any_other_error_of_the_app_is_its_own(self) -> None:
        async def broken(scope: Scope, receive: Receive, send: Send) -> None:
            raise LookupError("mine")

        with pytest.raises(LookupError, match="mine"):
            await World().guard(broken, public=["/"])(scope_of(), nothing, Sent())


def nested(*, outer: dict[str, Any] | None = None, inner: dict[str, Any] | None = None) -> World:
    """A world whose app stands behind two middlewares of one authority."""
    world = World()
    world.guard(world.guard(world.echo, **(inner or {})), **(outer or {}))
    return world


class TestNested:
    async def test_a_nested_middleware_uses_what_the_outer_one_decided(self) -> None:
        world = nested()
        lacking = await world.old()
        for _ in range(2):
            assert (await world.ask(bearer=lacking)).status_code == 200
        assert world.echo.session.email == "ada@example.com"
        assert [outcome.result for outcome in world.recorder.outcomes] == ["accepted", "accepted"]
        assert world.users.asked == 1
        assert world.counts("fallbacks") == {("resolved", "1"): 2}

    async def test_a_nested_cache_hit_is_counted_once(self) -> None:
        world = nested()
        token = await world.token()
        for _ in range(3):
            assert (await world.get(token)).status_code == 200
        assert world.echo.session == ADA
        assert world.counts("requests") == {("2", "accepted"): 3}
        assert len(world.recorder.outcomes) == 1

    async def test_a_nested_middleware_authenticates_where_the_outer_path_is_public(self) -> None:
        world = nested(outer={"public": ["/"]})
        assert (await world.ask()).status_code == 401
        assert (await world.get(await world.token())).status_code == 200
        assert world.echo.session == ADA
        assert world.recorder.reasons == ["token_missing", None]

    async def test_a_nested_public_path_has_no_session_of_the_outer_middleware(self) -> None:
        world = nested(inner={"public": ["/"]})
        assert (await world.get(await world.token())).status_code == 200
        assert world.echo.session is None
        assert not world.echo.scopes[0]["user"].is_authenticated

    async def test_a_nested_middleware_refuses_an_outer_anonymous_without_a_count(self) -> None:
        world = nested(outer={"optional": ["/"]})
        for request in NO_SESSION:
            assert (await world.ask(**request)).status_code == 401
        assert world.echo.scopes == []
        assert [outcome.result for outcome in world.recorder.outcomes] == ["anonymous"] * 3
        assert world.counts("requests") == {("anonymous",): 3}

    async def test_a_nested_optional_path_stays_anonymous(self) -> None:
        world = nested(outer={"optional": ["/"]}, inner={"optional": ["/"]})
        for request in NO_SESSION:
            assert (await world.ask(**request)).status_code == 200
            assert world.echo.session is None
        assert world.counts("requests") == {("anonymous",): 3}

    async def test_a_nested_cross_site_rule_is_its_own_and_counts_nothing_twice(self) -> None:
        world = nested(outer={"trusted_origins": ["https://friend.example"]})
        friend = {"origin": "https://friend.example"}
        assert (await world.get(await world.token(), method="POST", headers=friend)).status_code == 403
        assert world.counts("requests") == {("2", "accepted"): 1}

    async def test_a_nested_middleware_of_another_authority_decides_for_itself(self) -> None:
        mine, theirs, needs_issuer = World(store=None), authority_of(), authority_of(issuer="theirs")
        token = await mine.token()
        mine.guard(JWTSessionMiddleware(mine.echo, authority=theirs))
        assert (await mine.get(token)).status_code == 200
        assert [counts(each, "requests") for each in (mine.authority, theirs)] == [{("2", "accepted"): 1}] * 2
        mine.guard(JWTSessionMiddleware(mine.echo, authority=needs_issuer))
        assert (await mine.get(token)).status_code == 401

    async def test_the_accessor_gives_no_session_of_another_authority(self) -> None:
        mine, theirs = World(store=None), authority_of()
        found = []

        async def both(scope: Scope, receive: Receive, send: Send) -> None:
            found.append(theirs.session(Request(scope)))
            mine.authority.session(Request(scope))

        mine.guard(JWTSessionMiddleware(both, authority=theirs))
        with pytest.raises(ConfigError, match="another authority"):
            await mine.get(await mine.token())
        assert found == [ADA]

    async def test_a_mounted_app_is_guarded_below_its_mount(self) -> None:
        world = World(public=["/health"])
        world.app = Starlette(routes=[Mount("/api", world.app)])
        assert (await world.ask("/api/health")).status_code == 200
        assert (await world.ask("/api/me")).status_code == 401
        assert (await world.get(await world.token(), "/api/me")).status_code == 200


class Steps(World):
    """An app and an authority that write down, in one list, what happens to them."""

    def __init__(self, *failing: str) -> None:
        super().__init__()
        self.happened: list[str] = []
        self.failing = failing
        self.authority.parts.open = lambda: self.happens("authority opened")
        self.authority.aclose = self.close
        self.guard(self.live)

    def happens(self, what: str) -> None:
        self.happened.append(what)
        if what in self.failing:
            raise RuntimeError("broken")

    async def close(self) -> None:
        self.happens("authority closed")

    async def live(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "lifespan.startup"
        self.happens("app starts")
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        self.happens("app ends")
        await send({"type": "lifespan.shutdown.complete"})

    async def run(self) -> None:
        """One life of the server."""
        messages = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive() -> Message:
            return {"type": next(messages)}

        async def send(message: Message) -> None:
            self.happened.append(message["type"])

        await self.app({"type": "lifespan", "state": {}}, receive, send)


class TestLifespan:
    async def test_the_authority_opens_after_the_app_starts_and_closes_before_it_ends(self) -> None:
        steps = Steps()
        await steps.run()
        assert steps.happened == [
            "app starts",
            "authority opened",
            "lifespan.startup.complete",
            "authority closed",
            "app ends",
            "lifespan.shutdown.complete",
        ]

    async def test_an_authority_that_fails_to_open_or_close_does_not_stop_the_app(self) -> None:
        steps = Steps("authority opened", "authority closed")
        await steps.run()
        assert [step for step in steps.happened if step.startswith("lifespan")] == [
            "lifespan.startup.complete",
            "lifespan.shutdown.complete",
        ]

    async def test_an_app_that_fails_to_start_fails_as_it_would_alone(self) -> None:
        steps = Steps("app starts")
        with pytest.raises(RuntimeError, match="broken"):
            await steps.run()
        assert steps.happened == ["app starts"]

    async def test_where_the_apps_startup_fails_the_authority_does_not_open(self) -> None:
        async def fails(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no database"})

        steps = Steps()
        steps.guard(fails)
        await steps.run()
        assert steps.happened == ["lifespan.startup.failed"]

    async def test_without_a_lifespan_the_first_request_opens_the_authority(self) -> None:
        steps = Steps()
        steps.guard(steps.echo, public=["/"])
        assert (await steps.ask()).status_code == 200
        assert steps.happened == ["authority opened"]


class TestDocs:
    def test_every_reason_stands_in_the_docs_with_its_status(self) -> None:
        rows = re.findall(r"^\| `([a-z_]+)` \| (\d+) \|", (DOCS / "refusals.md").read_text(), re.MULTILINE)
        assert rows == [(reason.value, str(reason.status)) for reason in Reason]

    def test_every_setting_stands_in_the_docs(self) -> None:
        rows = set(re.findall(r"^\| `([a-z_]+)` \|", (DOCS / "frameworks.md").read_text(), re.MULTILINE))
        assert rows == set(JWTSessionMiddleware.__init__.__annotations__) - {"app", "authority", "return"}
