"""What a refused request is told."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from jwt_middleware import ConfigError, Reason
from jwt_middleware.asgi.responses import Refusals


def answered(refusals: Refusals, reason: Reason, *, vary: bytes | None = None, **scope: Any) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("a refusal reads nothing")

    asyncio.run(refusals.answer(reason, vary, {"type": "http", **scope}, receive, send))
    return sent


@pytest.mark.parametrize("reason", list(Reason))
def test_a_body_depends_on_the_status_alone(reason: Reason) -> None:
    start, body = answered(Refusals(None), reason)
    other = {401: Reason.TOKEN_MISSING, 403: Reason.CROSS_SITE, 503: Reason.KEYS_UNAVAILABLE}[reason.status]
    assert start["status"] == reason.status
    assert body["body"] == answered(Refusals(None), other)[1]["body"]
    assert json.loads(body["body"])["status"] == reason.status
    assert reason.value.encode() not in body["body"] + repr(start).encode()


def test_a_401_asks_for_a_bearer_token_and_is_never_cached() -> None:
    start, body = answered(Refusals(None), Reason.TOKEN_EXPIRED, vary=b"Authorization")
    assert dict(start["headers"]) == {
        b"content-type": b"application/problem+json",
        b"content-length": str(len(body["body"])).encode(),
        b"cache-control": b"no-store",
        b"vary": b"Authorization",
        b"www-authenticate": b'Bearer error="invalid_token"',
    }
    assert json.loads(body["body"]) == {"type": "about:blank", "title": "Unauthorized", "status": 401}


def test_no_error_code_is_given_to_who_showed_no_token() -> None:
    start, _ = answered(Refusals(None), Reason.TOKEN_MISSING)
    assert (b"www-authenticate", b"Bearer") in start["headers"]


def test_a_503_says_when_to_come_back_and_a_403_does_not() -> None:
    assert (b"retry-after", b"1") in answered(Refusals(None), Reason.SESSIONS_UNAVAILABLE)[0]["headers"]
    names = [name for name, _ in answered(Refusals(None), Reason.CROSS_SITE)[0]["headers"]]
    assert b"retry-after" not in names
    assert b"www-authenticate" not in names


def test_only_a_401_tells_where_to_log_in() -> None:
    refusals = Refusals("/login")
    assert json.loads(answered(refusals, Reason.TOKEN_MISSING)[1]["body"])["login"] == "/login"
    assert "login" not in json.loads(answered(refusals, Reason.CROSS_SITE)[1]["body"])


def test_a_websocket_is_denied_with_the_same_response_where_the_server_can() -> None:
    start, body = answered(
        Refusals(None), Reason.TOKEN_MISSING, type="websocket", extensions={"websocket.http.response": {}}
    )
    assert start["type"] == "websocket.http.response.start"
    assert body == {
        "type": "websocket.http.response.body",
        "body": answered(Refusals(None), Reason.TOKEN_MISSING)[1]["body"],
    }


@pytest.mark.parametrize(
    ("reason", "code"), [(Reason.TOKEN_MISSING, 1008), (Reason.CROSS_SITE, 1008), (Reason.KEYS_UNAVAILABLE, 1013)]
)
def test_a_websocket_is_closed_where_the_server_cannot(reason: Reason, code: int) -> None:
    assert answered(Refusals(None), reason, type="websocket") == [
        {"type": "websocket.close", "code": code, "reason": ""}
    ]


@pytest.mark.parametrize(("login", "location"), [("/login", b"/login"), (None, b"/")])
def test_a_navigation_is_sent_to_the_log_in_page(login: str | None, location: bytes) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Refusals(login).redirect(b"Cookie", send))
    assert sent[0]["status"] == 303
    assert dict(sent[0]["headers"]) == {
        b"location": location,
        b"content-length": b"0",
        b"cache-control": b"no-store",
        b"vary": b"Cookie",
    }
    assert sent[1] == {"type": "http.response.body", "body": b""}


@pytest.mark.parametrize("login", ["", "login", "//evil.example", "/\\evil.example", "/lög in", "/a\r\nSet-Cookie: b"])
def test_a_log_in_page_that_is_no_path_of_this_host_fails_at_once(login: str) -> None:
    with pytest.raises(ConfigError, match="Location"):
        Refusals(login)
