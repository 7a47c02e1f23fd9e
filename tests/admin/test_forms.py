"""POST bodies: JSON, or a form of this very session; and no other site can send one."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from starlette.exceptions import HTTPException
from starlette.requests import Request

from jwt_middleware import Envelope, Key, KeyRing
from jwt_middleware.admin.access import Visitor
from jwt_middleware.admin.forms import MAX_BODY, fields_of, form_token
from jwt_middleware.testing import old_token
from jwt_middleware.types import Carrier, RawToken, TokenInfo
from tests.support.administration import ADMIN, DEVICES, HTML, SAME_ORIGIN, Stage, Visit
from tests.support.asgi import scope_of
from tests.support.world import ROWLESS, SECRET, Session, authority_of, bearer, cookie_of

FORM, JSON = b"application/x-www-form-urlencoded", b"application/json"
HOUR = timedelta(hours=1)
POSTS = [f"{ADMIN}revoke-{target}" for target in ("session", "user", "all")]
POSTS += [f"{DEVICES}revoke-{target}" for target in ("session", "others")]
PRIVATE = generate_private_key(SECP256R1())
KEYS = {
    "secret": Key.hmac(SECRET),
    "key pair": Key.pem(PRIVATE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())),
    "public key": Key.pem(PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)),
}


ONE, ANOTHER = (f"6f1c7b52-0000-4000-8000-00000000000{digit}" for digit in "12")


def visitor(session_id: str = ONE, token: bytes = b"a.b.c", *, sid: bool = True) -> Visitor[Any]:
    """The session of a token, also of one without ``sid``."""
    info = TokenInfo(version=2, iat=None, exp=0.0, session_id=session_id if sid else None)
    raw = RawToken(token, Carrier.COOKIE)
    return Visitor(session=Session(user_id="1"), token=info, raw=raw, session_id=session_id, user_id="1")


async def read(
    kind: bytes, body: bytes | None, authority: Any = None, of: Visitor[Any] | None = None
) -> dict[str, str] | int:
    """The fields, or the status of the refusal. The body arrives in two parts; None: it does not arrive."""
    messages: list[Any] = [{"type": "http.disconnect"}]
    if body is not None:
        middle = len(body) // 2
        messages = [{"type": "http.request", "body": body[:middle], "more_body": True}]
        messages += [{"type": "http.request", "body": body[middle:]}]

    async def receive() -> Any:
        return messages.pop(0)

    request = Request(scope_of("/", method="POST", headers=[(b"content-type", kind)]), receive)
    try:
        return await fields_of(request, authority or authority_of(), of or visitor())
    except HTTPException as refused:
        return refused.status_code


class TestBody:
    async def test_json_is_an_object_of_strings_and_booleans(self) -> None:
        for body, fields in [
            ({}, {}),
            ({"user_id": "ü", "confirm": True}, {"user_id": "ü", "confirm": "yes"}),
            ({"confirm": False}, {"confirm": ""}),
        ]:
            assert await read(JSON, json.dumps(body).encode()) == fields, body
            assert await read(b"Application/JSON; charset=utf-8", json.dumps(body).encode()) == fields, body

    async def test_other_bodies_are_refused(self) -> None:
        for kind, body, status in [
            *((JSON, body, 400) for body in (b"", b"[]", b"null", b'"x"', b'{"user_id": 7}', b'{"user_id": null}')),
            *((JSON, body, 400) for body in (b"{", b"\xff", b"[" * 8_000, None)),
            *((kind, b" " * (MAX_BODY + 1), 413) for kind in (JSON, FORM)),
            *((kind, b'{"confirm": true}', 415) for kind in (b"", b"text/plain", b"text/plain, application/json")),
            (b"multipart/form-data; boundary=x", b'{"confirm": true}', 415),
            *((FORM, body, 400) for body in (b"a=%ff", b"a=\xff", b"&".join([b"a=1"] * 11))),
        ]:
            assert await read(kind, body) == status, kind

    @pytest.mark.parametrize("kind", [FORM, b"text/plain"])
    async def test_a_script_learns_what_it_must_send(self, kind: bytes) -> None:
        """A script that names no content type sends that of a form, as curl does."""
        headers = {"content-type": kind.decode()}
        visit = await Stage().visit()
        response = await visit.ask(f"{ADMIN}revoke-all", "POST", content=b'{"confirm": true}', headers=headers)
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json() == {
            "type": "about:blank",
            "title": "Unsupported Media Type",
            "status": 415,
            "detail": "Send the header Content-Type: application/json, or the form of the page.",
        }


class TestFormToken:
    @pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
    async def test_a_form_is_valid_for_its_session_in_every_worker(self, key: Key) -> None:
        one, another = authority_of(keys=KeyRing([key])), authority_of(keys=KeyRing([key]))
        body = f"user_id=7&form_token={form_token(one, visitor())}".encode()
        assert await read(FORM, body, another) == {"user_id": "7"}
        assert await read(FORM, body, another, visitor(ANOTHER, b"x.y.z")) == 403

    async def test_a_form_stays_valid_after_a_reissue_of_the_token(self) -> None:
        authority = authority_of()
        body = f"form_token={form_token(authority, visitor(token=b'before.the.reissue'))}".encode()
        assert await read(FORM, body, authority, visitor(token=b"after.the.reissue")) == {}

    async def test_the_page_that_sets_a_reissued_cookie_has_a_valid_form(self) -> None:
        stage = Stage(reissue=True)
        visit = await stage.visit()
        claims, auth_time = {"userId": "1", "role": "admin"}, stage.clock.now() - 0.001
        visit.token = old_token(stage.authority, claims, version=1, sid=visit.session_id, auth_time=auth_time)
        page = await visit.page(ADMIN)
        new = cookie_of(page.response)
        assert new not in (None, visit.token)
        visit.token = new
        assert (await visit.confirm(page, "Revoke all sessions of all users")).status == 200
        assert await stage.authority.active_users() == []

    @pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
    async def test_a_session_without_sid_has_forms_too(self, key: Key) -> None:
        authority, rowless = authority_of(keys=KeyRing([key])), visitor(sid=False)
        body = f"form_token={form_token(authority, rowless)}".encode()
        assert await read(FORM, body, authority, rowless) == {}
        assert await read(FORM, body, authority, visitor(ANOTHER, b"x.y.z", sid=False)) == 403

    async def test_the_form_of_a_session_without_sid_outlives_its_reissue(self) -> None:
        stage = Stage(reissue=True, also_accept=[ROWLESS])
        await stage.visit("8")
        visit = Visit(stage, old_token(stage.authority, {"userId": "1", "role": "admin"}, version=1, sid=None))
        page = await visit.page(ADMIN)
        new = cookie_of(page.response)
        assert new not in (None, visit.token)
        assert "sid" not in await stage.claims(new or "")
        visit.token = new
        assert (await visit.confirm(page, "Revoke all sessions of all users")).status == 200
        assert await stage.authority.active_users() == []

    @pytest.mark.parametrize("typ", [None, "JWT"])
    async def test_the_form_of_one_session_without_sid_is_invalid_for_another(self, typ: str | None) -> None:
        """Each session has an id, though neither token names one."""
        stage = Stage(also_accept=[ROWLESS, Envelope.foreign()])
        tokens = [old_token(stage.authority, {"userId": "1"}, age=age, typ=typ, sid=None) for age in (HOUR, 2 * HOUR)]
        one, another = (Visit(stage, token) for token in tokens)
        page, name = await one.page(DEVICES), "Log out on all other devices"
        assert page.form(name).fields["form_token"] == (await one.page(DEVICES)).form(name).fields["form_token"]
        assert page.form(name).fields["form_token"] != (await another.page(DEVICES)).form(name).fields["form_token"]
        assert (await another.send(page, page.form(name))).status == 403
        assert (await one.send(page, page.form(name))).status == 409

    @pytest.mark.parametrize("token", ["", "x", "%C3%BC", "AAAA", "%00", "a.b.c", ONE])
    @pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
    async def test_any_other_form_token_is_refused(self, token: str, key: Key) -> None:
        assert await read(FORM, f"form_token={token}".encode(), authority_of(keys=KeyRing([key]))) == 403

    async def test_a_form_token_is_no_signature_of_a_token_and_the_reverse(self) -> None:
        authority = authority_of()
        signature = form_token(authority, visitor()).rstrip("=")
        assert (await authority.authenticate(bearer(signature))).result == "refused"
        token = (await authority.issue(Session(user_id="1"))).token
        assert await read(FORM, f"form_token={token.rpartition('.')[2]}=".encode(), authority) == 403


class TestCrossSite:
    @pytest.mark.parametrize("path", POSTS)
    async def test_another_site_cannot_post(self, path: str) -> None:
        stage = Stage()
        visit, other = await stage.visit("1"), await stage.visit("1")
        own = (await visit.page(DEVICES)).form("Log out on all other devices").fields["form_token"]
        fields = {"session_id": other.session_id, "user_id": "1", "confirm": "yes"}
        cross_site = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
        attempts: list[dict[str, Any]] = [
            {"data": {**fields, "form_token": own}, "headers": cross_site},  # even with the valid form token
            {"json": {**fields, "confirm": True}, "headers": cross_site},
            {"data": fields, "headers": SAME_ORIGIN},  # the middleware accepts it, the form token is missing
            {"data": fields},
            {"data": {**fields, "form_token": "AAAA"}, "headers": SAME_ORIGIN},
        ]
        for attempt in attempts:
            assert (await visit.ask(path, "POST", accept=HTML, **attempt)).status_code == 403
        plain, content = {"content-type": "text/plain"}, json.dumps({**fields, "confirm": True})
        assert (await visit.ask(path, "POST", content=content, headers=plain)).status_code == 415
        assert len(await stage.authority.sessions_of("1")) == 2

    @pytest.mark.parametrize("path", POSTS)
    async def test_a_link_revokes_nothing(self, path: str) -> None:
        assert (await (await Stage().visit()).ask(f"{path}?confirm=yes&user_id=1")).status_code == 405

    async def test_the_form_of_one_session_is_invalid_for_another(self) -> None:
        stage = Stage()
        mine, theirs = await stage.visit("1"), await stage.visit("2")
        form = (await mine.page(ADMIN)).form("Revoke all sessions of all users")
        page = await theirs.page(ADMIN)
        assert form.fields["form_token"] != page.forms[-1].fields["form_token"]
        sent = await theirs.send(page, form)
        assert sent.status == 403
        assert "load it again" in sent.text

    @pytest.mark.parametrize("path", [ADMIN, f"{ADMIN}sessions?user_id=1", DEVICES])
    async def test_a_page_holds_no_token_of_a_session(self, path: str) -> None:
        stage = Stage()
        visit = await stage.visit(label="phone")
        (row,) = await stage.authority.sessions_of("1")
        assert visit.token is not None
        for shown in ((await visit.page(path)).source, (await visit.ask(path)).text):
            assert not any(part in shown for part in [*visit.token.split("."), row.session_token])
