"""What may be posted: JSON, or a form of the very session; from nowhere else."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from starlette.exceptions import HTTPException
from starlette.requests import Request

from jwt_middleware import Key, KeyRing, source
from jwt_middleware.admin.access import Visitor
from jwt_middleware.admin.forms import LARGEST_BODY, fields_of, form_token
from jwt_middleware.testing import old_token
from jwt_middleware.types import Carrier, RawToken, TokenInfo
from tests.support.administration import ADMIN, DEVICES, HTML, Stage, Visit
from tests.support.asgi import scope_of
from tests.support.world import SECRET, Session, authority_of

FORM = b"application/x-www-form-urlencoded"
JSON = b"application/json"


def visitor(session_id: str | None = "6f1c7b52-0000-4000-8000-000000000001", token: bytes = b"a.b.c") -> Visitor[Any]:
    info = TokenInfo(version=2, iat=None, exp=0.0, session_id=session_id)
    raw = RawToken(token, Carrier.COOKIE)
    return Visitor(session=Session(user_id="1"), token=info, raw=raw, user_id="1")


def read(kind: bytes, body: bytes, authority: Any = None, who: Visitor[Any] | None = None) -> dict[str, str]:
    """The fields; the body comes in two pieces."""
    pieces = [body[: len(body) // 2], body[len(body) // 2 :]]

    async def receive() -> Any:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    request = Request(scope_of("/", method="POST", headers=[(b"content-type", kind)]), receive)
    return asyncio.run(fields_of(request, authority or authority_of(), who or visitor()))


def refused(kind: bytes, body: bytes) -> int:
    with pytest.raises(HTTPException) as raised:
        read(kind, body)
    return raised.value.status_code


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {}),
        ({"user_id": "ü", "confirm": True}, {"user_id": "ü", "confirm": "yes"}),
        ({"confirm": False}, {"confirm": ""}),
    ],
)
def test_json_is_an_object_of_strings_and_booleans(body: Any, fields: dict[str, str]) -> None:
    assert read(JSON, json.dumps(body).encode()) == fields
    assert read(b"Application/JSON; charset=utf-8", json.dumps(body).encode()) == fields


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b'"x"', b'{"user_id": 7}', b'{"user_id": null}', b"{", b"\xff", b"[" * 8_000]
)
def test_other_json_is_refused(body: bytes) -> None:
    assert refused(JSON, body) == 400


@pytest.mark.parametrize("kind", [JSON, FORM])
def test_a_body_has_a_limit(kind: bytes) -> None:
    assert refused(kind, b" " * (LARGEST_BODY + 1)) == 413


@pytest.mark.parametrize(
    "kind", [b"", b"text/plain", b"multipart/form-data; boundary=x", b"text/plain, application/json"]
)
def test_other_content_types_are_refused(kind: bytes) -> None:
    assert refused(kind, b'{"confirm": true}') == 415


@pytest.mark.parametrize("body", [b"a=%ff", b"a=\xff", b"&".join([b"a=1"] * 11)])
def test_what_is_no_form_is_refused(body: bytes) -> None:
    assert refused(FORM, body) == 400


async def test_a_body_that_does_not_arrive_is_refused() -> None:
    async def receive() -> Any:
        return {"type": "http.disconnect"}

    request = Request(scope_of("/", method="POST", headers=[(b"content-type", JSON)]), receive)
    with pytest.raises(HTTPException) as raised:
        await fields_of(request, authority_of(), visitor())
    assert raised.value.status_code == 400


def elliptic() -> tuple[Key, Key]:
    """A key that signs, and the half of it that verifies."""
    private = generate_private_key(SECP256R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return Key.pem(pem), Key.pem(public)


@pytest.mark.parametrize("kind", [FORM, b"text/plain"])
async def test_what_a_script_must_send_is_said_to_it(kind: bytes) -> None:
    """A script that names no content type sends a form's, as curl does."""

    visit = await Stage().log_in()
    response = await visit.ask(
        f"{ADMIN}revoke-all", "POST", content=b'{"confirm": true}', headers={"content-type": kind.decode()}
    )
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json() == {
        "type": "about:blank",
        "title": "Unsupported Media Type",
        "status": 415,
        "detail": "Send the header Content-Type: application/json, or the form of the page.",
    }


@pytest.mark.parametrize("kind", ["secret", "key pair", "public key"])
def test_a_form_is_good_for_its_session_in_every_worker(kind: str) -> None:
    pair, public = elliptic()
    key = {"secret": Key.hmac(SECRET), "key pair": pair, "public key": public}[kind]
    one, another = authority_of(keys=KeyRing([key])), authority_of(keys=KeyRing([key]))
    good = f"user_id=7&form_token={form_token(one, visitor())}".encode()
    assert read(FORM, good, another) == {"user_id": "7"}
    other = visitor("6f1c7b52-0000-4000-8000-000000000002", b"x.y.z")
    with pytest.raises(HTTPException) as raised:
        read(FORM, good, another, other)
    assert raised.value.status_code == 403


def test_a_form_outlives_a_reissue() -> None:
    """The token changes and the session does not."""
    authority = authority_of()
    body = f"form_token={form_token(authority, visitor(token=b'before.the.reissue'))}".encode()
    assert read(FORM, body, authority, visitor(token=b"after.the.reissue")) == {}


async def test_the_page_that_brings_the_reissued_cookie_has_a_form_that_works() -> None:
    @source("email")
    async def emails(keys: Any) -> Any:
        return {key: {"email": "a@b.c"} for key in keys}

    stage = Stage(sources=[emails], reissue=True)
    visit = await stage.log_in()
    claims, began = {"userId": "1", "role": "admin"}, stage.clock.now() - 0.001
    visit.token = old_token(stage.authority, claims, version=1, sid=visit.session_id, auth_time=began)
    page = await visit.page(ADMIN)
    name, _, value = page.headers["set-cookie"].partition(";")[0].partition("=")
    assert name == stage.authority.cookie.name
    assert value != visit.token
    visit.token = value
    question = await visit.send(page, page.form("Revoke all sessions of everybody"))
    assert question.status == 200
    assert (await visit.send(question, question.form("Yes, revoke"))).status == 200
    assert await stage.authority.active_users() == []


def test_a_session_of_before_this_package_has_forms_too() -> None:
    authority, adopted = authority_of(), visitor(None)
    body = f"form_token={form_token(authority, adopted)}".encode()
    assert read(FORM, body, authority, adopted) == {}
    with pytest.raises(HTTPException):
        read(FORM, body, authority, visitor(None, b"x.y.z"))


@pytest.mark.parametrize("token", ["", "x", "ü", "AAAA", "%00", "a.b.c", "6f1c7b52-0000-4000-8000-000000000001"])
def test_no_other_token_will_do(token: str) -> None:
    for keys in (KeyRing([Key.hmac(SECRET)]), KeyRing([elliptic()[0]]), KeyRing([elliptic()[1]])):
        with pytest.raises(HTTPException) as raised:
            read(
                FORM,
                f"form_token={token}".encode() if token.isascii() else b"form_token=%C3%BC",
                authority_of(keys=keys),
            )
        assert raised.value.status_code == 403


def test_what_signs_a_form_signs_no_token() -> None:
    """And the other way round: a form's token is the signature of what begins like no JWS."""
    authority = authority_of()
    given = form_token(authority, visitor())
    headers = [(b"authorization", b"Bearer " + given.rstrip("=").encode())]
    assert asyncio.run(authority.authenticate(headers)).result == "refused"
    token = asyncio.run(authority.issue(Session(user_id="1"))).token
    with pytest.raises(HTTPException):
        read(FORM, f"form_token={token.rpartition('.')[2]}=".encode(), authority)


POSTS = [
    f"{ADMIN}revoke-session",
    f"{ADMIN}revoke-user",
    f"{ADMIN}revoke-all",
    f"{DEVICES}revoke-session",
    f"{DEVICES}revoke-others",
]


@pytest.mark.parametrize("path", POSTS)
async def test_another_site_cannot_post(path: str) -> None:
    stage = Stage()
    visit, other = await stage.log_in("1"), await stage.log_in("1")
    own = (await visit.page(DEVICES)).form("Log out on all other devices").fields["form_token"]
    fields = {"session_id": other.session_id, "user_id": "1", "confirm": "yes"}
    theirs = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    ours = {"origin": "https://testserver", "sec-fetch-site": "same-origin"}
    attempts: list[dict[str, Any]] = [
        {"data": {**fields, "form_token": own}, "headers": theirs},  # even with the form's own token
        {"json": {**fields, "confirm": True}, "headers": theirs},
        {"data": fields, "headers": ours},  # the guard passed, the token is missing
        {"data": fields},
        {"data": {**fields, "form_token": "AAAA"}, "headers": ours},
    ]
    for attempt in attempts:
        assert (await visit.ask(path, "POST", accept=HTML, **attempt)).status_code == 403
    disguised: dict[str, Any] = {
        "content": json.dumps({**fields, "confirm": True}),
        "headers": {"content-type": "text/plain"},
    }
    assert (await visit.ask(path, "POST", **disguised)).status_code == 415
    assert len(await stage.authority.sessions_of("1")) == 2


@pytest.mark.parametrize("path", POSTS)
async def test_nothing_is_revoked_by_a_link(path: str) -> None:
    visit = await Stage().log_in()
    assert (await visit.ask(f"{path}?confirm=yes&user_id=1")).status_code == 405


async def test_the_form_of_one_session_is_not_anothers() -> None:
    stage = Stage()
    mine, theirs = await stage.log_in("1"), await stage.log_in("2")
    form = (await mine.page(ADMIN)).form("Revoke all sessions of everybody")
    page = await theirs.page(ADMIN)
    assert form.fields["form_token"] != page.forms[-1].fields["form_token"]
    sent = await theirs.send(page, form)
    assert sent.status == 403
    assert "load it again" in sent.text


async def test_a_page_holds_no_token_of_a_session() -> None:
    stage = Stage()
    visit: Visit = await stage.log_in(label="phone")
    for path in (ADMIN, f"{ADMIN}sessions?user_id=1", DEVICES):
        for shown in ((await visit.page(path)).source, (await visit.ask(path)).text):
            assert visit.token is not None
            assert not any(part in shown for part in visit.token.split("."))
            (row,) = await stage.authority.sessions_of("1")
            assert row.session_token not in shown
