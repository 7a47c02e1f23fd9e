"""ASGI in and out: who gets in, what the app sees, what a refused request is told, and what a plain hit costs."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jwt_middleware import ConfigError, JWTSessionMiddleware, MemorySessionStore, Reason, Refusal, source
from jwt_middleware.errors import Unavailable
from jwt_middleware.testing import old_token
from tests.support.asgi import Echo, Sent, ask, counts, nothing, scope_of
from tests.support.world import FakeClock, Recorder, Session, authority_of

ADA = Session(user_id="1", email="ada@example.com")
NAVIGATION = {"sec-fetch-mode": "navigate"}


def token_of(authority: Any, session: Session = ADA) -> str:
    return str(asyncio.run(authority.issue(session)).token)


def cookie_of(authority: Any, session: Session = ADA) -> str:
    return f"{authority.cookie.name}={token_of(authority, session)}"


def get(app: ASGIApp, path: str = "/", method: str = "GET", **settings: Any) -> Any:
    return asyncio.run(ask(app, path, method, **settings))


def guarded(app: ASGIApp, authority: Any, **settings: Any) -> JWTSessionMiddleware:
    return JWTSessionMiddleware(app, authority=authority, **settings)


# Who gets in


def test_without_a_token_every_path_is_refused_and_the_app_sees_nothing() -> None:
    seen, echo = Recorder(), Echo()
    app = guarded(echo, authority_of(observers=[seen]))
    assert [get(app, path).status_code for path in ("/", "/x", "//login", "/static/../x")] == [401] * 4
    assert echo.scopes == []
    assert seen.reasons == ["token_missing"] * 4


def test_a_refusal_is_a_problem_of_fixed_bytes_that_no_cache_keeps() -> None:
    authority = authority_of()
    app = guarded(Echo(), authority)
    missing, forged = get(app), get(app, bearer=token_of(authority)[:-4] + "AAAA")
    for response in (missing, forged):
        assert response.json() == {"type": "about:blank", "title": "Unauthorized", "status": 401}
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["cache-control"] == "no-store"
    assert missing.headers["www-authenticate"] == "Bearer"
    assert forged.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert missing.headers["vary"] == "Authorization, Cookie"
    assert forged.headers["vary"] == "Authorization"


@pytest.mark.parametrize("bad", ["expired", "forged", "unknown session", "revoked"])
def test_a_refusal_never_deletes_a_cookie(bad: str) -> None:
    clock = FakeClock()
    authority = authority_of(clock=clock, store=MemorySessionStore(clock=clock))
    cookie = {
        "expired": lambda: cookie_of(authority),
        "forged": lambda: cookie_of(authority)[:-4] + "AAAA",
        "unknown session": lambda: f"__Host-session={old_token(authority, {'userId': '1'})}",
        "revoked": lambda: cookie_of(authority),
    }[bad]()
    if bad == "expired":
        clock.advance(8 * 86_400)
    if bad == "revoked":
        asyncio.run(authority.revoke_all())
    response = get(guarded(Echo(), authority, login="/login", public=["/login"]), cookie=cookie)
    assert response.status_code == 401
    assert "set-cookie" not in response.headers


def test_options_is_not_exempt() -> None:
    assert get(guarded(Echo(), authority_of()), method="OPTIONS").status_code == 401


def test_a_public_path_reads_no_token_says_no_vary_and_is_not_counted() -> None:
    seen, echo = Recorder(), Echo()
    authority = authority_of(observers=[seen])
    app = guarded(echo, authority, public=["/open", "/static/*"])
    for path in ("/open", "/static/a.css"):
        response = get(app, path, cookie=cookie_of(authority), headers={"authorization": "Bearer x.y.z"})
        assert response.status_code == 200
        assert "vary" not in response.headers
        assert echo.session is None
        assert echo.token is None
        assert not echo.scopes[-1]["user"].is_authenticated
    assert seen.outcomes == []
    assert counts(authority, "requests") == {}
    assert counts(authority, "verifications") == {}


def test_an_optional_path_makes_a_bad_or_missing_cookie_anonymous() -> None:
    seen, echo = Recorder(), Echo()
    app = guarded(echo, authority_of(observers=[seen]), optional=["/"])
    for settings in ({}, {"cookie": "__Host-session=junk"}, {"cookie": "__Host-session=a; __Host-session=b"}):
        response = get(app, **settings)
        assert response.status_code == 200
        assert response.headers["vary"] == "Authorization, Cookie"
        assert echo.session is None
        assert not echo.scopes[-1]["user"].is_authenticated
    assert {outcome.result for outcome in seen.outcomes} == {"anonymous"}
    assert seen.reasons == ["token_missing", "token_malformed", "token_ambiguous"]


def test_an_optional_path_still_refuses_a_bad_bearer_token() -> None:
    app = guarded(Echo(), authority_of(), optional=["/"])
    assert get(app, bearer="a.b.c").status_code == 401
    assert get(app, bearer="not a token").status_code == 401


def test_an_optional_path_still_says_403_and_503() -> None:
    class Gone(MemorySessionStore):
        async def statuses(self, keys: Any) -> Any:
            raise Unavailable("down")

    authority = authority_of(store=Gone())
    app = guarded(Echo(), authority, optional=["/"])
    cookie = cookie_of(authority)
    assert get(app, method="POST", cookie=cookie, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    unavailable = get(app, cookie=cookie)
    assert unavailable.status_code == 503
    assert unavailable.headers["retry-after"] == "1"


def test_a_good_token_of_an_optional_path_is_a_session() -> None:
    echo, authority = Echo(), authority_of()
    app = guarded(echo, authority, optional=["/"])
    assert get(app, cookie=cookie_of(authority)).status_code == 200
    assert echo.session == ADA


def test_a_cross_site_post_with_the_cookie_is_refused_and_says_where_the_token_stood() -> None:
    seen = Recorder()
    authority = authority_of(observers=[seen])
    app = guarded(Echo(), authority, trusted_origins=["https://friend.example"])
    cookie = cookie_of(authority)
    evil, friend = {"origin": "https://evil.example"}, {"origin": "https://friend.example"}
    assert get(app, method="POST", cookie=cookie, headers=evil).status_code == 403
    assert seen.outcomes[0].reason is Reason.CROSS_SITE
    assert seen.outcomes[0].carrier == "cookie"
    assert get(app, method="POST", cookie=cookie, headers=friend).status_code == 200
    assert get(app, method="POST", bearer=token_of(authority), headers=evil).status_code == 200


def test_a_cross_site_login_is_refused_and_this_refusal_is_counted() -> None:
    seen, echo = Recorder(), Echo()
    app = guarded(echo, authority_of(observers=[seen]), public=["/login"])
    assert get(app, "/login", "POST", headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert get(app, "/login", "POST").status_code == 200
    assert len(echo.scopes) == 1
    assert seen.reasons == ["cross_site"]


# The log-in page, and the app's own answer


def test_only_a_navigation_is_sent_to_the_login_page() -> None:
    app = guarded(Echo(), authority_of(), login="/login", public=["/login"])
    sent = get(app, "/page?x=1", headers=NAVIGATION)
    assert (sent.status_code, sent.headers["location"]) == (303, "/login")
    assert sent.headers["cache-control"] == "no-store"
    assert sent.headers["vary"] == "Authorization, Cookie"
    for method, headers in (
        ("GET", {}),
        ("POST", NAVIGATION),
        ("HEAD", NAVIGATION),
        ("GET", {"sec-fetch-mode": "cors"}),
    ):
        response = get(app, "/page", method, headers=headers)
        assert response.status_code == 401
        assert "location" not in response.headers
    assert get(app, "/page").json()["login"] == "/login"


def test_a_503_is_no_reason_to_log_in_again() -> None:
    class Gone(MemorySessionStore):
        async def statuses(self, keys: Any) -> Any:
            raise Unavailable("down")

    authority = authority_of(store=Gone())
    app = guarded(Echo(), authority, login="/login", public=["/login"])
    assert get(app, cookie=cookie_of(authority), headers=NAVIGATION).status_code == 503


def test_a_login_page_that_asks_for_a_session_is_not_sent_to_itself() -> None:
    authority = authority_of()

    async def login(request: Request) -> PlainTextResponse:
        return PlainTextResponse(authority.session(request).user_id)

    settings = {"authority": authority, "login": "/login", "public": ["/login"]}
    app = Starlette(routes=[Route("/login", login)], middleware=[Middleware(JWTSessionMiddleware, **settings)])
    assert get(app, "/login", headers=NAVIGATION).status_code == 401


def test_the_login_page_is_spelled_as_a_url() -> None:
    app = guarded(Echo(), authority_of(), login="/ein%20gang/%C3%BC", public=["/ein gang/ü"])
    assert get(app, "/ein%20gang/%C3%BC").status_code == 200
    assert get(app, headers=NAVIGATION).headers["location"] == "/ein%20gang/%C3%BC"


@pytest.mark.parametrize("login", ["/elsewhere", "https://evil.example/", "//evil.example", "/static/*", "login"])
def test_a_login_page_that_is_no_public_path_is_an_error_of_configuration(login: str) -> None:
    with pytest.raises(ConfigError):
        guarded(Echo(), authority_of(), login=login, public=["/login", "/static/*"])


def test_a_middleware_without_an_authority_is_an_error_of_configuration() -> None:
    nothing: Any = None
    with pytest.raises(ConfigError, match="SessionAuthority"):
        guarded(Echo(), nothing)


def test_on_refused_answers_in_place_of_the_built_in_response_and_knows_the_reason() -> None:
    async def refused(scope: Scope, receive: Receive, send: Send) -> None:
        reason = scope["state"]["refusal"]
        await JSONResponse({"why": reason}, reason.status, headers={"x-own": "1"})(scope, receive, send)

    app = guarded(Echo(), authority_of(), on_refused=refused, public=["/login"])
    response = get(app)
    assert (response.status_code, response.json()) == (401, {"why": "token_missing"})
    assert response.headers["x-own"] == "1"
    assert response.headers["vary"] == "Authorization, Cookie"
    public = get(app, "/login", "POST", headers={"sec-fetch-site": "cross-site"})
    assert public.status_code == 403
    assert "vary" not in public.headers


# What the app sees


def test_a_token_is_a_session_a_token_info_and_a_user() -> None:
    echo, authority = Echo(), authority_of()
    assert get(guarded(echo, authority), cookie=cookie_of(authority)).status_code == 200
    assert echo.session == ADA
    assert (echo.token.version, echo.token.filled) == (2, ())
    assert echo.token.expires_at - echo.token.issued_at == authority.window
    user = echo.scopes[0]["user"]
    assert (user.is_authenticated, user.identity, user.display_name) == (True, "1", "1")
    assert echo.scopes[0]["auth"].scopes == ("authenticated",)


def test_starlettes_requires_works() -> None:
    authority = authority_of()

    @requires("authenticated")
    async def mine(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.user.identity)

    @requires(["authenticated", "admin"])
    async def admins(request: Request) -> PlainTextResponse:
        return PlainTextResponse("never")

    app = Starlette(
        routes=[Route("/", mine), Route("/admins", admins)],
        middleware=[Middleware(JWTSessionMiddleware, authority=authority, optional=["/", "/admins"])],
    )
    cookie = cookie_of(authority)
    assert get(app).status_code == 403
    assert get(app, cookie=cookie).text == "1"
    assert get(app, "/admins", cookie=cookie).status_code == 403


def test_request_state_is_set_first_whatever_stood_there() -> None:
    echo = Echo()
    app = guarded(echo, authority_of(), public=["/"])
    stale = {"session": "somebody else's", "token": "theirs", "app": "kept"}
    scope = scope_of(state=stale, user="somebody", auth="everything")
    asyncio.run(app(scope, nothing, Sent()))
    assert scope["state"] == {"session": None, "token": None, "app": "kept"}
    assert (scope["user"].is_authenticated, list(scope["auth"].scopes)) == (False, [])


def test_a_handler_that_changes_its_session_changes_nobody_elses_and_nothing_on_the_next_request() -> None:
    authority = authority_of()
    seen: list[list[str]] = []

    async def grants_itself(scope: Scope, receive: Receive, send: Send) -> None:
        session = scope["state"]["session"]
        seen.append(list(session.permissions))
        session.permissions.append("admin")
        session.email = "changed"
        await PlainTextResponse(session.email)(scope, receive, send)

    app = guarded(grants_itself, authority)
    first, second = cookie_of(authority), cookie_of(authority, Session(user_id="2"))
    lacking = f"__Host-session={old_token(authority, {'userId': '3'})}"
    for cookie in (first, first, first, second, second, lacking, lacking):
        assert get(app, cookie=cookie).text == "changed"
    assert seen == [["read"]] * 7


def test_other_kinds_of_scopes_pass_untouched() -> None:
    seen = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    asyncio.run(guarded(inner, authority_of())({"type": "strange"}, nothing, Sent()))
    assert seen == [{"type": "strange"}]


# The response


def test_vary_is_added_beside_what_the_app_says_and_nothing_else_is_touched() -> None:
    own = [(b"set-cookie", b"a=1"), (b"vary", b"Accept"), (b"set-cookie", b"b=2"), (b"cache-control", b"public")]
    authority, sent = authority_of(), Sent()
    app = guarded(Echo(own), authority)
    cookie = cookie_of(authority).encode()
    asyncio.run(app(scope_of(headers=[(b"cookie", cookie)]), nothing, sent))
    start, body = sent.messages
    assert start["headers"] == [*own, (b"vary", b"Authorization, Cookie")]
    assert (start["status"], start["extra"]) == (200, "kept")
    assert body == {"type": "http.response.body", "body": b"ok"}


def test_vary_names_only_what_was_read() -> None:
    authority = authority_of()
    app = guarded(Echo(), authority)
    response = get(app, bearer=token_of(authority), cookie="__Host-session=never.read.here")
    assert (response.status_code, response.headers["vary"]) == (200, "Authorization")


def test_a_response_start_without_headers_gets_its_vary() -> None:
    async def bare(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204})

    authority, sent = authority_of(), Sent()
    headers = [(b"cookie", cookie_of(authority).encode())]
    asyncio.run(guarded(bare, authority)(scope_of(headers=headers), nothing, sent))
    assert sent.messages[0]["headers"] == [(b"vary", b"Authorization, Cookie")]


# A Refusal raised by the app


def test_a_refusal_from_a_public_path_is_answered_and_counted_once() -> None:
    seen = Recorder()
    authority = authority_of(observers=[seen])

    async def needs_one(request: Request) -> PlainTextResponse:
        return PlainTextResponse(authority.session(request).user_id)

    app = Starlette(
        routes=[Route("/", needs_one)],
        middleware=[Middleware(JWTSessionMiddleware, authority=authority, public=["/"])],
    )
    response = get(app, cookie=cookie_of(authority))
    assert response.status_code == 401
    assert response.headers["content-type"] == "application/problem+json"
    assert seen.reasons == ["token_missing"]


def test_a_refusal_from_an_optional_path_is_answered_and_its_request_stays_counted_once() -> None:
    seen = Recorder()
    authority = authority_of(observers=[seen])

    async def needs_one(request: Request) -> PlainTextResponse:
        return PlainTextResponse(authority.session(request).user_id)

    app = Starlette(
        routes=[Route("/", needs_one)],
        middleware=[Middleware(JWTSessionMiddleware, authority=authority, optional=["/"])],
    )
    response = get(app)
    assert (response.status_code, response.headers["vary"]) == (401, "Authorization, Cookie")
    assert [outcome.result for outcome in seen.outcomes] == ["anonymous"]
    assert counts(authority, "requests") == {("anonymous",): 1}


def test_a_refusal_after_the_response_began_is_raised() -> None:
    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise Refusal(Reason.TOKEN_MISSING)

    sent = Sent()
    with pytest.raises(Refusal):
        asyncio.run(guarded(late, authority_of(), public=["/"])(scope_of(), nothing, sent))
    assert sent.types == ["http.response.start"]


def test_any_other_error_of_the_app_is_its_own() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        asyncio.run(guarded(broken, authority_of(), public=["/"])(scope_of(), nothing, Sent()))


# A plain hit


def test_a_plain_hit_suspends_no_coroutine_calls_no_observer_and_raises_one_tally() -> None:
    seen = Recorder()
    authority = authority_of(observers=[seen], store=MemorySessionStore())
    echo = Echo()
    app = guarded(echo, authority)
    cookie = cookie_of(authority)

    async def twice() -> None:
        await ask(app, cookie=cookie)
        assert len(seen.outcomes) == 1
        sent = Sent()
        running = app(scope_of(headers=[(b"cookie", cookie.encode())]), nothing, sent)
        with pytest.raises(StopIteration):
            running.send(None)
        assert sent.messages[0]["status"] == 200

    asyncio.run(twice())
    assert echo.session == ADA
    assert len(seen.outcomes) == 1
    assert counts(authority, "requests") == {("2", "accepted"): 2}


# Nested


class Both:
    """An outer and an inner middleware of one authority."""

    def __init__(self, *, outer: dict[str, Any] | None = None, inner: dict[str, Any] | None = None) -> None:
        self.seen = Recorder()
        self.fetched: list[str] = []

        @source("email")
        async def emails(keys: Any) -> dict[str, dict[str, str]]:
            self.fetched += keys
            return {key: {"email": f"{key}@example.com"} for key in keys}

        self.authority = authority_of(observers=[self.seen], sources=[emails])
        self.echo = Echo()
        self.app = guarded(guarded(self.echo, self.authority, **(inner or {})), self.authority, **(outer or {}))


def test_a_nested_middleware_uses_what_the_outer_one_decided() -> None:
    both = Both()
    lacking = old_token(both.authority, {"userId": "1"})
    for _ in range(2):
        assert get(both.app, bearer=lacking).status_code == 200
    assert both.echo.session.email == "1@example.com"
    assert [outcome.result for outcome in both.seen.outcomes] == ["accepted", "accepted"]
    assert both.fetched == ["1"]
    assert counts(both.authority, "fallbacks") == {("resolved", "1"): 2}


def test_a_nested_plain_hit_is_counted_once() -> None:
    both = Both()
    cookie = cookie_of(both.authority)
    for _ in range(3):
        assert get(both.app, cookie=cookie).status_code == 200
    assert both.echo.session == ADA
    assert counts(both.authority, "requests") == {("2", "accepted"): 3}
    assert len(both.seen.outcomes) == 1


def test_a_nested_middleware_authenticates_where_the_outer_one_read_no_token() -> None:
    both = Both(outer={"public": ["/"]})
    assert get(both.app).status_code == 401
    assert get(both.app, cookie=cookie_of(both.authority)).status_code == 200
    assert both.echo.session == ADA
    assert both.seen.reasons == ["token_missing", None]


def test_a_nested_public_path_has_no_session_whatever_the_outer_one_found() -> None:
    both = Both(inner={"public": ["/"]})
    assert get(both.app, cookie=cookie_of(both.authority)).status_code == 200
    assert both.echo.session is None
    assert not both.echo.scopes[0]["user"].is_authenticated


def test_a_nested_middleware_refuses_who_is_anonymous_outside_and_counts_nothing_twice() -> None:
    both = Both(outer={"optional": ["/"]})
    for settings in ({}, {"cookie": "__Host-session=junk"}, {"cookie": "__Host-session=a; __Host-session=b"}):
        assert get(both.app, **settings).status_code == 401
    assert both.echo.scopes == []
    assert [outcome.result for outcome in both.seen.outcomes] == ["anonymous"] * 3
    assert counts(both.authority, "requests") == {("anonymous",): 3}


def test_a_nested_optional_path_stays_anonymous() -> None:
    both = Both(outer={"optional": ["/"]}, inner={"optional": ["/"]})
    assert [get(both.app, **settings).status_code for settings in ({}, {"cookie": "__Host-session=junk"})] == [200, 200]
    assert both.echo.session is None
    assert counts(both.authority, "requests") == {("anonymous",): 2}


def test_a_nested_cross_site_rule_is_its_own_and_counts_nothing_twice() -> None:
    both = Both(outer={"trusted_origins": ["https://friend.example"]})
    origin = {"origin": "https://friend.example"}
    assert get(both.app, method="POST", cookie=cookie_of(both.authority), headers=origin).status_code == 403
    assert counts(both.authority, "requests") == {("2", "accepted"): 1}


def test_a_nested_middleware_of_another_authority_decides_for_itself() -> None:
    mine, theirs, echo = authority_of(), authority_of(), Echo()
    theirs_needs_email = authority_of(issuer="theirs")
    app = guarded(guarded(echo, theirs), mine)
    assert get(app, cookie=cookie_of(mine)).status_code == 200
    assert [counts(each, "requests") for each in (mine, theirs)] == [{("2", "accepted"): 1}] * 2
    assert get(guarded(guarded(echo, theirs_needs_email), mine), cookie=cookie_of(mine)).status_code == 401


def test_the_accessor_gives_no_session_of_another_authority() -> None:
    mine, theirs = authority_of(), authority_of()
    asked = []

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(theirs.session(Request(scope)))
        mine.session(Request(scope))

    app = guarded(guarded(both, theirs), mine)
    with pytest.raises(ConfigError, match="another authority"):
        get(app, cookie=cookie_of(mine))
    assert asked == [ADA]


def test_a_mounted_app_is_guarded_below_its_mount() -> None:
    authority, echo = authority_of(), Echo()
    app = Starlette(routes=[Mount("/api", guarded(echo, authority, public=["/health"]))])
    assert get(app, "/api/health").status_code == 200
    assert get(app, "/api/me").status_code == 401
    assert get(app, "/api/me", cookie=cookie_of(authority)).status_code == 200


# The page that says all this


def test_every_reason_stands_in_the_docs_with_its_status() -> None:
    page = (Path(__file__).parents[2] / "docs" / "refusals.md").read_text()
    told = re.findall(r"^\| `([a-z_]+)` \| (\d+) \|", page, re.MULTILINE)
    assert told == [(reason.value, str(reason.status)) for reason in Reason]


def test_every_setting_stands_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "frameworks.md").read_text()
    told = set(re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE))
    taken = set(JWTSessionMiddleware.__init__.__annotations__) - {"app", "authority", "return"}
    assert told == taken


def test_what_is_sent_before_the_response_starts_is_passed_on() -> None:
    async def hints(scope: Scope, receive: Receive, send: Send) -> None:
        message: Message = {"type": "http.response.early_hint", "links": []}
        await send(message)
        raise Refusal(Reason.SESSION_REVOKED)

    sent = Sent()
    asyncio.run(guarded(hints, authority_of(), public=["/"])(scope_of(), nothing, sent))
    assert sent.types == ["http.response.early_hint", "http.response.start", "http.response.body"]
